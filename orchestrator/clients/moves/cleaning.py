"""Drops the old copies of moved shard groups while further groups move.

Every move of Citus begins with dropping what earlier ones left, in a session made for that, with a new connection to
each node: a sixth of the time of a tiny move (measured). A session that is kept and asked after each move is there
first, and the moves find nothing to do. It is a convenience: where it fails, the moves do it themselves as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq.abc import PGconn

from orchestrator.clients.moves.moving_sql import CLEAN_UP
from orchestrator.core.errors import OrchestratorError


class Cleaner:
    """One session. Neither `wake` nor `look` waits; what is asked for during a round is done in the next one."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._wanted = self._busy = self._given_up = False

    @property
    def process(self) -> int | None:
        """The process id of its session, if there is one."""
        connection = self._connection
        return None if connection is None or connection.closed else connection.info.backend_pid

    def wake(self) -> None:
        """There is an old copy to drop."""
        self._wanted = True
        self.look()

    def look(self) -> None:
        """Take what has arrived; begin the next round if one is wanted."""
        if self._given_up:
            return
        try:
            connection = self._connection = self._connection or self._connect_if_wanted()
            if connection is not None and self._busy:
                self._busy = not _over(connection.pgconn)
            if connection is not None and self._wanted and not self._busy:
                connection.pgconn.send_query(CLEAN_UP.encode())
                self._wanted, self._busy = False, True
        except (psycopg.Error, OrchestratorError):
            self._given_up = True
            self.close()

    def close(self) -> None:
        """A round that is under way ends with the session; the server notices within a second."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _connect_if_wanted(self) -> psycopg.Connection[Any] | None:
        return self._connect() if self._wanted else None


def _over(connection: PGconn) -> bool:
    """Whether the round has ended. That copies are in use is no failure: they are tried again."""
    connection.consume_input()
    while not connection.is_busy():
        if connection.get_result() is None:
            return True
    return False
