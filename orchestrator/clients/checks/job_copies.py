"""Compares what Citus' own job moves: rows read on the source while they are copied, looked for on the target after it.

Nobody can look between the end of such a move and its commit, and the old copy is dropped within a moment. But what was
read on the source once the copy had begun has to be on the target, unless somebody changed it: and every change since
then was made on the target itself, by the catching up or by its users, where PostgreSQL counts updates and deletions.
Rows that are missing where nothing was counted, also not after the counters have had time to arrive, were lost. What
was changed meanwhile proves nothing, and counts as not compared: so there is no false alarm.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.moves.moving_sql import LEAF_SHARDS
from orchestrator.core.checks.verification import Finding
from orchestrator.core.errors import OrchestratorError

EVERY = 0.2
# Idle sessions report their counters at last after ten seconds (PGSTAT_IDLE_INTERVAL, since PostgreSQL 15).
SETTLE = 12.0
_MOVE = re.compile(r"citus_move_shard_placement\((\d+), ?(\d+), ?(\d+)")

_TASKS: LiteralString = """
    SELECT command, status::text FROM pg_catalog.pg_dist_background_task
    WHERE status IN ('running', 'done') AND job_id = (SELECT max(job_id) FROM pg_catalog.pg_dist_background_job)
"""
IN_FLIGHT: LiteralString = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_background_job WHERE state IN ('scheduled', 'running', 'failing'))
"""
_TABLES: LiteralString = (
    """
    SELECT pg_catalog.shard_name(shard.logicalrelid, shard.shardid), key.names, key.backwards, key.typed,
           format('%%s.%%s', space.nspname, class.relname)"""
    + LEAF_SHARDS
    + " JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace WHERE moved.shardid = %s"
)
_RUN: LiteralString = """
    SELECT answer.success, answer.result FROM pg_catalog.pg_dist_node node
    CROSS JOIN LATERAL master_run_on_worker(ARRAY[node.nodename::text], ARRAY[node.nodeport], ARRAY[%s], false) answer
    WHERE node.nodeid = %s
"""
# Columns by name and type: a table that was altered meanwhile reads differently without any row having been changed.
_COLUMNS = """(SELECT md5(string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum))
    FROM pg_catalog.pg_attribute WHERE attrelid = {table}::regclass AND attnum > 0 AND NOT attisdropped)"""
_BEGUN = sql.SQL("SELECT coalesce(pg_relation_size(to_regclass({table})), 0) > 0")
_SAMPLE = sql.SQL(
    "SELECT json_build_array("  # noqa: S608 - both parts are constants of this module
    + _COLUMNS
    + """, (SELECT coalesce(json_agg(found), '[]') FROM (
        SELECT {names}, md5(x::text) AS "_digest" FROM (
            (SELECT * FROM {name}
             TABLESAMPLE SYSTEM (least(100, 40 * 819200.0 / (1 + pg_relation_size({table}::regclass)))) LIMIT 1000)
            UNION ALL (SELECT * FROM {name} ORDER BY {backwards} LIMIT 200)) x) found))"""
)
_LOOK = sql.SQL(
    "SELECT json_build_array("  # noqa: S608 - both parts are constants of this module
    + _COLUMNS
    + """, (SELECT count(*) FROM json_to_recordset({rows}) AS w({typed}, "_digest" text)
            JOIN {name} x USING ({names}) WHERE md5(x::text) = w."_digest"),
        (SELECT pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
                + CASE WHEN relfilenode = oid AND current_setting('track_counts') = 'on' THEN 0 ELSE 1 END
         FROM pg_catalog.pg_class WHERE oid = {table}::regclass),
        extract(epoch FROM clock_timestamp() - (
            SELECT greatest(pg_postmaster_start_time(), stats_reset) FROM pg_catalog.pg_stat_database
            WHERE datname = current_database())))"""
)


@dataclass(frozen=True, slots=True)
class Move:
    """Of Citus' job; source and target are node ids."""

    shard_id: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a group that moves: the name of its shard, and its primary key in three forms, absent without one."""

    shard: str
    names: str | None
    backwards: str | None
    typed: str | None
    title: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read of a table on the source, and when."""

    move: Move
    table: Table
    columns: str
    rows: tuple[dict[str, Any], ...]
    at: float


