"""Plans what `apply` does for the services: pure, and only steps whose effect is not there yet.

Order: bookkeeping; per service its role, schema, migrations, row-sharded tables; grants last, because a grant may name
another service's role. Many services are made several at once, with their grants where those roles are there by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.core.desired.services import ServiceSpec
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


def plan_services(
    services: Sequence[ServiceSpec], migrations: Migrations, state: ServicesState
) -> tuple[ServiceStep, ...]:
    """The steps that are left. Assumes that `check_services` found nothing."""
    steps: list[ServiceStep] = []
    if not state.bookkeeping and any(pending(service, migrations, state) for service in services):
        steps.append(EnsureBookkeeping())
    parts = [_parts(service, migrations, state) for service in services]
    together = _together(services, parts, state)
    bundles, grants = [], []
    for service, (own, granted) in zip(services, parts, strict=True):
        if service.name not in together:
            steps += own
            grants.append(granted)
        elif own and together[service.name]:
            bundles.append(own + granted)
        else:
            bundles.append(own)
            grants.append(granted)
    if any(bundles):
        steps.append(MakeServices(tuple(bundle for bundle in bundles if bundle)))
    if sum(map(bool, grants)) >= MANY:
        steps.append(MakeServices(tuple(bundle for bundle in grants if bundle), "grant rights on"))
    else:
        steps += [step for bundle in grants for step in bundle]
    return tuple(steps)


def _parts(
    service: ServiceSpec, migrations: Migrations, state: ServicesState
) -> tuple[tuple[SingleStep, ...], tuple[SingleStep, ...]]:
    """What makes the service, and its grants."""
    return _one_service(service, migrations, state), tuple(_grants(service, state.schemas.get(service.schema_name)))


def _together(
    services: Sequence[ServiceSpec], parts: Sequence[tuple[tuple[SingleStep, ...], object]], state: ServicesState
) -> dict[str, bool]:
    """The services that are made several at once, and whether their grants can be made along with them.

    A schema of its own depends on no other service, but may refer to reference tables of those that are row-sharded.
    Those come first, and so do services whose roles the grants of others name, unless they are many.
    """
    alone = [s for s, (own, _) in zip(services, parts, strict=True) if own and s.sharding != "row"]
    if len(alone) < MANY:
        return {}
    named = {grant.role for service in services for grant in service.grants}
    waited_for = {service.name for service in alone if service.role_name in named - set(state.roles)}
    if len(waited_for) >= MANY or len(alone) - len(waited_for) < MANY:
        waited_for = set()
    bulk = [service for service in alone if service.name not in waited_for]
    coming = {service.role_name for service in bulk} - set(state.roles)
    return {service.name: not any(grant.role in coming for grant in service.grants) for service in bulk}


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
