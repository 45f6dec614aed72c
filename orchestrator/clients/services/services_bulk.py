"""Many services at once: in batches, a few connections beside each other, what may collide tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress

import psycopg

from orchestrator.clients.services.services_batch import Bundle, Connection, WholeService
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.steps_services import EnsureGrant, EnsureRole, EnsureSchema, RunMigration

AT_ONCE = 4
# More gain little (measured), and a transaction holds a lock for each table, index and sequence on every node.
BATCH = 20
_OUT_OF_LOCKS = "53200"
# Serialization, deadlock, lock not available, too many connections, an object that is there meanwhile (a run that was
# killed may still have a statement under way on the server); and of XX000 and 23505 the texts below.
_COLLISIONS = frozenset({"40001", "40P01", "55P03", "53300", "42710"})
_COLLIDED = (
    "tuple concurrently updated", "tuple concurrently deleted", "remaining connection slots",
    "pg_authid_rolname_index", "pg_namespace_nspname_index", "pg_class_relname_nsp_index",
)  # fmt: skip
_TRIES = 8


def whole_service(bundle: Bundle, planned: Callable[[RunMigration], Migration]) -> WholeService | None:
    """Without its password. None where more than a role is there already, or where a migration has to run as it."""
    role = next((step for step in bundle if isinstance(step, EnsureRole)), None)
    schema = next((step for step in bundle if isinstance(step, EnsureSchema)), None)
    migrations = tuple((step, planned(step)) for step in bundle if isinstance(step, RunMigration))
    grants = tuple(step for step in bundle if isinstance(step, EnsureGrant))
    if schema is None or not schema.distribute or schema.take_over or (role is not None and not role.create):
        return None
    if len(bundle) != sum((role is not None, 1, len(migrations), len(grants))):
        return None
    if not all(file.plain for _, file in migrations):
        return None
    return WholeService(role, schema, migrations, grants)


def batches(bundles: Sequence[Bundle], together: Callable[[Bundle], bool]) -> list[tuple[Bundle, ...]]:
    """Those that can be made together by `BATCH`, the others each by itself, the former first."""
    joined: list[Bundle] = []
    alone: list[tuple[Bundle, ...]] = []
    for bundle in bundles:
        if together(bundle):
            joined.append(bundle)
        else:
            alone.append((bundle,))
    return [tuple(joined[start : start + BATCH]) for start in range(0, len(joined), BATCH)] + alone


class BulkRun:
    """Batches under way. Nothing here waits but `stop`, for the batches that have begun."""

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        make: Callable[[tuple[Bundle, ...], Connection], None],
        work: Sequence[tuple[Bundle, ...]],
    ) -> None:
        self._open, self._make = open_connection, make
        self._mine = threading.local()
        self._connections: list[Connection] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, "services")
        self._sizes: dict[Future[None], int] = {self._pool.submit(self._batch, batch): len(batch) for batch in work}

    @property
    def done(self) -> int:
        return sum(size for future, size in self._sizes.items() if future.done() and not future.cancelled())

    def ended(self) -> bool:
        """All done, or one has failed. Raises what it failed with."""
        finished, left = wait(self._sizes, timeout=0, return_when=FIRST_EXCEPTION)
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

    def _batch(self, batch: tuple[Bundle, ...]) -> None:
        """As one, or one by one where the server has no room for the locks of all their tables."""
        try:
            self._tried(batch)
        except (OrchestratorError, psycopg.Error) as error:
            if len(batch) == 1 or _state(error) != _OUT_OF_LOCKS:
                raise
            for bundle in batch:
                self._tried((bundle,))

    def _tried(self, batch: tuple[Bundle, ...]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._make(batch, self._connection())
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
    return _state(error) in _COLLISIONS or any(text in str(error) for text in _COLLIDED)


def _state(error: OrchestratorError | psycopg.Error) -> str:
    return getattr(error, "sqlstate", "") or ""
