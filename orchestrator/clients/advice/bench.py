"""Drives one server with so many clients, each a thread with a connection of its own, and looks at it meanwhile.

Every transaction is rolled back unless asked otherwise. A rolled-back one writes the same WAL but need not wait until
it is on disk; from PostgreSQL 17 on the wait is asked for (`pg_logical_emit_message(..., flush => true)`), as a commit
would. Ends with all transactions ended and all connections closed, also when it is interrupted.
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
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString

import psycopg

from orchestrator.clients.advice.bench_values import Source
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.advice.bench import Step

NAME = "orchestrator benchmark"
LOOK_EVERY = 0.2  # seconds between looks at what sessions wait for
FLUSHES = 170000  # server_version_num
_FLUSH: LiteralString = "SELECT pg_catalog.pg_logical_emit_message(false, 'orchestrator', '', true)"
_WAITS: LiteralString = """
    SELECT coalesce(wait_event_type || ':' || wait_event, 'CPU')
    FROM pg_catalog.pg_stat_activity
    WHERE application_name = %s AND state = 'active'
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

    def __init__(self, connect: Connect, source: Source, *, commit: bool, own_machine: bool) -> None:
        self._connect, self._source, self._commit = connect, source, commit
        self._machine = own_machine
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tallies: list[_Tally] = []
        self._looked: Counter[str] = Counter()
        self._watcher = connect()
        with translated("Starting the benchmark"):
            self._flush = not commit and self._watcher.info.server_version >= FLUSHES
            self.uncounted = uncounted(self._watcher)
            self._started = self._mark()

    def __enter__(self) -> Bench:
        self._start(self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._watcher.close()

    @property
    def flushes(self) -> bool:
        """Whether every transaction waits for its WAL."""
        return self._commit or self._flush

    def grow(self, clients: int) -> None:
        """Until there are so many. Connections are made here, so that a refusal ends the run at once."""
        while len(self._tallies) < clients:
            connection, tally = self._connect(), _Tally()
            self._tallies.append(tally)
            self._start(partial(self._work, connection, tally, len(self._tallies)))

    def measure(self) -> None:
        for tally in self._tallies:
            tally.done, tally.seconds, tally.errors = 0, [], Counter()
        self._looked = Counter()
        self._started = self._mark()

    def result(self) -> Step:
        """Of what happened since `measure`."""
        begun, now = self._started, self._mark()
        seconds = now.at - begun.at
        latencies = sorted(second for tally in self._tallies for second in tally.seconds)
        errors: Counter[str] = sum((tally.errors for tally in self._tallies), Counter())
        cores_busy = (now.process - begun.process) / seconds
        machine = now.busy - begun.busy if now.busy is not None and begun.busy is not None else None
        whole = now.ticks - begun.ticks if now.ticks is not None and begun.ticks is not None else None
        return Step(
            len(self._tallies),
            seconds,
            sum(tally.done for tally in self._tallies),
            dict(errors),
            _at(latencies, 0.5),
            _at(latencies, 0.95),
            now.wal - begun.wal,
            machine / whole if machine is not None and whole else None,
            cores_busy,
            dict(self._looked),
        )

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
        with suppress(psycopg.Error), closing(self._connect()) as connection:
            while not self._stop.wait(LOOK_EVERY):
                for (name,) in connection.execute(_WAITS, [NAME]).fetchall():
                    self._looked[name] += 1

    def _mark(self) -> _Mark:
        with translated("Reading the WAL's position"):
            row = self._watcher.execute(_WAL).fetchone()
        busy, ticks = machine_ticks() if self._machine else (None, None)
        return _Mark(time.perf_counter(), int(row[0]) if row else 0, time.process_time(), busy, ticks)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    wal: int
    process: float
    busy: int | None
    ticks: int | None


def uncounted(connection: psycopg.Connection[Any]) -> bool:
    """Keeps a benchmark's own statements out of pg_stat_statements, where the role may; whether it could."""
    try:
        connection.execute("SELECT pg_catalog.set_config('pg_stat_statements.track', 'none', false)")
    except psycopg.Error:
        return False
    return True


def machine_ticks() -> tuple[int | None, int | None]:
    """Busy and all processor time of this machine; None where there is no /proc/stat."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None, None
    # user nice system idle iowait irq softirq steal (proc(5)): what another machine took was not idle here.
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
