"""Many services at once: two transactions each, a few connections beside each other, what may collide tried again.

Role and schema come first: in one transaction with them Citus 13.2 refuses a table with a sequence, because it makes
that on a worker through another connection. More services in one transaction gain nothing (measured).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg

from orchestrator.clients.citus_errors import translated
from orchestrator.clients.services_steps import ensure_role, ensure_schema, run_migration
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.migrations import Migration
from orchestrator.core.steps import EnsureRole, EnsureSchema, RunMigration, SingleStep

Connection = psycopg.Connection[Any]
Bundle: TypeAlias = tuple[SingleStep, ...]
AT_ONCE = 8
# Serialization, deadlock, lock not available, too many connections; and of XX000 the two texts below.
_COLLISIONS = frozenset({"40001", "40P01", "55P03", "53300"})
_COLLIDED = ("tuple concurrently updated", "tuple concurrently deleted", "remaining connection slots")
_TRIES = 8


@dataclass(frozen=True, slots=True)
class WholeService:
    """The steps of a service of which nothing is there yet."""

    role: EnsureRole
    schema: EnsureSchema
    migrations: tuple[RunMigration, ...]


def whole_service(bundle: Bundle, plain: Callable[[RunMigration], bool]) -> WholeService | None:
    """None where something is there already, or where a migration has to run as the service's role."""
    role = next((step for step in bundle if isinstance(step, EnsureRole)), None)
    schema = next((step for step in bundle if isinstance(step, EnsureSchema)), None)
    migrations = tuple(step for step in bundle if isinstance(step, RunMigration))
    if role is None or schema is None or len(bundle) != 2 + len(migrations):
        return None
    if not (role.create and schema.create and schema.distribute) or not all(map(plain, migrations)):
        return None
    return WholeService(role, schema, migrations)


def make_service(
    conn: Connection, whole: WholeService, admin: str, password: str | None, migrations: Sequence[Migration]
) -> None:
    """Role and schema, then every migration: each whole or not at all. Can be repeated, like its parts."""
    with conn.transaction():
        with translated(whole.role.title):
            ensure_role(conn, whole.role, admin, password)
        with translated(whole.schema.title):
            ensure_schema(conn, whole.schema)
    for step, migration in zip(whole.migrations, migrations, strict=True):
        run_migration(conn, step, migration, hand_over=True)


class BulkRun:
    """Bundles under way. Nothing here waits but `stop`, for the bundles that have begun."""

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        make: Callable[[Bundle, Connection], None],
        bundles: Sequence[Bundle],
    ) -> None:
        self._open, self._make = open_connection, make
        self._mine = threading.local()
        self._connections: list[Connection] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, "services")
        self._futures: list[Future[None]] = [self._pool.submit(self._bundle, bundle) for bundle in bundles]

    @property
    def done(self) -> int:
        return sum(future.done() and not future.cancelled() for future in self._futures)

    def ended(self) -> bool:
        """All done, or one has failed. Raises what it failed with."""
        finished, left = wait(self._futures, timeout=0, return_when=FIRST_EXCEPTION)
        for future in finished:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        return not left

    def stop(self) -> None:
        """Begin no more; what has begun is brought to its end."""
        self._pool.shutdown(cancel_futures=True)
        for connection in self._connections:
            with suppress(psycopg.Error):
                connection.close()

    def _bundle(self, bundle: Bundle) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._make(bundle, self._connection())
            except (OrchestratorError, psycopg.Error) as error:
                if not left or not _collided(error):
                    raise
                # Threads that have met once should not meet again.
                time.sleep(random.uniform(0.02, 0.1) * 2 ** (_TRIES - left))  # noqa: S311
            else:
                return

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None or connection.closed:
            connection = self._mine.connection = self._open()
            self._connections.append(connection)
        return connection


def _collided(error: OrchestratorError | psycopg.Error) -> bool:
    """Nothing came of it but the meeting of two transactions."""
    state = getattr(error, "sqlstate", "") or ""
    return state in _COLLISIONS or any(text in str(error) for text in _COLLIDED)
