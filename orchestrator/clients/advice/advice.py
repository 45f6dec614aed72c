"""Reads a running PostgreSQL for advice: in transactions that can only read, with a limit to how long each may take.

Works for any role that may connect; what it may not see is said, with what would let it. Needs no extension.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from orchestrator.clients.advice import advice_sql as text
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.advice.facts import Column, Common, Database, ForeignKey, Key, Load, Recorded, Table
from orchestrator.core.advice.rates import Counters
from orchestrator.core.errors import Refused

TIMEOUT = 60  # seconds for one statement
_WITH_STATISTICS = 200  # tables, the largest
_TOP = 500  # statements by calls, by time and by WAL
OLDEST = 140000  # server_version_num: pg_stat_wal came with it
HIDDEN = "<insufficient privilege>"


class TooOld(Refused):
    def __init__(self, database: str, version: str) -> None:
        super().__init__(
            f"{database} runs PostgreSQL {version}, which is too old to be read: 14 or newer is needed. Fill in "
            "`orchestrator advise --questionnaire` instead."
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """The database without its usages and rates, the statements to be parsed, and the counters."""

    database: Database
    recorded: tuple[Recorded, ...]
    counters: Counters
    standby: bool


class AdviceReader:
    """One connection, used for nothing else."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def read(self) -> Seen:
        with self._reading("Reading the database") as run:
            name, version, number, size, all_stats, standby, most, statements, citus = run(text.ABOUT)[0]
            if number < OLDEST:
                raise TooOld(name, version)
            unseen: list[str] = []
            tables = self._tables(run, unseen)
            if citus:
                unseen.append(
                    "Sizes and rows of tables that Citus has distributed already: only the coordinator's are."
                )
            load = self._sessions(run, all_stats, most, unseen)
        recorded = self._statements(statements, unseen)
        database = Database(name, version, size, tables, (), load, tuple(unseen))
        return Seen(database, recorded, self.counters(standby), standby)

    def counters(self, standby: bool) -> Counters:
        wal = text.REPLAYED_WAL if standby else text.CURRENT_WAL
        with self._reading("Reading the counters") as run:
            rows = run(sql.SQL(text.COUNTERS).format(wal=sql.SQL(wal)))
        at, commits, rows_written, size, position, wal_bytes, since, wal_since = rows[0]
        return Counters(at, commits, rows_written, size, position, wal_bytes, since, wal_since)

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Any]:
        with translated(doing), self._connection.transaction():
            self._connection.execute("SET TRANSACTION READ ONLY")
            self._connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(f"{TIMEOUT}s"))

            def run(query: LiteralString | sql.Composed, *args: object) -> list[tuple[Any, ...]]:
                return self._connection.execute(query, args or None).fetchall()

            yield run

    def _tables(self, run: Any, unseen: list[str]) -> tuple[Table, ...]:
        rows = run(text.TABLES)
        oids = [row[0] for row in rows]
        columns: dict[int, list[Column]] = defaultdict(list)
        for oid, name, kind, not_null, sequence in run(text.COLUMNS, oids):
            columns[oid].append(Column(name, kind, not_null, sequence=sequence))
        _with_statistics(run, [row for row in rows if row[7]][:_WITH_STATISTICS], columns)
        keys: dict[int, list[Key]] = defaultdict(list)
        for oid, name, primary, names in run(text.KEYS, oids):
            keys[oid].append(Key(name, tuple(names), primary))
        foreign: dict[int, list[ForeignKey]] = defaultdict(list)
        for oid, name, target, own, other in run(text.FOREIGN_KEYS, oids, oids):
            foreign[oid].append(ForeignKey(name, tuple(own), target, tuple(other)))
        _say_unseen(rows, unseen)
        return tuple(
            Table(
                schema, name, count, size, tuple(columns[oid]), tuple(keys[oid]), tuple(foreign[oid]),
                writes, grown, tuple(triggers), inherits,
            )
            for oid, schema, name, count, size, writes, grown, _, inherits, triggers, _ in rows
        )  # fmt: skip

    def _sessions(self, run: Any, all_stats: bool, most: int, unseen: list[str]) -> Load:
        if not all_stats:
            unseen.append("Other roles' sessions: needs the role pg_monitor.")
            return Load(max_connections=most)
        sessions, active = run(text.SESSIONS)[0]
        return Load(sessions=sessions, active=active, max_connections=most)

    def _statements(self, schema: str | None, unseen: list[str]) -> tuple[Recorded, ...]:
        """A transaction of its own: the view fails where its library is not loaded."""
        if schema is None:
            unseen.append(
                "Statements: the extension pg_stat_statements is not there; without it nobody can say which share of "
                "the calls stays in one tenant (CREATE EXTENSION, and shared_preload_libraries)."
            )
            return ()
        query = sql.SQL(text.STATEMENTS).format(statements=sql.Identifier(schema, "pg_stat_statements"))
        try:
            with self._connection.transaction():
                self._connection.execute("SET TRANSACTION READ ONLY")
                self._connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(f"{TIMEOUT}s"))
                rows = self._connection.execute(query, [_TOP, _TOP, _TOP]).fetchall()
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege) as error:
            unseen.append(f"Statements: {error.diag.message_primary}.")
            return ()
        hidden = sum(row[1] for row in rows if row[0] == HIDDEN)
        if hidden:
            unseen.append(f"Other roles' statements, {hidden:,} calls: needs the role pg_monitor.")
        return tuple(
            Recorded(query, calls, seconds, wal, _search_path(role, path))
            for query, calls, seconds, wal, role, path in rows
            if query != HIDDEN
        )


