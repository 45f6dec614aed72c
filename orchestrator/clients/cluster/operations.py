"""The operation that Azure was asked for last, kept in the cluster until its end was seen (schema `orchestrator`).

The address is signed by ARM but opens nothing without a login; only the administrator can read the schema anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.observed.server import Operation


class OperationJournal:
    """On the administrator's connection, which may be another one after it was lost."""

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]]) -> None:
        self._current = connection

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        return self._current()

    def remember(self, operation: Operation) -> None:
        with translated("note down what Azure was asked for"), self._connection.transaction():
            ensure_bookkeeping(self._connection)
            self._connection.execute("DELETE FROM orchestrator.operation")
            self._connection.execute(
                "INSERT INTO orchestrator.operation (kind, url) VALUES (%s, %s)", (operation.kind, operation.url)
            )

    def unfinished(self) -> Operation | None:
        with translated("look for what Azure was asked for"):
            if not self._there():
                return None
            row = self._connection.execute("SELECT url, kind FROM orchestrator.operation").fetchone()
        return Operation(*row) if row else None

    def forget(self) -> None:
        with translated("forget what Azure has done"):
            if self._there():
                self._connection.execute("DELETE FROM orchestrator.operation")

    def _there(self) -> bool:
        row = self._connection.execute("SELECT to_regclass('orchestrator.operation') IS NOT NULL").fetchone()
        return bool(row and row[0])
