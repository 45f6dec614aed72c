"""What is refused before the first change, in which words, and what must not be refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem
from orchestrator.core.observed.state import AppliedMigration, ForeignKey, Role, Schema, ServicesState, Table, UniqueKey
from orchestrator.core.planning.checks_services import check_services, service_notices
from orchestrator.core.planning.migrations import KeyFacts, Migration, ReferenceFacts, TableFacts

ADMIN = "clusteradmin"


def service(name: str = "user", **options: Any) -> ServiceSpec:
    return ServiceSpec.model_validate({"name": name, **options})


def row_service(name: str = "shop", **options: Any) -> ServiceSpec:
    return service(name, sharding="row", distributionColumn="tenant", **options)


def table(name: str = "t", **options: Any) -> Table:
    return Table(**{"name": name, "owner": "user", "kind": "local", "columns": ("id",), **options})


def schema(*tables: Table, name: str = "user", **options: Any) -> Schema:
    content = {found.name: found for found in tables}
    return Schema(**{"name": name, "owner": name, "colocation_id": None, "tables": content, **options})


def shop(*tables: Table, **options: Any) -> ServicesState:
    owned = (replace(found, owner="shop") for found in tables)
    return ServicesState(schemas={"shop": schema(*owned, name="shop", **options)})


def migration(*tables: TableFacts, name: str = "1.sql", **options: Any) -> Migration:
    return Migration(name, f"sha of {name}", f"migrations/{name}", ("SELECT 1",), tables, **options)


def facts(name: str = "t", columns: tuple[str, ...] = ("tenant", "id"), **options: Any) -> TableFacts:
    return TableFacts(None, name, columns, **options)


def check(
    services: ServiceSpec | Sequence[ServiceSpec],
    state: ServicesState | None = None,
    migrations: Mapping[str, Sequence[Migration]] | None = None,
) -> list[str]:
    found = check_services(
        [services] if isinstance(services, ServiceSpec) else services, migrations or {}, state or ServicesState(), ADMIN
    )
    assert all(isinstance(problem, Problem) and problem.fix for problem in found), "every problem says what to do"
    return [str(problem) for problem in found]


def the_one(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_a_new_service_has_no_problem() -> None:
    assert check([service(), row_service()]) == []


def test_a_service_may_not_use_the_admins_role_nor_a_superusers() -> None:
    assert "role clusteradmin is the administrator" in the_one(check(service(ADMIN)))
    root = Role("user", True, -1, None, admin_is_member=True, superuser=True)
    assert "role user is a superuser" in the_one(check(service(), ServicesState(roles={"user": root})))


def test_grants_may_name_declared_roles_and_existing_ones() -> None:
    owner = service(grants=[{"role": "reader"}])
    assert "there is no role reader" in the_one(check(owner))
    assert check([owner, service("reader")]) == []
    existing = Role("reader", False, -1, None, admin_is_member=False)
    assert check(owner, ServicesState(roles={"reader": existing})) == []


class TestOwners:
    def test_what_the_admin_owns_can_be_handed_over(self) -> None:
        assert check(service(), ServicesState(schemas={"user": schema(table(owner=ADMIN), owner=ADMIN)})) == []

    def test_what_others_own_only_they_can_hand_over(self) -> None:
        state = ServicesState(schemas={"user": schema(table(owner="ann"), owner="bob", colocation_id=1)})
        problems = check(service(), state)
        assert problems == [
            'service user: schema user belongs to bob, not to user (hand it over (ALTER SCHEMA "user" OWNER TO "user"),'
            " or choose another `schema`)",
            "service user: table user.t belongs to ann, not to user: the schema could not be distributed, and later no"
            ' rebalance would start (hand it over: ALTER TABLE "user"."t" OWNER TO "user")',
        ]


class TestConversion:
    """An existing regular schema becomes a distributed one."""

    def convert(self, *tables: Table, **options: Any) -> list[str]:
        return check(service(), ServicesState(schemas={"user": schema(*tables, **options)}))

    def test_plain_tables_convert(self) -> None:
        inner = ForeignKey("fk", "user", "t")
        assert self.convert(table(), table("u", foreign_keys=(inner,))) == []

    def test_a_foreign_key_to_a_reference_table_elsewhere_is_fine(self) -> None:
        key = ForeignKey("fk", "common", "country", to_reference=True)
        assert self.convert(table(foreign_keys=(key,))) == []

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ({"kind": "distributed"}, "user.t is distributed by itself"),
            ({"kind": "reference"}, "user.t is a reference table"),
            ({"triggers": ("watch",)}, "user.t has a trigger watch"),
            ({"inherits": True}, "user.t inherits"),
            ({"foreign_keys": (ForeignKey("fk", "time", "u"),)}, "a foreign key (fk) of user.t points to time.u"),
        ],
    )
    def test_what_citus_refuses_is_told(self, what: dict[str, Any], said: str) -> None:
        assert said in the_one(self.convert(table(**what)))

    def test_foreign_keys_from_elsewhere_are_told(self) -> None:
        assert "table time.u has a foreign key into schema user" in the_one(self.convert(referenced_from=("time.u",)))

    def test_a_schema_that_is_distributed_already_is_left_alone(self) -> None:
        """Citus has accepted it, so nothing of it can be wrong."""
        odd = table(kind="schema", foreign_keys=(ForeignKey("fk", "time", "u"),))
        assert self.convert(odd, colocation_id=3, referenced_from=("x.y",)) == []


class TestHistory:
    ran = ServicesState(migrations={"user": (AppliedMigration("2.sql", "sha of 2.sql"),)}, bookkeeping=True)

    def test_what_ran_must_stay_as_it_ran(self) -> None:
        changed = replace(migration(name="2.sql"), sha256="another")
        assert the_one(check(service(), self.ran, {"user": [changed]})) == (
            "migrations/2.sql: it was changed after it ran; the cluster has what the earlier text made "
            "(put the earlier text back, and write the change into a new migration)"
        )

    def test_what_is_new_must_come_last(self) -> None:
        files = [migration(name="1.sql"), migration(name="2.sql")]
        assert "comes before 2.sql, which has run already" in the_one(check(service(), self.ran, {"user": files}))
        assert check(service(), self.ran, {"user": [files[1], migration(name="3.sql")]}) == []

    def test_a_file_that_is_gone_is_no_problem_but_worth_a_word(self) -> None:
        assert check(service(), self.ran, {"user": []}) == []
        [notice] = service_notices([service()], {"user": []}, self.ran)
        assert notice == "Service user: 2.sql ran here, and the stack file names it no longer."


class TestPendingMigrations:
    def test_a_foreign_key_into_another_services_schema_is_told_with_its_line(self) -> None:
        bad = facts(references=(ReferenceFacts("time", "u", 7),))
        problem = the_one(check([service(), service("time")], None, {"user": [migration(bad)]}))
        assert problem.startswith("migrations/1.sql:7: a foreign key of user.t points to time.u")

    def test_a_foreign_key_to_another_services_reference_table_is_fine(self) -> None:
        good = facts(references=(ReferenceFacts("shop", "country", 7),))
        assert check([service(), row_service(referenceTables=["country"])], None, {
            "user": [migration(good)], "shop": [migration(facts("country"))]}) == []  # fmt: skip

    def test_a_foreign_key_to_a_schema_that_is_not_known_is_left_to_citus(self) -> None:
        unknown = facts(references=(ReferenceFacts("common", "country", 7),))
        assert check(service(), None, {"user": [migration(unknown)]}) == []

    def test_triggers_and_inheritance_are_told_with_their_line(self) -> None:
        problems = check(service(), None, {"user": [migration(facts(inherits=True, line=3), triggers=(("t", 9),))]})
        assert problems[0].startswith("migrations/1.sql:9: table user.t has a trigger")
        assert problems[1].startswith("migrations/1.sql:3: table user.t inherits")

    def test_what_ran_already_is_not_looked_at_again(self) -> None:
        file = migration(triggers=(("t", 9),))
        ran = ServicesState(migrations={"user": (AppliedMigration(file.name, file.sha256),)})
        assert check(service(), ran, {"user": [file]}) == []


class TestRowSharding:
    primary = UniqueKey("t_pkey", ("id",), primary=True)

    def test_tables_with_the_column_in_every_key_are_fine(self) -> None:
        good = table(columns=("tenant", "id"), unique_keys=(UniqueKey("t_pkey", ("tenant", "id"), primary=True),))
        pending = migration(facts("u", keys=(KeyFacts(("id", "tenant"), "primary key", 1),)))
        assert check(row_service(), shop(good), {"shop": [pending]}) == []

    def test_a_key_without_the_column_is_told(self) -> None:
        there = table(columns=("tenant", "id"), unique_keys=(self.primary,))
        assert the_one(check(row_service(), shop(there))) == (
            "service shop: primary key t_pkey (id) of table shop.t does not include the distribution column tenant; "
            "a node can only ensure uniqueness among its own rows "
            "(add tenant to the key, or list the table under `referenceTables`)"
        )
        coming = migration(facts(keys=(KeyFacts(("id",), "unique index", 4),)))
        problem = the_one(check(row_service(), None, {"shop": [coming]}))
        assert problem.startswith("migrations/1.sql:4: a unique index (id) of table shop.t does not include")

    def test_a_table_without_the_column_is_told(self) -> None:
        assert "table shop.t has no column tenant" in the_one(check(row_service(), shop(table())))
        coming = migration(facts(columns=("id",), line=5))
        problem = the_one(check(row_service(), None, {"shop": [coming]}))
        assert problem.startswith("migrations/1.sql:5: table shop.t has no column tenant to be distributed by")

    def test_reference_tables_need_neither(self) -> None:
        spec = row_service(referenceTables=["t"])
        assert check(spec, shop(table(unique_keys=(self.primary,)))) == []
        assert check(spec, None, {"shop": [migration(facts(columns=("id",)))]}) == []

    def test_a_pending_migration_may_add_the_column_and_mend_the_key(self) -> None:
        there = shop(table(unique_keys=(self.primary,)))
        adds = migration(facts(columns=("tenant",), created=False))
        assert "t_pkey" in the_one(check(row_service(), there, {"shop": [adds]}))
        mends = migration(facts(columns=("tenant",), created=False, partial=True))
        assert check(row_service(), there, {"shop": [mends]}) == []

    def test_a_table_that_a_later_migration_drops_does_not_count(self) -> None:
        files = [migration(facts(columns=("id",))), migration(name="2.sql", drops=("t",))]
        assert check(row_service(), None, {"shop": files}) == []
        assert check(row_service(), shop(table()), {"shop": [migration(drops=("t",))]}) == []

    def test_partitions_follow_their_table(self) -> None:
        part = facts("part", columns=(), partition=True)
        assert check(row_service(), None, {"shop": [migration(facts(), part)]}) == []

    def test_a_migration_that_runs_code_could_mend_everything(self) -> None:
        spec = row_service(referenceTables=["made_by_code"])
        assert check(spec, shop(table()), {"shop": [migration(opaque=True)]}) == []

    def test_an_unknown_reference_table_is_told(self) -> None:
        assert "reference table shop.nope does not exist" in the_one(check(row_service(referenceTables=["nope"])))

    def test_distributed_in_another_way_is_told(self) -> None:
        by_id = table(kind="distributed", columns=("tenant", "id"), distribution_column="id")
        assert "is distributed by id already, not by tenant" in the_one(check(row_service(), shop(by_id)))
        reference = table(kind="reference")
        assert "is a reference table already" in the_one(check(row_service(), shop(reference)))
        listed = row_service(referenceTables=["t"])
        assert "is distributed, and `referenceTables` lists it" in the_one(check(listed, shop(by_id)))
        assert check(listed, shop(reference)) == []

    def test_a_schema_distributed_as_a_whole_is_told_once(self) -> None:
        state = shop(table(kind="schema"), table("u", kind="schema"), colocation_id=4)
        assert "citus_schema_undistribute" in the_one(check(row_service(), state))

    def test_a_reference_table_may_refer_to_reference_tables_only(self) -> None:
        key = ForeignKey("fk", "shop", "other")
        pointing = table("country", foreign_keys=(key,))
        state = shop(pointing, table("other", columns=("tenant",)))
        problem = the_one(check(row_service(referenceTables=["country"]), state))
        assert "reference table shop.country has a foreign key to shop.other, which is distributed" in problem
        assert check(row_service(referenceTables=["country", "other"]), state) == []

    def test_a_foreign_key_between_distributed_tables_includes_the_column(self) -> None:
        good, bad = ForeignKey("fk", "shop", "u", ("tenant", "id")), ForeignKey("fk", "shop", "u", ("id",))
        columns, target = ("tenant", "id"), table("u", columns=("tenant",))
        assert check(row_service(), shop(table(columns=columns, foreign_keys=(good,)), target)) == []
        there = shop(table(columns=columns, foreign_keys=(bad,)), target)
        assert "a foreign key (id) of table shop.t to shop.u does not include" in the_one(check(row_service(), there))
        coming = migration(facts(references=(ReferenceFacts(None, "u", 8, ("id",)),)), facts("u"))
        problem = the_one(check(row_service(), None, {"shop": [coming]}))
        assert problem.startswith("migrations/1.sql:8: a foreign key (id)")
        assert check(row_service(referenceTables=["u"]), None, {"shop": [coming]}) == []

    def test_a_trigger_on_an_existing_table_is_told(self) -> None:
        there = table(columns=("tenant",), triggers=("watch",))
        assert 'DROP TRIGGER "watch" ON "shop"."t"' in the_one(check(row_service(), shop(there)))