def _with_statistics(run: Any, rows: Sequence[Any], columns: dict[int, list[Column]]) -> None:
    """Fills in what the statistics of these tables say of their columns."""
    schemas, names = [row[1] for row in rows], [row[2] for row in rows]
    hashes: dict[tuple[Any, ...], list[int]] = {}
    for types, kind, function in text.HASHES:
        of_type = [(row[1], row[2], one.name) for row in rows for one in columns[row[0]] if one.type in types]
        if of_type:
            query = sql.SQL(text.HASHED).format(type=sql.SQL(kind), function=sql.SQL(function))
            found = run(query, *(list(part) for part in zip(*of_type, strict=True)))
            hashes |= {tuple(key): values for *key, values in found}
    known: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for schema, name, column, inherited, *figures in run(text.STATISTICS, schemas, names):
        # Ordered: a table's own come before those that are over its children too.
        known.setdefault((schema, name, column), (*figures, hashes.get((schema, name, column, inherited))))
    for oid, schema, name, count, *_ in rows:
        columns[oid] = [_filled_in(one, known.get((schema, name, one.name)), count) for one in columns[oid]]


def _filled_in(column: Column, figures: tuple[Any, ...] | None, rows: int) -> Column:
    if figures is None:
        return column
    distinct, nulls, shares, hashed = figures
    # Negative: a share of the rows (pg_stats.n_distinct). The table's own statistics may be older than its rows.
    number = -distinct * rows if distinct < 0 else distinct
    values: Sequence[int | None] = hashed or [None] * len(shares or ())
    common = tuple(Common(float(share), value) for share, value in zip(shares or (), values, strict=True))
    return replace(column, distinct=float(number), nulls=float(nulls), common=common)


def _say_unseen(rows: Sequence[Any], unseen: list[str]) -> None:
    closed = [f"{row[1]}.{row[2]}" for row in rows if not row[7]]
    if closed:
        unseen.append(f"Statistics of the columns of {_some(closed)}: needs SELECT on them, or pg_read_all_data.")
    fresh = [f"{row[1]}.{row[2]}" for row in rows if row[7] and row[3] and not row[10]]
    if fresh:
        unseen.append(f"Statistics of {_some(fresh)}: never analyzed (ANALYZE does it).")
    readable = sum(bool(row[7]) for row in rows)
    if readable > _WITH_STATISTICS:
        unseen.append(
            f"Statistics of the {readable - _WITH_STATISTICS} smallest tables: only the largest are looked at."
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tables"


def _search_path(role: str | None, setting: str | None) -> tuple[str, ...]:
    """PostgreSQL's default is "$user", public."""
    names = setting.split("=", 1)[1].split(",") if setting else ['"$user"', "public"]
    plain = [name.strip().strip('"') for name in names]
    return tuple(role or "" if name == "$user" else name for name in plain)
