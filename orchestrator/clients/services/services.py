"""The services' roles, schemas, migrations, tables and grants, read and made through the coordinator.

Works as the cluster's administrator, who is no superuser. One connection for reading and for most steps; every
migration has its own, because it acts as the service's role.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import psycopg

from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.cluster.citus_errors import translate, translated
from orchestrator.clients.services.passwords import Passwords
from orchestrator.clients.services.services_batch import Bundle, WholeService, make_batch
from orchestrator.clients.services.services_bulk import BulkRun, batches, whole_service
from orchestrator.clients.services.services_reading import read_services, some_of_the_roles
from orchestrator.clients.services.services_steps import (
    ensure_grant,
    ensure_role,
    ensure_row_tables,
    ensure_schema,
    run_migration,
)
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import DatabaseError, OrchestratorError
from orchestrator.core.observed.state import Role
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.plan_services import Reading
from orchestrator.core.planning.steps_services import (
    EnsureBookkeeping,
    EnsureGrant,
    EnsureRole,
    EnsureRowTables,
    EnsureSchema,
    RunMigration,
    SingleStep,
)

_LOGINS_AT_ONCE = 8
_MOST_LOGINS = 100
# What a server says only after the password was right.
_PASSED = ("too many connections for role", "permission denied for database", "remaining connection slots")
_REFUSED = ("password authentication failed", "no password supplied", "is not permitted to log in")


class Connect(Protocol):
    """Opens a connection to the coordinator: as the administrator, or as the given role."""

    def __call__(self, *, user: str | None = None, password: str | None = None) -> psycopg.Connection[Any]: ...


class ServicesClient:
    """Reads and ensures what the stack file declares. Use as a context manager, or close it."""

    def __init__(
        self,
        connect: Connect,
        admin: str,
        passwords: Passwords,
        migrations: Mapping[str, Sequence[Migration]],
    ) -> None:
        self._connect = connect
        self._admin = admin
        self._passwords = passwords
        self._migrations = migrations
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> ServicesClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, services: Sequence[ServiceSpec]) -> Iterator[Reading]:
        """What the database has of the services, of some after others, with their passwords proved by logging in.

        Beyond a hundred services only a hundred of them log in, others at every run: each login makes the server hash
        its password thousands of times, on purpose.
        """
        conn = self._admin_connection()
        places = some_of_the_roles(conn, (service.role_name for service in services), _MOST_LOGINS)
        with ThreadPoolExecutor(_LOGINS_AT_ONCE) as pool:
            known = [services[place] for place in places]
            proved = dict(zip([s.role_name for s in known], pool.map(self._logs_in, known), strict=True))
        for reading in read_services(conn, services):
            roles = {name: replace(role, logs_in=proved.get(name)) for name, role in reading.state.roles.items()}
            yield replace(reading, state=replace(reading.state, roles=_unproved_where_barred(roles)))

    def ensure(self, step: SingleStep) -> None:
        """Make one step true, whole or not at all. What is true already stays as it is."""
        with translated(step.title):
            self._ensure(step, self._admin_connection())

    def start(self, bundles: Sequence[Bundle]) -> BulkRun:
        """Begin to make many services, several at once, on connections of their own."""
        return BulkRun(self._open, self._make, batches(bundles, lambda bundle: self._whole(bundle) is not None))

    def _make(self, batch: tuple[Bundle, ...], conn: psycopg.Connection[Any]) -> None:
        found = [self._whole(bundle) for bundle in batch]
        whole = [self._with_password(service) for service in found if service is not None]
        if whole:
            make_batch(conn, whole, self._admin)
            return
        for step in batch[0]:
            with translated(step.title):
                self._ensure(step, conn)

    def _whole(self, bundle: Bundle) -> WholeService | None:
        return whole_service(bundle, self._planned)

    def _with_password(self, service: WholeService) -> WholeService:
        role = service.role
        return service if role is None else replace(service, password=self._passwords.ensure(role.role, role.password))

    def _ensure(self, step: SingleStep, conn: psycopg.Connection[Any]) -> None:
        match step:
            case RunMigration():
                self._migrate(step)
            case EnsureBookkeeping():
                ensure_bookkeeping(conn)
            case EnsureRole():
                password = self._passwords.ensure(step.role, step.password) if step.set_password else None
                ensure_role(conn, step, self._admin, password)
            case EnsureSchema():
                ensure_schema(conn, step)
            case EnsureRowTables():
                ensure_row_tables(conn, step)
            case EnsureGrant():
                ensure_grant(conn, step)

    def _planned(self, step: RunMigration) -> Migration:
        found = [migration for migration in self._migrations.get(step.service, ()) if migration.name == step.name]
        if not found or found[0].sha256 != step.sha256:
            raise DatabaseError(
                step.title, "the file is not the one that was planned", fix="Run the same command again"
            )
        return found[0]

    def _migrate(self, step: RunMigration) -> None:
        migration, conn = self._planned(step), self._open()
        try:
            run_migration(conn, step, migration)
        finally:
            conn.close()

    def _admin_connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._open()
        return self._connection

    def _open(self) -> psycopg.Connection[Any]:
        conn = self._connect()
        conn.autocommit = True
        return conn

    def _logs_in(self, service: ServiceSpec) -> bool | None:
        """None where the password is not known here, or where something else than the password was in the way."""
        password = self._passwords.read(service.role_name, service.password)
        if not isinstance(password, str):
            return None
        try:
            self._connect(user=service.role_name, password=password).close()
        except (psycopg.Error, OrchestratorError) as error:
            said = str(translate(error, "log in")) if isinstance(error, psycopg.Error) else str(error)
            if any(text in said for text in _PASSED):
                return True
            return False if any(text in said for text in _REFUSED) else None
        return True


def _unproved_where_barred(roles: Mapping[str, Role]) -> dict[str, Role]:
    """A role without LOGIN is refused whatever its password is."""
    return {name: role if role.can_login else replace(role, logs_in=None) for name, role in roles.items()}
