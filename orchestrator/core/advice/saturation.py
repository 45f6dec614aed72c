"""What was used up where a benchmark's throughput stopped rising, in which order that is looked for, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from orchestrator.core.advice.bench import Step, best, flat, knee, rising

Saturated = Literal["cpu", "wal", "disk", "locks", "connections", "client", "none", "unknown"]
# From this share of the vCores on nothing is left of them; the driver's is that of one core, for it is one process.
CPU_FULL = 0.85
# From this share of the clients on, what they were seen waiting for is what holds them up.
WAITS = 0.3
# From this share of the clients on the server is not what they wait for.
_IDLE = 0.7
# More than this share of failed transactions is no measurement of the others.
ERRORS = 0.1
# From these shares of the vCores on it is worth saying that this command, or other programs, took them.
_BESIDE = 0.05
_OTHERS = 0.2

_LOCKS = ("lock:",)
_STANDBY = ("ipc:syncrep",)
_WAL = ("io:wal", "lwlock:wal", *_STANDBY)
# From PostgreSQL 18 on reads are waited for as AioIoCompletion; BufferIO is another session's read of the same page.
_DISK = ("io:datafile", "io:aioio", "io:buffile", "io:slru", "ipc:bufferio")


def saturated(steps: Sequence[Step]) -> Saturated:
    """The driver first: what it limits says nothing else. Then locks, which hold up whatever the machine has left.

    The processor before WAL and disk: while it is full, sessions that waited for these wait on for a turn on it, and
    are still seen waiting; while it is not, they are what holds the throughput up. A session whose turn on a full
    processor has not come looks idle, so that idle ones are counted last.
    """
    last = max(steps, key=lambda step: step.clients)
    if not flat(steps):
        if _processor_full(last) and (last.driver or 0) < CPU_FULL:
            return "cpu"
        return "connections" if last.full else "none"
    if (last.driver or 0) >= CPU_FULL:
        return "client"
    if last.waiting(_LOCKS) >= WAITS:
        return "locks"
    # On Azure only the best step has a value: that is the one which was held.
    if _processor_full(last) or _processor_full(best(steps)):
        return "cpu"
    if max(last.waiting(_WAL), last.waiting(_DISK)) >= WAITS:
        return "wal" if last.waiting(_WAL) >= last.waiting(_DISK) else "disk"
    return "client" if last.idle >= _IDLE else "unknown"


def _processor_full(step: Step) -> bool:
    """Where others keep the machine busy, half of what is busy has to be the server's."""
    busy, server = step.cpu or 0.0, step.server
    if server is None:
        return busy >= CPU_FULL
    return server >= CPU_FULL or (busy >= CPU_FULL and server >= busy / 2)


_SAID: dict[Saturated, str] = {
    "cpu": "The server's processor saturates: with the most clients it is full.",
    "wal": "Writing the WAL saturates: sessions at work wait for it more than for anything else that counts.",
    "disk": "The disk's reads and writes of tables saturate: sessions at work wait for them. More memory, or a disk "
    "with more IOPS, comes before a cluster.",
    "client": "This command itself was the limit: its process used up a core. The server can do more; run it on a "
    "faster machine, or several of it.",
    "unknown": "The throughput has stopped rising, and neither CPU, WAL, the disk nor locks explain it: the network or "
    "something between here and the server may; or the server's CPU cannot be seen from here.",
}
_LOCKED = {
    "lock:relation": "they lock whole tables (LOCK TABLE, or DDL)",
    "lock:extend": "they make the same table longer, which goes one after the other; PostgreSQL 16 and newer does "
    "that in larger pieces",
    "lock:advisory": "they take the same advisory locks",
}


def verdict(steps: Sequence[Step]) -> tuple[str, ...]:
    """What to tell people."""
    what, at, most = saturated(steps), knee(steps), best(steps)
    last = max(steps, key=lambda step: step.clients)
    said = [
        _first(what, steps, last),
        f"The knee is at {at.clients} client{'' if at.clients == 1 else 's'} with {at.rate:,.0f} transactions/s; "
        f"the most were {most.rate:,.0f} with {most.clients}.",
        *_besides(what, last),
    ]
    if most.failed > ERRORS:
        said.append(
            f"{100 * most.failed:.0f} % of the transactions failed: this measures something else than your load."
        )
    return tuple(said)


def _first(what: Saturated, steps: Sequence[Step], last: Step) -> str:
    if what == "none":
        return f"{_grows(steps)} Nothing was seen to saturate: allow more with --max-clients.{_mostly(last)}"
    if what == "connections":
        return (
            f"The server takes no more connections: {last.clients} clients were the most. {_grows(steps)} Raise the "
            "limit of the server or the role, or end idle sessions; services share connections through a pooler."
        )
    if what == "locks":
        kind = max((name for name in last.waits if name.lower().startswith(_LOCKS)), key=last.waits.__getitem__)
        why = _LOCKED.get(kind.lower(), "they change the same rows")
        return (
            f"Locks hold the sessions up: {why}. More hardware, one server or many, does not help; change the "
            "statements, or give more different rows."
        )
    if what == "client" and (last.driver or 0) < CPU_FULL:
        return (
            f"The server waits for its clients: {100 * last.idle:.0f} % of them were not at work there at a time. This "
            "command gets too little of its machine's processors, or the network is slow; run it on another machine."
        )
    return _SAID[what] + (_mostly(last) if what == "unknown" else "")


def _grows(steps: Sequence[Step]) -> str:
    if rising(steps):
        return "The throughput was still rising with the most clients."
    if len(steps) < 3:
        return "With so few steps nobody can say where the throughput stops rising."
    return "Whether the throughput still rises cannot be said: the last step brought no more, the one before it did."


def _mostly(last: Step) -> str:
    """What sessions at work waited for, where that is something. A wait can rise with the throughput: commits share
    the flush of the WAL that all of them wait for.
    """
    if last.mostly in (None, "CPU"):
        return ""
    share = last.waiting(((last.mostly or "").lower(),))
    return f" Sessions wait mostly for {last.mostly} ({100 * share:.0f} %)."


def _besides(what: Saturated, last: Step) -> Iterator[str]:
    if what == "wal" and last.waiting(_STANDBY) >= last.waiting(_WAL) / 2:
        yield "What they wait for is the standby, which confirms each commit (synchronous replication)."
    if what == "cpu" and (last.own or 0) >= _BESIDE:
        yield (
            f"This command runs on the same machine and took {100 * (last.own or 0):.0f} % of its processor; from "
            "another machine the server would have had that too."
        )
    others = (last.cpu or 0) - (last.server or 0) - (last.own or 0)
    if last.server is not None and others >= _OTHERS:
        yield f"Other programs took {100 * others:.0f} % of this machine's processors: measure on a quiet one."
    if what in ("cpu", "wal"):
        yield (
            "On the largest compute size under the expected peak this is the signal for a cluster: answer "
            f"peak.saturated: {what}. On a smaller one, try the largest first."
        )


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
