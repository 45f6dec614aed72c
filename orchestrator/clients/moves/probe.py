"""What the load guard looks at: how long a small statement takes now, and how busy the processors are.

The probe reads one row of a tenant, each time of another node, on a connection of its own and in a thread of its own:
its latency is that of the services' own statements, and nothing that the run waits for delays it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.moves.guard import BASELINE_FOR, LOOK_EVERY, Signals

# Seconds between two readings of the processors: Azure has one value a minute.
CPU_EVERY = 20.0
# Seconds after which a look that has not come back counts as one that took that long.
OVERDUE = 0.25

# A tenant's table on each node, of those that the administrator may read.
_TABLES: LiteralString = """
    SELECT DISTINCT ON (placement.groupid) space.nspname, class.relname
    FROM pg_catalog.pg_dist_partition part
    JOIN pg_catalog.pg_dist_shard shard USING (logicalrelid)
    JOIN pg_catalog.pg_dist_placement placement USING (shardid)
    JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    WHERE part.partmethod = 'n' AND part.repmodel = 's' AND part.colocationid > 0
      AND has_schema_privilege(space.oid, 'USAGE') AND has_table_privilege(class.oid, 'SELECT')
    ORDER BY placement.groupid, shard.shardid
"""


class LoadGauge:
    """Satisfies the workflow's Gauge. `cpu` answers percent of the processors, None while unknown."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]] | None,
        cpu: Callable[[], float | None] | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._connect, self._cpu, self._clock = connect, cpu, clock
        self._looks: deque[tuple[float, float]] = deque(maxlen=round(BASELINE_FOR / LOOK_EVERY) * 2)
        self._pending: float | None = None
        self._over = threading.Event()
        self._percent: float | None = None
        self._threads = [
            threading.Thread(target=look, daemon=True)
            for look, wanted in ((self._look_on, connect), (self._read_cpu, cpu))
            if wanted is not None
        ]

    def start(self) -> None:
        """Without `connect` there is no probe: only the window or the processors count."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2)

    def signals(self, now: float) -> Signals:
        """`now` is in seconds since the start of the run; so are the looks in the answer."""
        here, pending = time.perf_counter(), self._pending
        looks = [(now - (here - at), ms) for at, ms in list(self._looks) if here - at <= BASELINE_FOR]
        if pending is not None and here - pending > OVERDUE:
            looks += [(now, ms) for ms in _due(here - pending)]
        today = self._clock()
        return Signals(looks, self._percent, today.hour * 3600 + today.minute * 60 + today.second)

    def _read_cpu(self) -> None:
        while self._cpu is not None and not self._over.is_set():
            # A metric that cannot be read for a while is not known, which stops nothing.
            self._percent = None
            with suppress(OrchestratorError):
                self._percent = self._cpu()
            self._over.wait(CPU_EVERY)

    def _look_on(self) -> None:
        while not self._over.is_set():
            # A probe that cannot connect is what the run itself will report; here it only has to come back.
            with suppress(OrchestratorError, psycopg.Error):
                self._look_until_lost()
            self._pending = None
            self._over.wait(1.0)

    def _look_until_lost(self) -> None:
        if self._connect is None:
            return
        with self._connect() as connection:
            statements = _warmed(connection)
            while not self._over.wait(LOOK_EVERY):
                began = self._pending = time.perf_counter()
                try:
                    connection.execute(next(statements))
                except psycopg.errors.UndefinedTable:
                    statements = _warmed(connection)
                    continue
                ended = time.perf_counter()
                self._pending = None
                self._looks.extend((ended, ms) for ms in _due(ended - began))


def _due(seconds: float) -> Iterator[float]:
    """Milliseconds of a look that took so long, and of those that were due meanwhile: they would have waited with it.

    Else one look that waits for a second would count no more than one that takes a millisecond.
    """
    while seconds > 0:
        yield seconds * 1000
        seconds -= LOOK_EVERY


def _warmed(connection: psycopg.Connection[Any]) -> Iterator[sql.Composed | sql.SQL]:
    """The statements in turn. The first time of each opens a connection to a node, which is no sign of load."""
    statements = _statements(connection)
    for statement in statements:
        with suppress(psycopg.errors.UndefinedTable):
            connection.execute(statement)
    return cycle(statements)


def _statements(connection: psycopg.Connection[Any]) -> Sequence[sql.Composed | sql.SQL]:
    with translated("prepare the probe"):
        tables = connection.execute(_TABLES).fetchall()
    return [sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(*names)) for names in tables] or [
        sql.SQL("SELECT 1")
    ]
