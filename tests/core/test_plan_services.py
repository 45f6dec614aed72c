"""The plan for services: complete, in an order that works, and without a step whose effect is there already.

The oracle is a small database of its own that refuses what PostgreSQL would refuse; it never asks the planner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.observed.state import AppliedMigration, Role, Schema, ServicesState, Table
from orchestrator.core.planning.migrations import Migration, TableFacts
from orchestrator.core.planning.plan_services import first_schema, plan_services
from orchestrator.core.planning.steps_services import (
    EnsureBookkeeping,
    EnsureGrant,
    EnsureRole,
    EnsureRowTables,
    EnsureSchema,
    RunMigration,
    ServiceStep,
)


def service(name: str = "user", **options: Any) -> ServiceSpec:
    return ServiceSpec.model_validate({"name": name, **options})


def migration(name: str, *tables: str) -> Migration:
    facts = tuple(TableFacts(None, table, ("tenant", "id")) for table in tables)
    return Migration(name, f"sha of {name}", name, ("SELECT 1",), facts)


def role(name: str, **changes: Any) -> Role:
    return replace(Role(name, True, -1, None, admin_is_member=True, logs_in=True), **changes)


class Database:
    """A cluster as far as these steps change it. Every step fails where PostgreSQL or Citus would refuse it."""

    def __init__(self, files: dict[str, tuple[Migration, ...]]) -> None:
        self.files = files
        self.state = ServicesState()

    def run(self, step: ServiceStep) -> None:
        match step:
            case EnsureBookkeeping():
                self.state = replace(self.state, bookkeeping=True)
            case EnsureRole():
                assert step.create == (step.role not in self.state.roles)
                assert step.set_password or not step.create, "a new role needs a password"
                path = f'"{step.search_path}", public' if step.search_path else None
                made = Role(step.role, True, step.connection_limit, path, admin_is_member=True, logs_in=True)
                self.state = replace(self.state, roles={**self.state.roles, step.role: made})
            case EnsureSchema():
                self._schema(step)
            case RunMigration():
                self._migrate(step)
            case EnsureRowTables():
                self._row_tables(step)
            case EnsureGrant():
                self._grant(step)

    def _schema(self, step: EnsureSchema) -> None:
        assert self.state.roles[step.role].admin_is_member, "must be member of role"
        assert step.create == (step.schema not in self.state.schemas)
        old = self.state.schemas.get(step.schema) or Schema(step.schema, step.role, None)
        tables = {name: replace(table, owner=step.role) for name, table in old.tables.items()}
        schema = replace(old, owner=step.role, tables=tables, colocation_id=7 if step.distribute else old.colocation_id)
        self._put(schema)

    def _migrate(self, step: RunMigration) -> None:
        assert self.state.bookkeeping, "nowhere to record it"
        assert self.state.roles[step.role].can_login
        ran = self.state.migrations.get(step.service, ())
        assert step.name not in {applied.name for applied in ran}, "it ran already"
        position = [file.name for file in self.files[step.service]].index(step.name)
        assert len(ran) == position, "out of order"
        schema = self.state.schemas[step.schema]
        kind = "local" if schema.colocation_id is None else "schema"
        new = {
            facts.name: Table(facts.name, step.role, kind, facts.columns, grants=dict(schema.default_grants))  # type: ignore[arg-type]
            for facts in self.files[step.service][position].tables
        }
        self._put(replace(schema, tables={**schema.tables, **new}))
        recorded = (*ran, AppliedMigration(step.name, step.sha256))
        self.state = replace(self.state, migrations={**self.state.migrations, step.service: recorded})

    def _row_tables(self, step: EnsureRowTables) -> None:
        schema = self.state.schemas[step.schema]
        assert schema.colocation_id is None
        tables = {
            name: replace(table, kind="reference")
            if name in step.reference_tables
            else replace(table, kind="distributed", distribution_column=step.column)
            for name, table in schema.tables.items()
        }
        self._put(replace(schema, tables=tables))

    def _grant(self, step: EnsureGrant) -> None:
        assert step.role in self.state.roles, "role does not exist"
        schema, held = self.state.schemas[step.schema], frozenset(step.privileges)
        tables = {name: replace(t, grants={**t.grants, step.role: held}) for name, t in schema.tables.items()}
        defaults = {**schema.default_grants, step.role: held}
        self._put(replace(schema, usage=schema.usage | {step.role}, tables=tables, default_grants=defaults))

    def _put(self, schema: Schema) -> None:
        self.state = replace(self.state, schemas={**self.state.schemas, schema.name: schema})


NAMES = ("user", "time", "ping")


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[ServiceSpec], dict[str, tuple[Migration, ...]]]:
    services, files = [], {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        options: dict[str, Any] = {"connection_limit": draw(st.sampled_from([-1, 5]))}
        options["schema"] = draw(st.sampled_from([None, f"{name}_data"]))
        options["grants"] = [{"role": other} for other in draw(st.lists(st.sampled_from(NAMES), unique=True))]
        if draw(st.booleans()):
            options |= {"sharding": "row", "distribution_column": "tenant", "reference_tables": ("t0",)}
        services.append(service(name, **options))
        count = draw(st.integers(0, 3))
        files[name] = tuple(migration(f"{number}.sql", f"t{number}") for number in range(count))
    declared = {found.name for found in services}
    granted = [
        found.model_copy(update={"grants": tuple(grant for grant in found.grants if grant.role in declared)})
        for found in services
    ]
    return granted, files


@given(stacks(), st.lists(st.integers(0, 30), max_size=4))
def test_killed_anywhere_and_planned_again_it_converges_and_then_plans_nothing(
    stack: tuple[list[ServiceSpec], dict[str, tuple[Migration, ...]]], kills: list[int]
) -> None:
    services, files = stack
    database = Database(files)
    for survived in [*kills, 10_000]:
        for step in plan_services(services, files, database.state)[:survived]:
            database.run(step)
    assert plan_services(services, files, database.state) == ()
    for found in services:
        schema = database.state.schemas[found.schema_name]
        assert schema.owner == found.role_name
        assert (schema.colocation_id is not None) == (found.sharding == "schema")
        assert "local" not in {table.kind for table in schema.tables.values()}
        assert len(database.state.migrations.get(found.name, ())) == len(files[found.name])
        for grant in found.grants:
            for table in schema.tables.values():
                assert grant.role == found.role_name or "SELECT" in table.grants[grant.role]


def test_roles_come_before_schemas_before_migrations_and_grants_come_last() -> None:
    services = [service("user", grants=[{"role": "time"}]), service("time")]
    steps = plan_services(services, {"user": (migration("1.sql", "t"),)}, ServicesState())
    assert [step.title for step in steps] == [
        "make the schema orchestrator, which records migrations",
        "create role user",
        "create and distribute schema user",
        "run migration 1.sql as user",
        "create role time",
        "create and distribute schema time",
        "grant SELECT on user to time",
    ]


def test_without_migrations_nothing_has_to_be_recorded() -> None:
    assert EnsureBookkeeping() not in plan_services([service()], {}, ServicesState())


@pytest.mark.parametrize(
    ("changed", "planned"),
    [
        ({}, False),
        ({"logs_in": None}, False),
        ({"logs_in": False}, True),
        ({"can_login": False, "logs_in": None}, True),
        ({"connection_limit": 3}, True),
        ({"admin_is_member": False}, True),
        ({"search_path": "elsewhere"}, True),
        ({"search_path": "$user, public"}, False),
        ({"search_path": '"$user", public'}, False),
        ({"search_path": "user"}, False),
    ],
)
def test_a_role_is_altered_only_where_it_differs(changed: dict[str, Any], planned: bool) -> None:
    state = ServicesState(roles={"user": role("user", **changed)}, schemas={"user": Schema("user", "user", 1)})
    steps = plan_services([service()], {}, state)
    assert [type(step) for step in steps] == ([EnsureRole] if planned else [])
    if planned:
        [step] = steps
        assert isinstance(step, EnsureRole)
        assert step.set_password == (changed.get("logs_in") is False or changed.get("can_login") is False)
        assert step.title == "alter role user" + (" and set its password" if step.set_password else "")


def test_a_schema_of_another_name_is_put_first_in_the_search_path() -> None:
    spec = service("user", schema="My Data")
    state = ServicesState(roles={"user": role("user")}, schemas={"My Data": Schema("My Data", "user", 1)})
    [step] = plan_services([spec], {}, state)
    assert isinstance(step, EnsureRole)
    assert step.search_path == "My Data"
    there = replace(state, roles={"user": role("user", search_path='"My Data", public')})
    assert plan_services([spec], {}, there) == ()


def test_first_schema_reads_what_postgresql_stores() -> None:
    assert first_schema('"My Svc.1", public') == "My Svc.1"
    assert first_schema("data, public") == "data"
    assert first_schema("data") == "data"


def test_what_the_admin_owns_is_handed_over() -> None:
    schema = Schema("user", "clusteradmin", 1)
    state = ServicesState(roles={"user": role("user")}, schemas={"user": schema})
    [step] = plan_services([service()], {}, state)
    assert isinstance(step, EnsureSchema)
    assert (step.create, step.take_over, step.distribute) == (False, True, False)
    assert step.title == "hand over schema user, which the admin owns, to user"


def test_a_schema_that_is_to_be_row_sharded_stays_regular() -> None:
    spec = service(sharding="row", distribution_column="tenant")
    steps = [step for step in plan_services([spec], {}, ServicesState()) if isinstance(step, EnsureSchema)]
    assert [step.distribute for step in steps] == [False]


def test_row_tables_are_planned_for_local_tables_and_for_those_that_migrations_make() -> None:
    spec = service(sharding="row", distribution_column="tenant")
    there = ServicesState(roles={"user": role("user")}, schemas={"user": Schema("user", "user", None)})
    kinds = {"local": True, "distributed": False, "reference": False}
    for kind, planned in kinds.items():
        table = Table("t", "user", kind, ("tenant",), "tenant")  # type: ignore[arg-type]
        state = replace(there, schemas={"user": Schema("user", "user", None, {"t": table})})
        assert bool(plan_services([spec], {}, state)) == planned, kind
    coming = {"user": (migration("1.sql", "t"),)}
    assert EnsureRowTables in [type(step) for step in plan_services([spec], coming, there)]
    only_rows = {"user": (migration("1.sql"),)}
    assert EnsureRowTables not in [type(step) for step in plan_services([spec], only_rows, there)]
    code = {"user": (replace(migration("1.sql"), opaque=True),)}
    assert EnsureRowTables in [type(step) for step in plan_services([spec], code, there)]


def test_a_grant_is_planned_again_where_a_table_or_later_tables_lack_it() -> None:
    spec = service(grants=[{"role": "time", "privileges": ("SELECT", "INSERT")}])
    both, some = frozenset({"SELECT", "INSERT"}), frozenset({"SELECT"})

    def steps(table: frozenset[str], later: frozenset[str], usage: frozenset[str]) -> list[type]:
        schema = Schema("user", "user", 1, {"t": Table("t", "user", "schema", grants={"time": table})}, (), usage,
                        {"time": later})  # fmt: skip
        state = ServicesState(roles={"user": role("user"), "time": role("time")}, schemas={"user": schema})
        return [type(step) for step in plan_services([spec], {}, state)]

    assert steps(both, both, frozenset({"time"})) == []
    assert steps(some, both, frozenset({"time"})) == [EnsureGrant]
    assert steps(both, some, frozenset({"time"})) == [EnsureGrant]
    assert steps(both, both, frozenset()) == [EnsureGrant]


def test_two_grants_to_one_role_become_one_step() -> None:
    spec = service(grants=[{"role": "time"}, {"role": "time", "privileges": ("INSERT",)}])
    grants = [step for step in plan_services([spec], {}, ServicesState()) if isinstance(step, EnsureGrant)]
    assert [step.privileges for step in grants] == [("INSERT", "SELECT")]
