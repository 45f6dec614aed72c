"""What a benchmark with rising clients has shown: where throughput stops rising, and what was used up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Saturated = Literal["cpu", "wal", "locks", "client", "none", "unknown"]
# Twice in a row less than this more throughput for twice the clients: it does not rise any more.
GAIN = 0.1
# From this share of the vCores on nothing is left of them; the driver's is that of one core, for it is one process.
CPU_FULL = 0.85
# From this share of the looks at sessions at work on, what they wait for is what holds them up.
WAITS = 0.3
_WAL_WAITS = (
    "IO:WALSync",
    "IO:WalSync",
    "IO:WALWrite",
    "IO:WalWrite",
    "LWLock:WALWrite",
    "LWLock:WALInsert",
    "IPC:SyncRep",
)
# More than this share of failed transactions is no measurement of the others.
ERRORS = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """So many clients for so many seconds. Latencies in seconds. `cpu` (the server's) and `driver` are shares.

    `waits`: how often a session at work was seen waiting for what, `CPU` for nothing.
    """

    clients: int
    seconds: float
    transactions: int
    errors: Mapping[str, int] = field(default_factory=dict)
    median: float | None = None
    p95: float | None = None
    wal_bytes: int | None = None
    cpu: float | None = None
    driver: float | None = None
    waits: Mapping[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.transactions / self.seconds if self.seconds else 0.0

    @property
    def wal_rate(self) -> float | None:
        return None if self.wal_bytes is None or not self.seconds else self.wal_bytes / self.seconds

    @property
    def failed(self) -> float:
        """Share of the transactions."""
        wrong = sum(self.errors.values())
        return wrong / (wrong + self.transactions) if wrong else 0.0

    def waiting(self, kinds: Sequence[str]) -> float:
        """Share of the looks, by the beginning of the wait's name."""
        whole = sum(self.waits.values())
        found = sum(count for name, count in self.waits.items() if name.startswith(tuple(kinds)))
        return found / whole if whole else 0.0


def flat(steps: Sequence[Step]) -> bool:
    """The throughput has stopped rising."""
    if len(steps) < 3:
        return False
    before = max(step.rate for step in steps[:-2])
    return max(step.rate for step in steps[-2:]) < before * (1 + GAIN)


def best(steps: Sequence[Step]) -> Step:
    return max(steps, key=lambda step: step.rate)


def knee(steps: Sequence[Step]) -> Step:
    """The fewest clients that come within the gain of the most throughput."""
    most = best(steps).rate
    return next(step for step in steps if step.rate >= most / (1 + GAIN))


def saturated(steps: Sequence[Step]) -> Saturated:
    """What was used up where the throughput stopped rising. The driver first: what it limits says nothing else."""
    last = max(steps, key=lambda step: step.clients)
    if not flat(steps):
        return "none"
    if (last.driver or 0) >= CPU_FULL:
        return "client"
    if last.waiting(("Lock:",)) >= WAITS:
        return "locks"
    if last.waiting(_WAL_WAITS) >= WAITS:
        return "wal"
    # On Azure only the best step has it: that is the one which was held.
    if max(last.cpu or 0, best(steps).cpu or 0) >= CPU_FULL:
        return "cpu"
    return "unknown"


_SAID: dict[Saturated, str] = {
    "cpu": "The server's processor saturates: with more clients there is no more throughput.",
    "wal": "Writing the WAL saturates: sessions at work wait for it more than for anything else that counts.",
    "locks": "Locks hold the sessions up: the statements change the same rows. More hardware, one server or many, "
    "does not help; change them, or give more different rows.",
    "client": "This command itself was the limit: its process used up a core. The server can do more; run it on a "
    "faster machine, or several of it.",
    "none": "The throughput was still rising with the most clients, so nothing is saturated. Allow more with "
    "--max-clients.",
    "unknown": "The throughput has stopped rising, and neither CPU, WAL nor locks explain it: the network, the disk's "
    "reads or memory may; or the server's CPU cannot be seen from here.",
}


def verdict(steps: Sequence[Step]) -> tuple[str, ...]:
    """What to tell people."""
    what, at = saturated(steps), knee(steps)
    most = best(steps)
    said = [
        _SAID[what],
        f"The knee is at {at.clients} client{'' if at.clients == 1 else 's'} with {at.rate:,.0f} transactions/s; "
        f"the most were {most.rate:,.0f} with {most.clients}.",
    ]
    if what in ("cpu", "wal"):
        said.append(
            "On the largest compute size under the expected peak this is the signal for a cluster: answer "
            f"peak.saturated: {what}. On a smaller one, try the largest first."
        )
    if most.failed > ERRORS:
        said.append(
            f"{100 * most.failed:.0f} % of the transactions failed: this measures something else than your load."
        )
    return tuple(said)


def bench_json(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "saturated": saturated(steps),
        "knee": knee(steps).clients,
        "transactionsPerSecond": best(steps).rate,
        "said": list(verdict(steps)),
        "steps": [
            asdict(step) | {"transactionsPerSecond": step.rate, "walBytesPerSecond": step.wal_rate} for step in steps
        ],
    }
