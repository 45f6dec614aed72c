"""A pool of connections from what `orchestrator connection SERVICE --format json` prints, and retries."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

T = TypeVar("T")
PATIENCE = 30.0  # seconds: a restart or a failover to the standby
# The server went away, or is not up yet.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


class Database:
    def __init__(self, config: Path) -> None:
        """`config` names where the password lies; it is read anew for every connection, so that it can change."""
        found = json.loads(config.read_text("utf-8"))
        self._password = found["password"]
        self._pool = ConnectionPool(
            kwargs=lambda: {**found["libpq"], **found["psycopg"], "password": self._read_password()},
            min_size=1,
            max_size=4,
            max_lifetime=found["pool"]["max_lifetime"],
            max_idle=found["pool"]["max_idle"],
            check=ConnectionPool.check_connection,
            open=True,
        )

    def _read_password(self) -> str:
        if "env" in self._password:
            return os.environ[self._password["env"]]
        return Path(self._password["file"]).read_text("utf-8").rstrip("\n")

    def run(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """`work` in one transaction, again where the server went away before COMMIT: nothing has happened then.

        Where it goes away during COMMIT nobody knows whether it happened; that error is the caller's.
        """
        deadline = time.monotonic() + PATIENCE
        pause = 0.05
        while True:
            committing = False
            try:
                with self._pool.connection(timeout=5) as connection:
                    result = work(connection)
                    committing = True
                    connection.commit()
                    return result
            except PASSING:
                if committing or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def close(self) -> None:
        self._pool.close()
