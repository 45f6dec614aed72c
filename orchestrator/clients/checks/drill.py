"""The clients of the reconnect drill: a service at one port, once without retries and once with them, a thread each.

They only read: a statement on one of the service's own tables where it has one, so that the data's node takes part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.connection import trusted_certificates
from orchestrator.core.access import Access
from orchestrator.core.checks.drill import (
    EVERY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PATIENCE,
    Failure,
    PortDrill,
    Sample,
    outage,
)

Connection = psycopg.Connection[Any]
_TABLE = """
    SELECT space.nspname, class.relname
    FROM pg_catalog.pg_class class JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    WHERE space.nspname = current_schema() AND class.relkind IN ('r', 'p')
      AND has_table_privilege(class.oid, 'SELECT')
    ORDER BY class.relname LIMIT 1
"""


class DrillClient:
    """One client. `samples` grows while it runs; `began` is the drill's start on the monotonic clock."""

    def __init__(self, parameters: Mapping[str, str], password: str, *, retries: bool, began: float) -> None:
        words = dict(parameters) | {"password": password}
        if words.get("sslrootcert") == "system":
            trusted = trusted_certificates()
            words.pop("sslrootcert")
            words |= {"sslrootcert": trusted} if trusted else {}
        self._words, self._retries, self._began = words, retries, began
        self._statement: sql.Composed | sql.SQL = sql.SQL("SELECT 1")
        self._connection: Connection | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.samples: list[Sample] = []

    def start(self) -> str:
        """Connects and sends one request first. What was wrong with it, else an empty text and the thread runs."""
        try:
            connection = self._connect()
            row = connection.execute(_TABLE).fetchone()
            connection.commit()
            if row:
                self._statement = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(*row))
        except psycopg.Error as error:
            self._drop()
            return " ".join(str(error).split())
        if failure := self._once():
            return failure.text
        self._thread.start()
        return ""

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._drop()

    def answered_since(self, moment: float) -> bool:
        """`moment` in seconds since the drill's start."""
        return any(sample.failure is None and sample.began >= moment for sample in self.samples[-1:])

    def _work(self) -> None:
        while not self._over.wait(EVERY):
            began = time.monotonic() - self._began
            failure, tries = self._with_retries() if self._retries else (self._once(), ())
            self.samples.append(Sample(began, time.monotonic() - self._began, failure, tries))

    def _with_retries(self) -> tuple[Failure | None, tuple[Failure, ...]]:
        tries: list[Failure] = []
        began, pause = time.monotonic(), FIRST_PAUSE
        while (failure := self._once()) is not None:
            if time.monotonic() - began > PATIENCE or self._over.is_set():
                return failure, tuple(tries)
            tries.append(failure)
            self._over.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        return None, tuple(tries)

    def _once(self) -> Failure | None:
        """One transaction. After an error the connection is given up, as a pool does."""
        committing = False
        try:
            connection = self._connection or self._connect()
            connection.execute(self._statement)
            committing = True
            connection.commit()
        except psycopg.Error as error:
            self._drop()
            return Failure(error.sqlstate or "", _text(error), committing)
        return None

    def _connect(self) -> Connection:
        self._connection = psycopg.Connection.connect(**self._words, prepare_threshold=None)  # type: ignore[arg-type]
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class DrillClients:
    """Both clients of every service at every port. Satisfies what the workflow needs of them."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._mark = 0.0
        self._pairs: list[tuple[Access, DrillClient, DrillClient]] = []

    def start(self, access: Access, parameters: Mapping[str, str], password: str) -> str:
        """An empty text, or why the service cannot work through this port now."""
        pair = [DrillClient(parameters, password, retries=retries, began=self._began) for retries in (False, True)]
        self._pairs.append((access, pair[0], pair[1]))
        return pair[0].start() or pair[1].start()

    def mark(self) -> None:
        self._mark = time.monotonic() - self._began

    def answered(self) -> bool:
        return all(client.answered_since(self._mark) for _, *pair in self._pairs for client in pair)

    def stop(self) -> None:
        for _, *pair in self._pairs:
            for client in pair:
                client.stop()

    def seen(self) -> tuple[PortDrill, ...]:
        return tuple(
            PortDrill(access.service, access.port_name, access.port, outage(plain.samples), outage(retrying.samples))
            for access, plain, retrying in self._pairs
        )


def _text(error: psycopg.Error) -> str:
    """The first line, without the address: it would make one kind of failure look like many."""
    if error.diag.message_primary:
        return error.diag.message_primary
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.rpartition("failed: ")[2] or first
