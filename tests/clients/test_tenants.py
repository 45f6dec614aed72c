"""Which tenant is meant, where it is, and what cannot be one: on every engine that is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.cluster import tenants_sql
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.clients.cluster.pins import forget_pin, keep_pin
from orchestrator.clients.cluster.tenants import (
    SplitRefused,
    UnknownTenant,
    find_tenant,
    read_heat,
    refuse_logical_split,
)
from orchestrator.clients.moves import copies
from orchestrator.clients.moves.split_copies import SplitDiffers, compare, shards
from orchestrator.core.observed.pins import Isolation, Pin, Tenant
from orchestrator.core.planning.steps import Verify
from tests.core.observed import MB
from tests.fix_lab import Cluster, superuser

HOSTILE = ['My "Own" Schema; DROP', "50% off.today", "schöne neue'welt", "%s {} \\"]


@dataclass
class Tenants:
    cluster: Cluster
    admin: psycopg.Connection[Any]
    citus: CitusClient

    def run(self, statement: str, *names: str) -> None:
        self.admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def schema(self, name: str, table: bool = True) -> None:
        self.run("CREATE SCHEMA {}", name)
        quoted = sql.Identifier(name).as_string(self.admin)
        self.admin.execute("SELECT citus_schema_distribute(%s::regnamespace)", (quoted,))
        if table:
            self.run("CREATE TABLE {}.t (id bigint PRIMARY KEY)", name)

    def find(self, name: str, table: str | None = None) -> Isolation:
        return find_tenant(self.admin, self.citus.observe().shard_groups, name, table)


@pytest.fixture
def tenants(cluster: Cluster) -> Iterator[Tenants]:
    with cluster.connect() as admin, CitusClient(cluster.connect, "the lab") as citus:
        before = {name for (name,) in admin.execute("SELECT nspname FROM pg_namespace").fetchall()}
        yield Tenants(cluster, admin, citus)
        for (name,) in admin.execute("SELECT nspname FROM pg_namespace").fetchall():
            if name not in before and not name.startswith("pg_") and name != "orchestrator":
                admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        for pin in citus.observe().pins:
            forget_pin(admin, pin.tenant)


@pytest.mark.parametrize("name", ["plain", *HOSTILE])
def test_a_schema_is_found_by_its_name_whatever_that_is(tenants: Tenants, name: str) -> None:
    tenants.schema(name)
    found = tenants.find(name)
    group = next(group for group in tenants.citus.observe().shard_groups if group.schema == name)
    assert (found.tenant.name, found.shard_id, found.node_id, found.own) == (name, group.shard_id, group.node_id, True)


@pytest.mark.parametrize("name", ["plain", *HOSTILE])
def test_pins_of_schemas_are_kept_and_find_their_shard_group(tenants: Tenants, name: str) -> None:
    tenants.schema(name)
    pin = Pin(Tenant(name), tenants.find(name).node_id)
    for alone in (False, True):
        keep_pin(tenants.admin, Pin(pin.tenant, pin.node_id, alone))
    (kept,) = tenants.citus.observe().pins
    assert (kept.tenant, kept.node_id, kept.alone) == (pin.tenant, pin.node_id, True)
    assert kept.shard_id == tenants.find(name).shard_id
    tenants.run("DROP SCHEMA {} CASCADE", name)
    assert tenants.citus.observe().pins[0].shard_id is None
    forget_pin(tenants.admin, pin.tenant)
    forget_pin(tenants.admin, pin.tenant)
    assert tenants.citus.observe().pins == ()


def test_a_schema_that_cannot_move_is_refused_with_the_reason(tenants: Tenants) -> None:
    tenants.schema("shop_berlin")
    tenants.schema("shop_empty", table=False)
    tenants.run("CREATE SCHEMA {}", "plain_one")
    for name, says in {
        "shop_berlyn": "There is no schema 'shop_berlyn' on this cluster. Nothing was changed. Did you mean shop",
        "plain_one": "Schema plain_one is not distributed, so it cannot move",
        "shop_empty": "Schema shop_empty has no table yet, so it is on no node",
    }.items():
        with pytest.raises(UnknownTenant) as refused:
            tenants.find(name)
        assert says in str(refused.value)


def rows(tenants: Tenants, schema: str = "app") -> None:
    """Two tables that move together, distributed by a number; one by a text; and one that is on every node."""
    for statement in (
        "CREATE SCHEMA {}",
        "CREATE TABLE {}.events (tenant int, id int, PRIMARY KEY (tenant, id))",
        "CREATE TABLE {}.orders (tenant int, id int, PRIMARY KEY (tenant, id))",
        "CREATE TABLE {}.letters (who text PRIMARY KEY)",
        "CREATE TABLE {}.country (code text PRIMARY KEY)",
        "CREATE TABLE {}.plain (id int PRIMARY KEY)",
    ):
        tenants.run(statement, schema)
    quoted = sql.Identifier(schema).as_string(tenants.admin)
    for table, column, more in (
        ("events", "tenant", "none"), ("orders", "tenant", f"{quoted}.events"), ("letters", "who", "none")
    ):  # fmt: skip
        tenants.admin.execute(
            "SELECT create_distributed_table(%s, %s, colocate_with => %s)", (f"{quoted}.{table}", column, more)
        )
    tenants.admin.execute("SELECT create_reference_table(%s)", (f"{quoted}.country",))
    tenants.run("INSERT INTO {}.events SELECT i, i FROM generate_series(1, 20) i", schema)
    tenants.run("INSERT INTO {}.orders SELECT i, i FROM generate_series(1, 20) i", schema)


@pytest.fixture
def real(tenants: Tenants) -> Tenants:
    if tenants.cluster.engine == "embedded":
        pytest.skip("engine embedded: the stand-in hashes no values and splits no shards")
    return tenants


@pytest.mark.parametrize("schema", ["app", HOSTILE[0], HOSTILE[1]])
def test_rows_of_a_tenant_are_found_in_the_shard_that_they_share(real: Tenants, schema: str) -> None:
    rows(real, schema)
    quoted = sql.Identifier(schema).as_string(real.admin)
    found = real.find(" 007", f"{quoted}.orders")
    names = tuple(sql.Identifier(schema, table).as_string(real.admin) for table in ("events", "orders"))
    assert found.own is False
    assert found.tenant.name == "7", "as the column's type writes it"
    assert found.tenant.title.endswith("events"), "named by the first of the tables that move together"
    shard = real.admin.execute("SELECT get_shard_id_for_distribution_column(%s, 7)", (names[0],)).fetchone()
    assert shard == (found.shard_id,)
    assert len(found.tables) == 2


def test_text_values_that_are_hostile_are_values_and_nothing_else(real: Tenants) -> None:
    rows(real)
    for value in (*HOSTILE, "", "it's"):
        real.admin.execute("INSERT INTO app.letters VALUES (%s)", (value,))
        assert real.find(value, "app.letters").tenant.name == value


def test_what_is_no_tenant_of_a_table_is_refused_with_the_reason(real: Tenants) -> None:
    rows(real)
    real.schema("shop")
    for (name, table), says in {
        ("7", "app.nothing"): "--table app.nothing: there is no such table on this cluster",
        ("7", 'app."events'): '--table app."events: this is no name of a table',
        ("7", "app.plain"): "--table app.plain: it is not distributed",
        ("DE", "app.country"): "--table app.country: it is a reference table, which is on every node",
        ("7", "shop.t"): "it belongs to the distributed schema shop, which moves as a whole",
        ("seven", "app.events"): "'seven' is no integer, which tenant of app.events is",
        ("99", "app.events"): "No row of app.events has tenant = 99",
    }.items():
        with pytest.raises(UnknownTenant) as refused:
            real.find(name, table)
        assert says in str(refused.value)
        assert "Nothing was changed." in str(refused.value)


def test_a_server_that_lets_citus_decode_nothing_is_told_before_anything_changes(real: Tenants) -> None:
    tenant = Tenant("7", "app.events")
    refuse_logical_split(real.admin, tenant)
    with real.cluster.connect() as other:
        listed = other.execute("SELECT current_setting('output_plugin_libraries', true)").fetchone()
        if listed is None or listed[0] is None:
            pytest.skip(f"engine {real.cluster.engine}: this server has no list of output plugins")
    with superuser(real.cluster, real.cluster.port) as root:
        root.execute("SET output_plugin_libraries = 'pgoutput', 'test_decoding'")
        with pytest.raises(SplitRefused, match="set the server parameter output_plugin_libraries to"):
            refuse_logical_split(root, tenant)


def test_statements_are_counted_for_the_tenant_that_they_are_of(real: Tenants) -> None:
    """Once the server counts them; a schema and rows of a table alike, each on the node where it is."""
    rows(real)
    real.schema("shop")
    groups = real.citus.observe().shard_groups
    assert read_heat(real.admin, groups).tracked is False
    ports = [port for (port,) in real.admin.execute("SELECT nodeport FROM pg_dist_node").fetchall()]
    try:
        for port in ports:
            track(real.cluster, port, "all")
        with real.cluster.connect() as client:
            for _ in range(5):
                client.execute("SELECT count(*) FROM app.events WHERE tenant = 7").fetchall()
                client.execute("SELECT count(*) FROM shop.t").fetchall()
            reading = read_heat(client, groups)
        counted = {heat.tenant.title: heat for heat in reading.tenants}
        assert reading.tracked
        for title, own in (("7 of app.events", False), ("shop", True)):
            assert counted[title].queries == 5
            assert counted[title].cpu > 0
            assert counted[title].own is own
        assert counted["shop"].node_id == real.find("shop").node_id
        assert counted["7 of app.events"].node_id == real.find("7", "app.events").node_id
        assert set(reading.sessions or ()) == {node.node_id for node in real.citus.read_nodes()}
    finally:
        for port in ports:
            track(real.cluster, port, "none")


def track(cluster: Cluster, port: int, value: str) -> None:
    """As Azure does it: the parameter is set on every node, and each has taken it when this returns."""
    with superuser(cluster, port) as root:
        root.execute(f"ALTER SYSTEM SET citus.stat_tenants_track = '{value}'")
        root.execute("SELECT pg_reload_conf()")
        while root.execute("SHOW citus.stat_tenants_track").fetchone() != (value,):
            pass


@pytest.mark.parametrize(
    ("verify", "mode", "size"),
    [("quick", "block_writes", MB // 2), ("quick", "force_logical", 100 * MB), ("full", "block_writes", 100 * MB)],
)
def test_a_split_that_lost_a_row_is_rolled_back(
    real: Tenants, verify: Verify, mode: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is taken from a part behind Citus' back, while the split is not committed. A sample is of every page."""
    monkeypatch.setattr(copies, "SAMPLED_PAGES", 10**9)
    rows(real, HOSTILE[1])
    table = sql.Identifier(HOSTILE[1], "events").as_string(real.admin)
    real.run("INSERT INTO {}.events SELECT 7, i FROM generate_series(100, 400) i", HOSTILE[1])
    digest = real.find("7", table).tenant.hash or 0
    wholes = shards(real.admin, table, digest, digest)
    assert [list(whole.keys) for whole in wholes] == [["tenant", "id"], ["tenant", "id"]]

    def split() -> None:
        values = {"table": table, "value": "7", "cascade": "CASCADE", "mode": mode}
        with real.admin.transaction():
            real.admin.execute(tenants_sql.SPLIT, values)
            parts = shards(real.admin, table, wholes[0].first, wholes[0].last)
            assert len(parts) > len(wholes)
            compare(real.admin, wholes, parts, verify, size)
            own = next(part for part in parts if part.first == part.last and part.table == wholes[0].table)
            with superuser(real.cluster, own.port) as node:
                node.execute("SET citus.enable_manual_changes_to_shards = on")
                node.execute(f"DELETE FROM {own.name} WHERE id < 400")
            compare(real.admin, wholes, parts, verify, size)

    with pytest.raises(SplitDiffers, match="events_"):
        split()
    assert real.find("7", table).own is False, "rolled back"
    count = real.admin.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert count == (20 + 301,)
