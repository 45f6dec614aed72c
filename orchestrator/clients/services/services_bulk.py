"""Many services at once: in batches, a few connections beside each other, what may collide tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

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


def batches(bundles: Sequence[Bundle], together: Callable[[Bundle], bool]) -> Iterator[tuple[Bundle, ...]]:
    """Those that can be made together by `BATCH`, the others each by itself, the former first.

    Goes through the bundles twice and keeps none of them.
    """
    joined = filter(together, bundles)
    while batch := tuple(islice(joined, BATCH)):
        yield batch
    for bundle in bundles:
        if not together(bundle):
            yield (bundle,)


class BulkRun:
    """Batches under way, each begun when there is room for it. Nothing here waits but `stop`, for those that have
    begun."""

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        make: Callable[[tuple[Bundle, ...], Connection], None],
        work: Iterable[tuple[Bundle, ...]],
    ) -> None:
        self._open, self._make, self._work = open_connection, make, iter(work)
        self._turn = threading.Lock()
        self._stopped = False
        self.done = 0
        self._pool = ThreadPoolExecutor(AT_ONCE, "services")
        self._workers = [self._pool.submit(self._until_stopped) for _ in range(AT_ONCE)]

    def ended(self) -> bool:
        """All done, or one has failed. Raises what it failed with."""
        finished, left = wait(self._workers, timeout=0, return_when=FIRST_EXCEPTION)
        for worker in finished:
            worker.result()
        return not left

    def stop(self) -> None:
        """Begin no more; what has begun is brought to its end."""
        self._stopped = True
        self._pool.shutdown()

    def _until_stopped(self) -> None:
        connection = _Kept(self._open)
        try:
            while (batch := self._next()) is not None:
                self._batch(batch, connection)
                with self._turn:
                    self.done += len(batch)
        except BaseException:
            self._stopped = True
            raise
        finally:
            connection.close()

    def _next(self) -> tuple[Bundle, ...] | None:
        with self._turn:
            return None if self._stopped else next(self._work, None)

    def _batch(self, batch: tuple[Bundle, ...], connection: _Kept) -> None:
        """As one, or one by one where the server has no room for the locks of all their tables."""
        try:
            self._tried(batch, connection)
        except (OrchestratorError, psycopg.Error) as error:
            if len(batch) == 1 or _state(error) != _OUT_OF_LOCKS:
                raise
            for bundle in batch:
                self._tried((bundle,), connection)

    def _tried(self, batch: tuple[Bundle, ...], connection: _Kept) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._make(batch, connection.get())
            except (OrchestratorError, psycopg.Error) as error:
                if not left or not _collided(error):
                    raise
                # Threads that have met once should not meet again.
                time.sleep(random.uniform(0.02, 0.1) * 2 ** (_TRIES - left))  # noqa: S311
            else:
                return


@dataclass(slots=True)
class _Kept:
    """A connection that is opened when it is first needed, and again when it was lost."""

    open: Callable[[], Connection]
    connection: Connection | None = None

    def get(self) -> Connection:
        if self.connection is None or self.connection.closed:
            self.connection = self.open()
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            with suppress(psycopg.Error):
                self.connection.close()


def _collided(error: OrchestratorError | psycopg.Error) -> bool:
    """Nothing came of it but the meeting of two transactions."""
    return _state(error) in _COLLISIONS or any(text in str(error) for text in _COLLIDED)


def _state(error: OrchestratorError | psycopg.Error) -> str:
    return getattr(error, "sqlstate", "") or ""
