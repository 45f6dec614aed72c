"""Keeps the stand-in's background jobs going, as Citus' background workers do: calls citus_lab.tick() in a thread.

All state and every decision are in the database. A ticker that dies, or whose server restarts, loses nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import psycopg

INTERVAL = 0.1
# After a lost connection: the server may be restarting.
RECONNECT_AFTER = 0.5


class Server(Protocol):
    def superuser_conninfo(self) -> Mapping[str, Any]:
        """psycopg's keywords for a superuser's connection to the cluster's database. Asked again at every reconnect."""


class Ticker:
    """One thread with one superuser connection."""

    def __init__(self, server: Server, interval: float = INTERVAL) -> None:
        self._server = server
        self._interval = interval
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg.Error), self._connect() as conn:
                conn.execute("CALL citus_lab.recover()")
                while not self._stopping.wait(self._interval):
                    conn.execute("CALL citus_lab.tick()")
            self._stopping.wait(RECONNECT_AFTER)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self._server.superuser_conninfo(), autocommit=True)
