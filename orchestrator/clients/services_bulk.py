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
from psycopg import sql

from orchestrator.clients import services_sql
from orchestrator.clients.citus_errors import translated
from orchestrator.clients.services_steps import ensure_role
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
    """Role and schema, then every migration: each whole or not at all, made by the administrator and handed over."""
    role, schema = sql.Identifier(whole.role.role), sql.Identifier(whole.schema.schema)
    with conn.transaction():
        with translated(whole.role.title):
            ensure_role(conn, whole.role, admin, password)
        with translated(whole.schema.title):
            conn.execute("SET LOCAL citus.enable_schema_based_sharding TO off")
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            conn.execute("SELECT citus_schema_distribute(quote_ident(%s)::regnamespace)", [whole.schema.schema])
            conn.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, role))
    for step, migration in zip(whole.migrations, migrations, strict=True):
        _migrate(conn, step, migration, role, schema)


def _migrate(
    conn: Connection, step: RunMigration, migration: Migration, role: sql.Identifier, schema: sql.Identifier
) -> None:
    lines = migration.lines or (1,) * len(migration.statements)
    with conn.transaction():
        conn.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(schema))
        for statement, line in zip(migration.statements, lines, strict=True):
            with translated(f"run migration {migration.path}, line {line}, for {step.role}"):
                conn.execute(sql.SQL(statement))
        for name, kind in conn.execute(services_sql.OWNED_BY_ADMIN, [step.schema]).fetchall():
            with translated(f"hand {step.schema}.{name} over to {step.role}"):
                relation = sql.Identifier(step.schema, name)
                conn.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), relation, role))
        conn.execute(
            "INSERT INTO orchestrator.migration (service, name, sha256) VALUES (%s, %s, %s)",
            [step.service, step.name, step.sha256],
        )


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
