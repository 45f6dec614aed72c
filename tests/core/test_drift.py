"""Drift as a pure comparison: each kind of difference is found on a clean cluster, and that one has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.checks.drift import AzureReading, Drift, find_drift, service_drift
from orchestrator.core.desired.parameters import declared_parameters
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.observed.server import FirewallRuleReading, Parameter, ServerReading
from orchestrator.core.observed.state import AppliedMigration, ClusterState, Role, Schema, ServicesState, Table
from orchestrator.core.planning.migrations import Migration
from tests.core.observed import cluster, spec

SERVICES = [
    {"name": "orders", "grants": [{"role": "reports", "privileges": ["SELECT"]}]},
    {"name": "reports", "connectionLimit": 20},
    {"name": "events", "sharding": "row", "distributionColumn": "tenant_id", "referenceTables": ["countries"]},
]
MIGRATIONS = {"orders": (Migration("001.sql", "orders/001.sql", "a" * 64, ()),)}
DECLARED = {
    "services": SERVICES,
    "serverParameters": {"citus.shard_count": 32, "jit": False},
    "network": {"firewallRules": [{"name": "office", "startIp": "192.0.2.1", "endIp": "192.0.2.9"}]},
}


def parameter(value: str) -> Parameter:
    return Parameter(value, value, "user-override", read_only=False, dynamic=True, pending_restart=False)


def table_of(service: ServiceSpec) -> dict[str, Table]:
    grants = {grant.role: frozenset(grant.privileges) for grant in service.grants}
    if service.sharding == "schema":
        return {"items": Table("items", service.role_name, "schema", ("id",), grants=grants)}
    column = service.distribution_column or ""
    tables = {"log": Table("log", service.role_name, "distributed", ("id", column), column, grants=grants)}
    return tables | {
        name: Table(name, service.role_name, "reference", ("id",), grants=grants) for name in service.reference_tables
    }


@dataclass(frozen=True)
class Observed(ClusterState):
    """The cluster, and the services that a reading of them found."""

    services: ServicesState = field(default_factory=ServicesState)


def all_drift(
    declared: ClusterSpec, state: Observed, azure: AzureReading, migrations: Mapping[str, Sequence[Migration]]
) -> tuple[Drift, ...]:
    services = service_drift(declared.services, migrations, state.services)
    return (*find_drift(declared, state, azure), *services)


def as_declared(declared: ClusterSpec) -> tuple[Observed, AzureReading]:
    """What is observed of a cluster on which everything is as the stack file says."""
    roles, schemas = {}, {}
    for service in declared.services:
        path = None if service.schema_name == service.role_name else f'"{service.schema_name}", public'
        roles[service.role_name] = Role(service.role_name, True, service.connection_limit, path, True, True)
        grants = {grant.role: frozenset(grant.privileges) for grant in service.grants}
        colocation = 7 if service.sharding == "schema" else None
        schemas[service.schema_name] = Schema(
            service.schema_name, service.role_name, colocation, table_of(service),
            usage=frozenset({*grants, service.role_name}), default_grants=grants,
        )  # fmt: skip
    ran = {name: tuple(AppliedMigration(m.name, m.sha256) for m in found) for name, found in MIGRATIONS.items()}
    server = ServerReading(
        declared.name, "Ready", declared.nodes, declared.postgres_version, declared.compute.sku, declared.compute.tier,
        declared.location, "host", declared.administrator_login, declared.database, declared.high_availability,
        declared.storage.size_gb, "/id", declared.backup.retention_days, declared.network.public_access,
    )  # fmt: skip
    seen = cluster([], declared.nodes, server=server)
    state = Observed(
        **{one.name: getattr(seen, one.name) for one in fields(seen)},
        services=ServicesState(roles, schemas, ran, True),
    )
    rules = [
        FirewallRuleReading(rule.name, rule.start_ip, rule.end_ip or rule.start_ip)
        for rule in declared.network.firewall_rules
    ]
    return state, AzureReading({name: parameter(value) for name, value in declared_parameters(declared).items()}, rules)


def drift(change: Callable[[Observed, AzureReading], tuple[Observed, AzureReading]]) -> tuple[Drift, ...]:
    declared = spec(**DECLARED)
    state, azure = change(*as_declared(declared))
    return all_drift(declared, state, azure, MIGRATIONS)


@given(
    nodes=st.integers(2, 20),
    ha=st.sampled_from(["Disabled", "SameZone", "ZoneRedundant"]),
    pooled=st.booleans(),
    services=st.lists(st.sampled_from(SERVICES), unique_by=lambda service: str(service["name"])),
    days=st.integers(7, 35),
)
def test_a_cluster_as_declared_has_no_drift(
    nodes: int, ha: str, pooled: bool, services: list[dict[str, Any]], days: int
) -> None:
    declared = spec(
        nodes, **DECLARED | {"services": services}, highAvailability=ha, pgbouncer={"enabled": pooled},
        backup={"retentionDays": days},
    )  # fmt: skip
    state, azure = as_declared(declared)
    known = {name: MIGRATIONS[name] for name in MIGRATIONS if name in {service["name"] for service in services}}
    assert all_drift(declared, state, azure, known) == ()


def server(**changes: Any) -> Any:
    return lambda state, azure: (replace(state, server=replace(state.server, **changes)), azure)


def node(**changes: Any) -> Any:
    return lambda state, azure: (replace(state, nodes=(*state.nodes[:-1], replace(state.nodes[-1], **changes))), azure)


def parameters(**changes: Any) -> Any:
    return lambda state, azure: (state, replace(azure, parameters={**azure.parameters, **changes}))


def role(name: str, **changes: Any) -> Any:
    def change(state: Observed, azure: AzureReading) -> tuple[Observed, AzureReading]:
        roles = {**state.services.roles, name: replace(state.services.roles[name], **changes)}
        return replace(state, services=replace(state.services, roles=roles)), azure

    return change


def schema(name: str, **changes: Any) -> Any:
    def change(state: Observed, azure: AzureReading) -> tuple[Observed, AzureReading]:
        schemas = {**state.services.schemas, name: replace(state.services.schemas[name], **changes)}
        return replace(state, services=replace(state.services, schemas=schemas)), azure

    return change


def table(schema_name: str, name: str, **changes: Any) -> Any:
    def change(state: Observed, azure: AzureReading) -> tuple[Observed, AzureReading]:
        tables = dict(state.services.schemas[schema_name].tables)
        tables[name] = replace(tables[name], **changes)
        return schema(schema_name, tables=tables)(state, azure)  # type: ignore[no-any-return]

    return change


def without(kind: str, name: str) -> Any:
    def change(state: Observed, azure: AzureReading) -> tuple[Observed, AzureReading]:
        left = {key: value for key, value in getattr(state.services, kind).items() if key != name}
        return replace(state, services=replace(state.services, **{kind: left})), azure

    return change


def rules(*found: FirewallRuleReading) -> Any:
    return lambda state, azure: (state, replace(azure, firewall_rules=list(found)))


OFFICE = FirewallRuleReading("office", "192.0.2.1", "192.0.2.9")
PENDING = Parameter("32", "32", "user-override", read_only=False, dynamic=False, pending_restart=True)


@pytest.mark.parametrize(
    ("change", "named", "mended"),
    [
        (server(nodes=2), "server contoso: nodes", "orchestrator scale-out"),
        (server(nodes=8), "server contoso: nodes", "write nodes: 8"),
        (server(sku="Standard_D8ds_v5"), "server contoso: compute.sku", "pulumi up"),
        (server(ha_mode="ZoneRedundant"), "server contoso: highAvailability", "pulumi up"),
        (server(storage_gb=256), "server contoso: storage.sizeGb", "pulumi up"),
        (server(backup_days=35), "server contoso: backup.retentionDays", "pulumi up"),
        (server(public_access=False), "server contoso: network.publicAccess", "pulumi up"),
        (server(version="16"), "server contoso: postgresVersion", "fixed at creation"),
        (node(should_have_shards=False), "node 4 (10.7.0.254:7003)", "shouldhaveshards"),
        (node(active=False), "node 4 (10.7.0.254:7003)", "citus_activate_node"),
        (node(metadata_synced=False), "node 4 (10.7.0.254:7003)", "start_metadata_sync_to_node"),
        (parameters(**{"citus.shard_count": parameter("64")}), "parameter citus.shard_count", "pulumi up"),
        (parameters(**{"pgbouncer.pool_mode": parameter("session")}), "parameter pgbouncer.pool_mode", "pulumi up"),
        (parameters(**{"citus.shard_count": PENDING}), "parameter citus.shard_count", "restart the server"),
        (rules(), "firewall rule office", "pulumi up"),
        (rules(replace(OFFICE, end_ip="192.0.2.255")), "firewall rule office", "pulumi up"),
        (rules(OFFICE, FirewallRuleReading("all", "198.51.100.0", "203.0.113.255")), "firewall rule all", "delete it"),
        (without("roles", "orders"), "role orders", "orchestrator apply"),
        (role("orders", can_login=False), "role orders", "orchestrator apply"),
        (role("orders", logs_in=False), "role orders", "orchestrator apply"),
        (role("orders", superuser=True), "role orders", "NOSUPERUSER"),
        (role("reports", connection_limit=-1), "role reports: connection limit", "orchestrator apply"),
        (role("orders", admin_is_member=False), "role orders", "orchestrator apply"),
        (role("orders", search_path="public"), "role orders: search_path", "orchestrator apply"),
        (without("schemas", "orders"), "schema orders", "orchestrator apply"),
        (schema("orders", owner="clusteradmin"), "schema orders: owner", "orchestrator apply"),
        (schema("orders", colocation_id=None), "schema orders", "orchestrator apply"),
        (schema("events", colocation_id=9), "schema events", "citus_schema_undistribute"),
        (table("events", "log", distribution_column="id"), "table events.log", "undistribute_table"),
        (table("events", "log", kind="local", distribution_column=None), "table events.log", "orchestrator apply"),
        (table("events", "countries", kind="local"), "table events.countries", "orchestrator apply"),
        (table("orders", "items", owner="clusteradmin"), "table orders.items: owner", "orchestrator apply"),
        (table("orders", "items", grants={}), "table orders.items: reports", "orchestrator apply"),
        (
            table("orders", "items", grants={"reports": frozenset({"SELECT"}), "public": frozenset({"SELECT"})}),
            "table orders.items: public",
            "REVOKE",
        ),
        (
            table("orders", "items", grants={"reports": frozenset({"SELECT", "DELETE"})}),
            "table orders.items: reports",
            "REVOKE",
        ),
        (schema("orders", default_grants={}), "tables that orders will have: reports", "orchestrator apply"),
        (schema("orders", usage=frozenset({"orders"})), "schema orders: reports", "orchestrator apply"),
        (schema("orders", usage=frozenset({"reports", "events"})), "schema orders: events", "REVOKE"),
        (without("migrations", "orders"), "migration 001.sql of orders", "orchestrator apply"),
    ],
)
def test_one_seeded_difference_is_found_alone(change: Any, named: str, mended: str) -> None:
    (found,) = drift(change)
    assert found.object == named
    assert mended in found.mend
    assert found.declared != found.found


def test_what_the_stack_file_does_not_name_is_left_alone() -> None:
    assert drift(parameters(work_mem=parameter("65536"))) == ()


def test_on_and_true_are_the_same_to_azure() -> None:
    assert drift(parameters(jit=parameter("OFF"), **{"pgbouncer.enabled": parameter("on")})) == ()


def test_a_changed_migration_is_told() -> None:
    declared = spec(**DECLARED)
    state, azure = as_declared(declared)
    changed = {"orders": (replace(MIGRATIONS["orders"][0], sha256="b" * 64),)}
    (found,) = all_drift(declared, state, azure, changed)
    assert (found.object, found.found) == ("migration 001.sql of orders", "changed since")
