"""Plans what `apply` does for the services: pure, and only steps whose effect is not there yet.

Order: bookkeeping; per service its role, schema, migrations, row-sharded tables; grants last, because a grant may name
another service's role. Many services are made several at once, with their grants where those roles are there by then.

Services come in readings, some at a time, and nothing is kept of those that lack nothing. Of one that is not there at
all only its place is kept: its steps follow from its declaration whenever they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.lazy import Lazy
from orchestrator.core.observed.state import Role, Schema, ServicesState
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.steps_services import (
    EnsureBookkeeping,
    EnsureGrant,
    EnsureRole,
    EnsureRowTables,
    EnsureSchema,
    MakeServices,
    RunMigration,
    ServiceStep,
    SingleStep,
)

# With fewer, each step is told by itself and nothing would be gained.
MANY = 20
Migrations = Mapping[str, Sequence[Migration]]
# What makes the service, and its grants.
Parts: TypeAlias = tuple[tuple[SingleStep, ...], tuple[SingleStep, ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Some of the services with what the database has of them. `first` is the place of the first one among all."""

    first: int
    services: Sequence[ServiceSpec]
    state: ServicesState


@dataclass(frozen=True, slots=True)
class _Left:
    """A service that lacks something, by its place. `parts` is None where nothing of it is there."""

    place: int
    parts: Parts | None


@dataclass(frozen=True, slots=True)
class _Plans:
    """The steps of services that lack something."""

    services: Sequence[ServiceSpec]
    migrations: Migrations

    def service(self, left: _Left) -> ServiceSpec:
        return self.services[left.place]

    def parts(self, left: _Left) -> Parts:
        return left.parts or _parts(self.service(left), self.migrations, ServicesState())


def plan_services(
    services: Sequence[ServiceSpec], migrations: Migrations, state: ServicesState
) -> tuple[ServiceStep, ...]:
    """The steps that are left. Assumes that `check_services` found nothing."""
    return plan_readings(services, migrations, [Reading(0, services, state)])


def plan_readings(
    services: Sequence[ServiceSpec], migrations: Migrations, readings: Iterable[Reading]
) -> tuple[ServiceStep, ...]:
    """The same, of readings that together are about all of the services, in their order."""
    lacking: list[_Left] = []
    unrecorded = False
    for reading in readings:
        lacking += _lacking(reading, migrations)
        state = reading.state
        if not state.bookkeeping:
            unrecorded = unrecorded or any(pending(service, migrations, state) for service in reading.services)
    return (*([EnsureBookkeeping()] if unrecorded else []), *_arranged(lacking, _Plans(services, migrations)))


def _lacking(reading: Reading, migrations: Migrations) -> Iterator[_Left]:
    state = reading.state
    for place, service in enumerate(reading.services, reading.first):
        there = service.role_name in state.roles or service.schema_name in state.schemas
        if not there and service.name not in state.migrations:
            yield _Left(place, None)
        elif any(parts := _parts(service, migrations, state)):
            yield _Left(place, parts)


def _arranged(lacking: Sequence[_Left], plans: _Plans) -> Iterator[ServiceStep]:
    together, coming = _together(lacking, plans)
    places = {left.place for left in together}

    def grants_later(left: _Left) -> bool:
        if left.place not in places:
            return True
        return bool(coming) and any(grant.role in coming for grant in plans.service(left).grants)

    def made(left: _Left) -> tuple[SingleStep, ...]:
        own, granted = plans.parts(left)
        return own if grants_later(left) else own + granted

    for left in lacking:
        if left.place not in places:
            yield from plans.parts(left)[0]
    if together:
        yield MakeServices(Lazy(together, made))
    later = [left for left in lacking if grants_later(left) and plans.parts(left)[1]]
    if len(later) >= MANY:
        yield MakeServices(Lazy(later, lambda left: plans.parts(left)[1]), "grant rights on")
    else:
        for left in later:
            yield from plans.parts(left)[1]


