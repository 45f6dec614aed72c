"""What a benchmark with rising clients has measured, and where its throughput stops rising. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Twice in a row less than this more throughput for twice the clients: it does not rise any more.
GAIN = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """So many clients for so many seconds. Latencies in seconds.

    `waits`: how often a session at work was seen waiting for what, `CPU` for nothing; `looks` is how often that was
    looked at. `cpu`, `server` and `own` are shares of the server's vCores: all that was busy, what the server's
    processes took, what this command took (the last two only on the machine of both). `driver` is this command's share
    of one core. `full`: the server refused the next client.
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
    server: float | None = None
    own: float | None = None
    looks: int = 0
    full: bool = False

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
        """Share of the clients, by the beginning of the wait's name in lower case: its spelling differs by version."""
        found = sum(count for name, count in self.waits.items() if name.lower().startswith(tuple(kinds)))
        return found / self._seen if self._seen else 0.0

    @property
    def idle(self) -> float:
        """Share of the clients for whom the server was not at work: it waited for them. 0 where nobody looked."""
        return 1 - sum(self.waits.values()) / self._seen if self.looks else 0.0

    @property
    def _seen(self) -> int:
        return max(sum(self.waits.values()), self.looks * self.clients)

    @property
    def mostly(self) -> str | None:
        """What most of them waited for."""
        return max(self.waits, key=lambda name: (self.waits[name], name)) if self.waits else None


def flat(steps: Sequence[Step]) -> bool:
    """The throughput has stopped rising."""
    if len(steps) < 3:
        return False
    before = max(step.rate for step in steps[:-2])
    return max(step.rate for step in steps[-2:]) < before * (1 + GAIN)


def rising(steps: Sequence[Step]) -> bool:
    """The last step brought more than all before."""
    return len(steps) > 1 and steps[-1].rate >= max(step.rate for step in steps[:-1]) * (1 + GAIN)


def best(steps: Sequence[Step]) -> Step:
    return max(steps, key=lambda step: step.rate)


def knee(steps: Sequence[Step]) -> Step:
    """The fewest clients that come within the gain of the most throughput."""
    most = best(steps).rate
    return next(step for step in steps if step.rate >= most / (1 + GAIN))
