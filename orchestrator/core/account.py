"""What a run's events say of its moves, of the latency beside them and of the verification. Times since its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.core.events import Event, LatencySeen, MoveEnded, MoveStarted, TableCompared, Verified


@dataclass(frozen=True, slots=True)
class MoveReport:
    """One move. `at` and `seconds` as far as they were seen: looks at a job of Citus are up to 2 s apart."""

    shard_id: int
    name: str
    source: int
    target: int
    bytes: int | None
    mode: str
    way: str
    at: float
    seconds: float
    outcome: Literal["done", "failed", "unfinished"]
    write_pause_seconds: float | None = None
    compared: tuple[TableCompared, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """One look of the probe, and what the run made of it: going, slowed or paused."""

    at: float
    milliseconds: float
    state: str


def fold_moves(events: Sequence[tuple[float, Event]], end: float) -> tuple[MoveReport, ...]:
    """In the order in which they began; one that never ended is unfinished at `end`."""
    moves: list[MoveReport] = []
    running: dict[int, tuple[float, MoveStarted]] = {}
    for at, event in events:
        if isinstance(event, MoveStarted):
            running[event.shard_id] = at, event
        elif isinstance(event, MoveEnded) and event.shard_id in running:
            seen, started = running.pop(event.shard_id)
            began = max(0.0, min(seen, at - event.seconds))
            moves.append(_move(started, began, event.seconds, event.outcome, event.write_pause_seconds, event.compared))
    moves += [_move(started, at, end - at, "unfinished") for at, started in running.values()]
    return tuple(sorted(moves, key=lambda move: move.at))


def _move(
    started: MoveStarted,
    at: float,
    seconds: float,
    outcome: Literal["done", "failed", "unfinished"],
    pause: float | None = None,
    compared: tuple[TableCompared, ...] = (),
) -> MoveReport:
    what = started.shard_id, started.name, started.source, started.target, started.bytes, started.mode, started.way
    return MoveReport(*what, at, seconds, outcome, pause, compared)


def fold_latency(events: Sequence[tuple[float, Event]]) -> tuple[Latency, ...]:
    return tuple(Latency(at, seen.milliseconds, seen.state) for at, seen in events if isinstance(seen, LatencySeen))


def fold_verified(events: Sequence[tuple[float, Event]]) -> tuple[Verified, ...]:
    return tuple(event for _, event in events if isinstance(event, Verified))


def move_json(move: MoveReport) -> dict[str, Any]:
    pause = move.write_pause_seconds
    return {
        "shard_id": move.shard_id,
        "name": move.name,
        "source": move.source,
        "target": move.target,
        "bytes": move.bytes,
        "mode": move.mode,
        "way": move.way,
        "at": round(move.at, 3),
        "seconds": round(move.seconds, 3),
        "outcome": move.outcome,
        "write_pause_seconds": None if pause is None else round(pause, 3),
        "compared": [{"table": found.table, "rows": found.rows, "checksum": found.checksum} for found in move.compared],
    }


def latency_json(seen: Latency) -> dict[str, Any]:
    return {"at": round(seen.at, 3), "milliseconds": round(seen.milliseconds, 2), "state": seen.state}


def verified_json(found: Verified) -> dict[str, Any]:
    return {
        "mode": found.mode,
        "schemas": found.schemas,
        "tables": found.tables,
        "rows": found.rows,
        "seconds": round(found.seconds, 3),
        "problems": list(found.problems),
        "note": found.note,
    }