class JobCopies:
    """Follows the job that is in flight, in a thread and on a connection of its own."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], settle: float = SETTLE) -> None:
        self._connect, self._settle = connect, settle
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._seen: set[Move] = set()
        self._taken: dict[Move, list[Taken]] = {}
        self._doubted: list[tuple[Taken, float]] = []
        self._counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.rows = 0

    def begin(self) -> None:
        self._thread.start()

    def end(self, moved: int) -> Finding:
        """`moved` is how many groups the job has moved. Waits for counters only where something is missing."""
        began = time.perf_counter()
        self._stop()
        with self._connect() as connection:
            for move in list(self._taken):
                self.compare(connection, move)
            if self._doubted:
                threading.Event().wait(max(0.0, self._doubted[-1][1] + self._settle - time.monotonic()))
                self.decide(connection)
        unread = max(0, moved - self._counts["groups"])
        reasons = (
            (self._counts["changed"], "tables were changed meanwhile"),
            (self._counts["keyless"], "tables have no primary key"),
            (self._counts["unreadable"], "tables could not be read"),
            (unread, "groups had moved before they could be read"),
        )
        without = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
        note = f"{self._counts['same']} tables of {self._counts['groups']} groups by a sample; not compared: "
        seconds = round(time.perf_counter() - began, 3)
        tables, schemas = self._counts["same"], self._counts["groups"]
        return Finding(
            "copies of the job", schemas, tables, self.rows, seconds, tuple(self.problems), note + (without or "none")
        )

    def close(self) -> None:
        self._stop()

    def take(self, connection: psycopg.Connection[Any], move: Move) -> None:
        """Read the source. Right only while nothing can be changed there that is not carried over."""
        taken = self._taken[move] = []
        self._counts["groups"] += 1
        for table in _tables(connection, move):
            if table.names is None:
                self._counts["keyless"] += 1
                continue
            answer = _asked(connection, move.source, _SAMPLE.format(**_parts(table)))
            if answer is None:
                self._counts["unreadable"] += 1
                continue
            columns, rows = answer
            taken.append(Taken(move, table, columns, tuple(rows), time.monotonic()))

    def compare(self, connection: psycopg.Connection[Any], move: Move) -> None:
        """Look for what was read on the target. What is missing there without a sign of a change is decided later."""
        for taken in self._taken.pop(move):
            missing = self._missing(connection, taken)
            if missing == 0:
                self._counts["same"] += 1
                self.rows += len(taken.rows)
            elif missing is not None:
                self._doubted.append((taken, time.monotonic()))

    def decide(self, connection: psycopg.Connection[Any]) -> None:
        """When the counters have arrived."""
        for taken, _ in self._doubted:
            missing = self._missing(connection, taken)
            if missing:
                self.problems.append(
                    f"{missing} of {len(taken.rows)} rows of {taken.table.title} (shard {taken.table.shard}) that were "
                    f"on node {taken.move.source} are not there or not the same on node {taken.move.target}, where "
                    "nothing was changed or deleted"
                )
            elif missing == 0:
                self._counts["same"] += 1
        self._doubted.clear()

    def _missing(self, connection: psycopg.Connection[Any], taken: Taken) -> int | None:
        """None where that proves nothing; it is counted as such."""
        look = _LOOK.format(**_parts(taken.table), rows=sql.Literal(json.dumps(taken.rows)))
        answer = _asked(connection, taken.move.target, look)
        if answer is None:
            self._counts["unreadable"] += 1
            return None
        columns, found, changes, since = answer
        missing = len(taken.rows) - int(found)
        counted = columns == taken.columns and changes == 0 and since > time.monotonic() - taken.at
        if missing and not counted:
            self._counts["changed"] += 1
            return None
        return missing

    def _stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _work(self) -> None:
        while not self._over.is_set():
            with suppress(psycopg.Error, OrchestratorError), self._connect() as connection:
                connection.execute("SELECT set_config('application_name', 'orchestrator probe', false)")
                while not self._over.wait(EVERY):
                    self._look(connection)
            self._over.wait(1.0)

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        for command, status in connection.execute(_TASKS).fetchall():
            found = _MOVE.search(command)
            if found is None:
                continue
            move = Move(*map(int, found.groups()))
            if move in self._taken:
                if status == "done":
                    self.compare(connection, move)
            elif status == "running" and move not in self._seen and _begun(connection, move):
                self._seen.add(move)
                self.take(connection, move)


def _begun(connection: psycopg.Connection[Any], move: Move) -> bool:
    """Whether rows have arrived: then the copy's snapshot is taken, or writers are held, whichever way it moves."""
    for table in _tables(connection, move):
        row = connection.execute(_RUN, (_text(connection, _BEGUN.format(**_parts(table))), move.target)).fetchone()
        if row is not None and row[0] and row[1] == "t":
            return True
    return False


def _tables(connection: psycopg.Connection[Any], move: Move) -> list[Table]:
    with translated("look what is moved"):
        return [Table(*row) for row in connection.execute(_TABLES, (move.shard_id,)).fetchall()]


def _parts(table: Table) -> dict[str, sql.Composable]:
    """Names are quoted by the server that they come from; as a literal they are looked up."""
    texts = {"name": table.shard, "names": table.names, "backwards": table.backwards, "typed": table.typed}
    return {key: sql.SQL(text or "") for key, text in texts.items()} | {"table": sql.Literal(table.shard)}


def _text(connection: psycopg.Connection[Any], statement: sql.Composable) -> str:
    return statement.as_string(connection)


def _asked(connection: psycopg.Connection[Any], node_id: int, statement: sql.Composable) -> list[Any] | None:
    """The one JSON array that a node answers with; None where it cannot."""
    with translated("compare what was moved"):
        row = connection.execute(_RUN, (_text(connection, statement), node_id)).fetchone()
    return list(json.loads(row[1])) if row is not None and row[0] else None
