"""Rates from counters: between two readings, or since the server's statistics began. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.core.advice.facts import Load, Table

# Growth is only extrapolated over months from a span that has a working day's ups and downs in it.
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Counters:
    """At `at` (seconds of the server's clock). `since`, `wal_since`: when counting began; None is unknown.

    `wal_position` grows with every byte of WAL, `wal_bytes` is what the statistics have counted.
    """

    at: float
    commits: int
    rows_written: int
    bytes: int
    wal_position: int | None = None
    wal_bytes: int | None = None
    since: float | None = None
    wal_since: float | None = None


def between(first: Counters, second: Counters, load: Load) -> Load:
    """The load as two readings saw it."""
    seconds = max(second.at - first.at, 1e-3)
    wal = None
    if first.wal_position is not None and second.wal_position is not None:
        wal = (second.wal_position - first.wal_position) / seconds
    growth = (second.bytes - first.bytes) / seconds if seconds >= DAY else load.growth_bytes
    return replace(
        load,
        seconds=seconds,
        commits=(second.commits - first.commits) / seconds,
        rows_written=(second.rows_written - first.rows_written) / seconds,
        wal_bytes=wal,
        growth_bytes=growth,
        how=f"two readings {seconds:.0f} s apart",
    )


def since_start(now: Counters, tables: Sequence[Table], load: Load) -> Load:
    """The load on average since statistics began: peaks are higher."""
    begun = now.since if now.since is not None else now.wal_since
    if begun is None or now.at <= begun:
        return load
    seconds = now.at - begun
    wal_seconds = now.at - now.wal_since if now.wal_since is not None else 0.0
    grown = sum(table.grown * table.bytes / table.rows for table in tables if table.rows)
    return replace(
        load,
        seconds=seconds,
        commits=now.commits / seconds,
        rows_written=now.rows_written / seconds,
        wal_bytes=now.wal_bytes / wal_seconds if now.wal_bytes is not None and wal_seconds > 0 else None,
        growth_bytes=max(grown, 0.0) / seconds if seconds >= DAY else None,
        how=f"on average over the {_span(seconds)} since statistics began; peaks are higher",
    )


def _span(seconds: float) -> str:
    if seconds >= DAY:
        return f"{seconds / DAY:.1f} days"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
