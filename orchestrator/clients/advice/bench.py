"""Drives one server with so many clients, each a thread with a connection of its own, and looks at it meanwhile.

Every transaction is rolled back unless asked otherwise. A rolled-back one writes the same WAL but need not wait until
it is on disk; from PostgreSQL 17 on the wait is asked for (`pg_logical_emit_message(..., flush => true)`), as a commit
would. Ends with all transactions ended and all connections closed, also when it is interrupted: a statement that
waits for somebody else's lock is then cancelled.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, LiteralString

import psycopg

from orchestrator.clients.advice.advice_login import NoConnectionLeft
from orchestrator.clients.advice.bench_machine import Ticks, server_here
from orchestrator.clients.advice.bench_values import Source
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.advice.bench import Step

NAME = "orchestrator benchmark"
LOOK_EVERY = 0.2  # seconds between looks at what sessions wait for
_PATIENCE = 1.0  # seconds in which statements may end by themselves
FLUSHES = 170000  # server_version_num
_FLUSH: LiteralString = "SELECT pg_catalog.pg_logical_emit_message(false, 'orchestrator', '', true)"
_WAITS: LiteralString = """
    SELECT coalesce(wait_event_type || ':' || wait_event, 'CPU')
    FROM pg_catalog.pg_stat_activity
    WHERE application_name = %s AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
        AND pid <> pg_catalog.pg_backend_pid()
"""
_WAL: LiteralString = "SELECT (pg_catalog.pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"
Connect = Callable[[], psycopg.Connection[Any]]


@dataclass
class _Tally:
    """What one client has done; only its own thread writes to it."""

    done: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class Bench:
    """Clients are added with `grow`; `measure` begins a step and `result` ends it."""

    def __init__(self, connect: Connect, source: Source, *, commit: bool, machine: bool = True) -> None:
        self._connect, self._source, self._commit = connect, source, commit
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[psycopg.Connection[Any]] = []
        self._tallies: list[_Tally] = []
        self._full = False
        self._looked: Counter[str] = Counter()
        self._looks = 0
        self._watcher, self._looker = connect(), connect()
        with translated("Starting the benchmark"):
            self._flush = not commit and self._watcher.info.server_version >= FLUSHES
            self.uncounted = uncounted(self._watcher)
            self._host = server_here(self._watcher) if machine else None
            self.standby_unasked = not commit and _synchronous(self._watcher)
            self._started = self._mark()

    def __enter__(self) -> Bench:
        self._start(self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        while any(thread.is_alive() for thread in self._threads):
            for connection in self._connections:
                with suppress(psycopg.Error):
                    connection.cancel()
            for thread in self._threads:
                thread.join(_PATIENCE)
        self._watcher.close()

    @property
    def clients(self) -> int:
        return len(self._tallies)

    @property
    def flushes(self) -> bool:
        """Whether every transaction waits for its WAL."""
        return self._commit or self._flush

    def grow(self, clients: int) -> bool:
        """Until there are so many; whether the server let them all in. Raises NoConnectionLeft when it lets none in."""
        while len(self._tallies) < clients and not self._full:
            try:
                connection, tally = self._connect(), _Tally()
            except NoConnectionLeft:
                if not self._tallies:
                    raise
                self._full = True
                break
            self._connections.append(connection)
            self._tallies.append(tally)
            self._start(partial(self._work, connection, tally, len(self._tallies)))
        return not self._full

    def measure(self) -> None:
        for tally in self._tallies:
            tally.done, tally.seconds, tally.errors = 0, [], Counter()
        self._looked, self._looks = Counter(), 0
        self._started = self._mark()

    def result(self) -> Step:
        """Of what happened since `measure`."""
        begun, now = self._started, self._mark()
        seconds = now.at - begun.at
        latencies = sorted(second for tally in self._tallies for second in tally.seconds)
        errors: Counter[str] = sum((tally.errors for tally in self._tallies), Counter())
        driver = (now.process - begun.process) / seconds
        cpu, server = self._shares(begun, now)
        return Step(
            len(self._tallies),
            seconds,
            sum(tally.done for tally in self._tallies),
            dict(errors),
            _at(latencies, 0.5),
            _at(latencies, 0.95),
            now.wal - begun.wal,
            cpu,
            driver,
            dict(self._looked),
            server,
            driver / self._host.cores if self._host is not None else None,
            self._looks,
            self._full,
        )

    def _shares(self, begun: _Mark, now: _Mark) -> tuple[float | None, float | None]:
        """Of this machine's vCores those that were busy; of those that the server may use what it took."""
        if self._host is None or begun.ticks is None or now.ticks is None or now.ticks.whole <= begun.ticks.whole:
            return None, None
        whole = now.ticks.whole - begun.ticks.whole
        server = (now.ticks.server - begun.ticks.server) * self._host.cores / self._host.allowed
        return (now.ticks.busy - begun.ticks.busy) / whole, max(0.0, server / whole)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self, connection: psycopg.Connection[Any], tally: _Tally, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a load, not a secret
        with closing(connection), psycopg.RawCursor(connection) as cursor:
            while not self._stop.is_set():
                statements = self._source(chance)
                began = time.perf_counter()
                try:
                    self._transaction(connection, cursor, statements)
                except psycopg.Error as error:
                    tally.errors[error.sqlstate or "lost"] += 1
                    if connection.closed:
                        return
                    with suppress(psycopg.Error):
                        connection.execute("ROLLBACK")
                    continue
                tally.seconds.append(time.perf_counter() - began)
                tally.done += 1

    def _transaction(self, connection: psycopg.Connection[Any], cursor: Any, statements: Any) -> None:
        """In one round trip: what is measured is the server, not the way to it."""
        with connection.pipeline():
            cursor.execute("BEGIN")
            for text, values in statements:
                cursor.execute(text, values or None, prepare=True)
            if self._flush:
                cursor.execute(_FLUSH, prepare=True)
            cursor.execute("COMMIT" if self._commit else "ROLLBACK")

    def _look(self) -> None:
        with suppress(psycopg.Error), closing(self._looker) as connection:
            while not self._stop.wait(LOOK_EVERY):
                found = connection.execute(_WAITS, [NAME]).fetchall()
                self._looks += 1
                for (name,) in found:
                    self._looked[name] += 1

    def _mark(self) -> _Mark:
        with translated("Reading the WAL's position"):
            row = self._watcher.execute(_WAL).fetchone()
        ticks = self._host.ticks() if self._host is not None else None
        return _Mark(time.perf_counter(), int(row[0]) if row else 0, time.process_time(), ticks)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    wal: int
    process: float
    ticks: Ticks | None


def pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether something between shares sessions: the number of the session is then not the one that it gave out."""
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _synchronous(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT pg_catalog.current_setting('synchronous_standby_names') <> ''").fetchone()
    return bool(row and row[0])


def uncounted(connection: psycopg.Connection[Any]) -> bool:
    """Keeps a benchmark's own statements out of pg_stat_statements, where the role may; whether it could."""
    try:
        connection.execute("SELECT pg_catalog.set_config('pg_stat_statements.track', 'none', false)")
    except psycopg.Error:
        return False
    return True


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