def _parts(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> Parts:
    return _one_service(service, migrations, state), tuple(_grants(service, state.schemas.get(service.schema_name)))


def _together(lacking: Sequence[_Left], plans: _Plans) -> tuple[list[_Left], set[str]]:
    """The services that are made several at once, and those of their roles that grants name and that are not there.

    A schema of its own depends on no other service, but may refer to reference tables of those that are row-sharded.
    Those come first, and so do services whose roles the grants of others name, unless they are many.
    """
    alone = [left for left in lacking if _makes(left) and plans.service(left).sharding != "row"]
    if len(alone) < MANY:
        return [], set()
    named = {grant.role for left in lacking for grant in plans.service(left).grants}
    waited_for = {left.place: plans.service(left).role_name for left in alone if _waited_for(left, plans, named)}
    if len(waited_for) >= MANY or len(alone) - len(waited_for) < MANY:
        return alone, set(waited_for.values())
    return [left for left in alone if left.place not in waited_for], set()


def _makes(left: _Left) -> bool:
    return left.parts is None or bool(left.parts[0])


def _waited_for(left: _Left, plans: _Plans, named: set[str]) -> bool:
    """Whether its role is not there yet, and somebody's grants name it."""
    if left.parts is not None and not any(isinstance(step, EnsureRole) and step.create for step in left.parts[0]):
        return False
    return plans.service(left).role_name in named


def _one_service(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> tuple[SingleStep, ...]:
    return (
        *_role(service, state.roles.get(service.role_name)),
        *_schema(service, state.schemas.get(service.schema_name)),
        *_migrations(service, migrations, state),
        *_row_tables(service, migrations, state),
    )


def pending(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> tuple[Migration, ...]:
    """The service's migrations that have not run, in their order."""
    ran = {applied.name for applied in state.migrations.get(service.name, ())}
    return tuple(migration for migration in migrations.get(service.name, ()) if migration.name not in ran)


def first_schema(search_path: str) -> str:
    """The first schema of a search_path as PostgreSQL stores it: `"My Schema", public` -> `My Schema`."""
    head = search_path.strip()
    if head.startswith('"'):
        return head[1:].partition('"')[0]
    return head.partition(",")[0].strip()


def _role(service: ServiceSpec, role: Role | None) -> Iterator[EnsureRole]:
    same_name = service.role_name == service.schema_name
    step = EnsureRole(
        service=service.name,
        role=service.role_name,
        connection_limit=service.connection_limit,
        search_path=None if same_name else service.schema_name,
        create=role is None,
        # Whether the password of a role that may not log in is right could not be seen.
        set_password=role is None or not role.can_login or role.logs_in is False,
        grant_to_admin=role is None or not role.admin_is_member,
        password=service.password,
    )
    if (
        role is None
        or step.set_password
        or step.grant_to_admin
        or not role.can_login
        or role.connection_limit != service.connection_limit
        or not finds_schema(role.search_path, service)
    ):
        yield step


def finds_schema(search_path: str | None, service: ServiceSpec) -> bool:
    """Whether unqualified names of the role lead to its schema. PostgreSQL's default is `"$user", public`."""
    first = "$user" if search_path is None else first_schema(search_path)
    return service.schema_name == (service.role_name if first == "$user" else first)


def _schema(service: ServiceSpec, schema: Schema | None) -> Iterator[EnsureSchema]:
    role = service.role_name
    distribute = service.sharding == "schema" and (schema is None or schema.colocation_id is None)
    take_over = schema is not None and (
        schema.owner != role or any(table.owner != role for table in schema.tables.values())
    )
    if schema is None or distribute or take_over:
        yield EnsureSchema(service.name, service.schema_name, role, schema is None, distribute, take_over)


def _migrations(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> Iterator[RunMigration]:
    for migration in pending(service, migrations, state):
        yield RunMigration(service.name, service.role_name, service.schema_name, migration.name, migration.sha256)


def _row_tables(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> Iterator[EnsureRowTables]:
    if service.sharding != "row" or service.distribution_column is None:
        return
    schema = state.schemas.get(service.schema_name)
    local = schema is not None and any(table.kind == "local" for table in schema.tables.values())
    coming = any(
        migration.opaque or any(table.created for table in migration.tables)
        for migration in pending(service, migrations, state)
    )
    if local or coming:
        yield EnsureRowTables(
            service.name, service.schema_name, service.distribution_column, tuple(service.reference_tables)
        )


def _grants(service: ServiceSpec, schema: Schema | None) -> Iterator[EnsureGrant]:
    wanted: dict[str, set[str]] = {}
    for grant in service.grants:
        wanted.setdefault(grant.role, set()).update(grant.privileges)
    for role, privileges in wanted.items():
        # The owner of the tables has every right already.
        if role != service.role_name and not _granted(schema, role, privileges):
            yield EnsureGrant(service.name, service.schema_name, service.role_name, role, tuple(sorted(privileges)))


def _granted(schema: Schema | None, role: str, privileges: set[str]) -> bool:
    if schema is None or role not in schema.usage:
        return False
    held = [schema.default_grants.get(role, frozenset())]
    held += [table.grants.get(role, frozenset()) for table in schema.tables.values()]
    return all(privileges <= have for have in held)
