"""The runs that moved shards, in the schema `orchestrator`: what each moved, how it ended, and whether it is to stop.

Plain local tables of the coordinator. A request to stop is a mark on the run's row, so it reaches the run from any
machine; the run looks at it about once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import class_row

from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.errors import Refused
from orchestrator.core.moves.runs import RecordedMove, RecordedRun

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS orchestrator.run (
        run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        way text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        outcome text,
        stop_requested boolean NOT NULL DEFAULT false
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS orchestrator.run_move (
        run_id bigint NOT NULL REFERENCES orchestrator.run,
        position int NOT NULL,
        shard_id bigint NOT NULL,
        source int NOT NULL,
        target int NOT NULL,
        name text NOT NULL,
        PRIMARY KEY (run_id, shard_id)
    )
    """,
)
_THERE = "SELECT to_regclass('orchestrator.run_move') IS NOT NULL"
# A group that moves twice in one run goes back to where it was before the first move.
_ADD = """
    INSERT INTO orchestrator.run_move (run_id, position, shard_id, source, target, name)
    VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (run_id, shard_id) DO UPDATE SET target = excluded.target
"""
_RUNS = """
    SELECT run_id, started_at, finished_at, outcome, way, count(shard_id)::int AS moves
    FROM orchestrator.run LEFT JOIN orchestrator.run_move USING (run_id)
    GROUP BY run_id ORDER BY run_id DESC LIMIT 50
"""
_MOVES = "SELECT shard_id, source, target, name FROM orchestrator.run_move WHERE run_id = %s ORDER BY position"


class UnknownRun(Refused):
    def __init__(self, run_id: int) -> None:
        super().__init__(f"There is no run {run_id} on this cluster. Nothing was changed. See `orchestrator runs`.")


class RunRecord:
    """The record of the run that this process makes, and of those before it. On the administrator's connection."""

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]]) -> None:
        self._current = connection
        self._run_id: int | None = None

    def add(self, way: str, moves: Sequence[RecordedMove]) -> int:
        """Before they are made. The first call begins the run; answers its number."""
        connection = self._current()
        with translated("record the moves of the run"), connection.transaction():
            self._ensure(connection)
            if self._run_id is None:
                # Only one run at a time: those that never ended were killed.
                connection.execute(
                    "UPDATE orchestrator.run SET finished_at = clock_timestamp(), outcome = 'killed' "
                    "WHERE finished_at IS NULL"
                )
                row = connection.execute("INSERT INTO orchestrator.run (way) VALUES (%s) RETURNING run_id", (way,))
                (self._run_id,) = row.fetchone() or (None,)
            connection.execute(
                "UPDATE orchestrator.run SET finished_at = NULL, outcome = NULL WHERE run_id = %s", (self._run_id,)
            )
            known = connection.execute(
                "SELECT count(*)::int FROM orchestrator.run_move WHERE run_id = %s", (self._run_id,)
            ).fetchone()
            first = known[0] if known else 0
            rows = [(self._run_id, first + i, m.shard_id, m.source, m.target, m.name) for i, m in enumerate(moves)]
            connection.cursor().executemany(_ADD, rows)
        return int(self._run_id or 0)

    def end(self, outcome: str) -> None:
        with translated("record how the run ended"):
            self._current().execute(
                "UPDATE orchestrator.run SET finished_at = clock_timestamp(), outcome = %s WHERE run_id = %s",
                (outcome, self._run_id),
            )

    def stop_requested(self) -> bool:
        with translated("look whether the run is to stop"):
            row = self._current().execute(
                "SELECT stop_requested FROM orchestrator.run WHERE run_id = %s", (self._run_id,)
            )
            found = row.fetchone()
        return bool(found and found[0])

    def request_stop(self) -> int | None:
        """Ask the run that is not over to stop; None when there is none."""
        connection = self._current()
        with translated("ask the run to stop"):
            if not self._there(connection):
                return None
            row = connection.execute(
                "UPDATE orchestrator.run SET stop_requested = true WHERE run_id = ("
                "SELECT max(run_id) FROM orchestrator.run WHERE finished_at IS NULL) RETURNING run_id"
            ).fetchone()
        return int(row[0]) if row else None

    def runs(self) -> tuple[RecordedRun, ...]:
        """The latest first."""
        connection = self._current()
        with translated("read the runs"), connection.cursor(row_factory=class_row(RecordedRun)) as cursor:
            return tuple(cursor.execute(_RUNS).fetchall()) if self._there(connection) else ()

    def moves(self, run_id: int) -> tuple[RecordedMove, ...]:
        """Raises UnknownRun."""
        connection = self._current()
        with translated("read the moves of the run"), connection.cursor(row_factory=class_row(RecordedMove)) as cursor:
            there = (
                self._there(connection)
                and connection.execute("SELECT FROM orchestrator.run WHERE run_id = %s", (run_id,)).fetchone()
            )
            if there is None or there is False:
                raise UnknownRun(run_id)
            return tuple(cursor.execute(_MOVES, (run_id,)).fetchall())

    def _there(self, connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute(_THERE).fetchone()
        return bool(row and row[0])

    def _ensure(self, connection: psycopg.Connection[Any]) -> None:
        if not self._there(connection):
            ensure_bookkeeping(connection)
            for statement in _TABLES:
                connection.execute(statement)
