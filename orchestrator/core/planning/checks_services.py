"""What would go wrong with the services, found before the first change: pure.

Every problem is told in the user's words with what to do. What cannot be known beforehand is not guessed: then the
error of the statement itself is translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem
from orchestrator.core.observed.state import ServicesState
from orchestrator.core.planning.checks_tables import View, check_conversion, check_pending, check_row_tables
from orchestrator.core.planning.plan_services import Migrations, pending


@dataclass(frozen=True, slots=True)
class Around:
    """What the checks of one service have to know of the others.

    `roles` are those that grants name and a service declares, `by_schema` the services whose schemas migrations name.
    """

    roles: frozenset[str]
    by_schema: Mapping[str, ServiceSpec]


def look_around(services: Sequence[ServiceSpec], migrations: Migrations) -> Around:
    granted = {grant.role for service in services for grant in service.grants}
    files = {id(file): file for found in migrations.values() for file in found}.values()
    schemas = {key.to_schema for file in files for table in file.tables for key in table.references}
    roles, by_schema = set(), {}
    for service in services if granted or schemas else ():
        if service.role_name in granted:
            roles.add(service.role_name)
        if service.schema_name in schemas:
            by_schema[service.schema_name] = service
    return Around(frozenset(roles), by_schema)


def check_services(
    services: Sequence[ServiceSpec],
    migrations: Migrations,
    state: ServicesState,
    admin: str,
    around: Around | None = None,
) -> tuple[Problem, ...]:
    """Everything that is known to fail. Empty means that the plan can start.

    `around` is what `look_around` says of all services, where these are only some of them.
    """
    around = around or look_around(services, migrations)
    problems: list[Problem] = []
    for service in services:
        schema = state.schemas.get(service.schema_name)
        view = View(service, schema, pending(service, migrations, state), around.by_schema)
        problems += _role(view, state, admin)
        problems += _owners(view, admin)
        problems += _history(service, migrations, state)
        problems += _grants(view, around, state)
        if service.sharding == "schema":
            problems += check_conversion(view)
        problems += check_pending(view)
        problems += check_row_tables(view)
    return tuple(problems)


def service_notices(services: Sequence[ServiceSpec], migrations: Migrations, state: ServicesState) -> tuple[str, ...]:
    """What the user should know although nothing is wrong."""
    notices = []
    for service in services:
        files = {migration.name for migration in migrations.get(service.name, ())}
        gone = [applied.name for applied in state.migrations.get(service.name, ()) if applied.name not in files]
        if gone:
            notices.append(
                f"Service {service.name}: {', '.join(gone)} ran here, and the stack file names it no longer."
            )
    return tuple(notices)


def password_notice(unknown: Sequence[str]) -> str:
    """`unknown`: roles that are there, and whose generated password is not on this machine."""
    shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
    whose, stay = ("its", "it stays as it is") if len(unknown) == 1 else ("their", "they stay as they are")
    return (
        f"Role{'' if len(unknown) == 1 else 's'} {shown}: there already, and {whose} generated password is not on "
        f"this machine: {stay}. To set a new one, name an environment variable or a file under `password` of the "
        "service."
    )


def _role(view: View, state: ServicesState, admin: str) -> Iterator[Problem]:
    name = view.service.role_name
    role = state.roles.get(name)
    if name == admin:
        yield Problem(view.where, f"role {name} is the administrator of the cluster", "give the service its own role")
    elif role is not None and role.superuser:
        yield Problem(view.where, f"role {name} is a superuser", "give the service a role of its own")


def _owners(view: View, admin: str) -> Iterator[Problem]:
    """What the admin owns is handed over to the service's role; what others own, only they can hand over."""
    schema, role = view.schema, view.service.role_name
    if schema is None:
        return
    if schema.owner not in {role, admin}:
        yield Problem(
            view.where,
            f"schema {schema.name} belongs to {schema.owner}, not to {role}",
            f'hand it over (ALTER SCHEMA "{schema.name}" OWNER TO "{role}"), or choose another `schema`',
        )
    for table in schema.tables.values():
        if table.owner not in {role, admin}:
            yield Problem(
                view.where,
                f"table {view.full(table.name)} belongs to {table.owner}, not to {role}: the schema could not be "
                "distributed, and later no rebalance would start",
                f'hand it over: ALTER TABLE {view.quoted(table.name)} OWNER TO "{role}"',
            )


def _history(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> Iterator[Problem]:
    """Migrations run once each and in order, so what ran is fixed and what is new comes last."""
    files = migrations.get(service.name, ())
    ran = {applied.name: applied.sha256 for applied in state.migrations.get(service.name, ())}
    last = max((index for index, migration in enumerate(files) if migration.name in ran), default=-1)
    for index, migration in enumerate(files):
        if migration.name not in ran:
            if index < last:
                yield Problem(
                    migration.path,
                    f"it is new, but comes before {files[last].name}, which has run already",
                    "rename it so that it comes last",
                )
        elif ran[migration.name] != migration.sha256:
            yield Problem(
                migration.path,
                "it was changed after it ran; the cluster has what the earlier text made",
                "put the earlier text back, and write the change into a new migration",
            )


def _grants(view: View, around: Around, state: ServicesState) -> Iterator[Problem]:
    for grant in view.service.grants:
        if grant.role not in around.roles and grant.role not in state.roles:
            yield Problem(
                f"{view.where}, grants",
                f"there is no role {grant.role}, and no service declares it",
                "correct the name, or create the role first",
            )
