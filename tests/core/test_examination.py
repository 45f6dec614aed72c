"""What doctor makes of the server and its parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.checks.examination import Finding, judge_metrics, judge_server
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.observed.metrics import Reading
from orchestrator.core.observed.server import Parameter, ServerReading

SERVER = ServerReading(
    name="elk", state="Ready", nodes=4, version="17", sku="Standard_D4ds_v5", tier="GeneralPurpose",
    location="northeurope", host="elk.postgres.database.azure.com", admin_login="admin", database="postgres",
    ha_mode="ZoneRedundant", storage_gb=128, resource_id="x",
)  # fmt: skip
WELL = {
    "pgbouncer.enabled": "true", "pgbouncer.pool_mode": "transaction", "pgbouncer.max_prepared_statements": "200",
    "pgbouncer.default_pool_size": "50", "pgbouncer.query_wait_timeout": "120", "max_connections": "1718",
    "citus.max_client_connections": "429", "idle_in_transaction_session_timeout": "60000",
}  # fmt: skip


def spec(**values: object) -> ClusterSpec:
    services = [{"name": name} for name in ("user", "time", "ping")]
    known = {"name": "elk", "resourceGroup": "rg", "location": "northeurope", "services": services}
    return ClusterSpec.model_validate(known | {"highAvailability": "ZoneRedundant"} | values)


def parameters(pending: str = "", **values: str) -> dict[str, Parameter]:
    named = WELL | {name.replace("__", "."): value for name, value in values.items()}
    return {name: Parameter(value, "", "", False, True, name == pending) for name, value in named.items()}


def ill(found: ClusterSpec, server: ServerReading, known: dict[str, Parameter]) -> dict[str, str]:
    return {one.what: one.seen for one in judge_server(found, server, known) if not one.ok}


def test_a_server_that_is_as_declared_is_well() -> None:
    assert ill(spec(), SERVER, parameters()) == {}
    shown = {one.what: one.seen for one in judge_server(spec(), SERVER, parameters())}
    assert shown["server"] == "Ready, 4 nodes of Standard_D4ds_v5, PostgreSQL 17"
    assert shown["high availability"].startswith("ZoneRedundant, Azure does not tell")
    assert shown["connections"] == "a node takes 429 client connections of 1718"


@pytest.mark.parametrize(
    ("values", "what", "fix"),
    [
        ({"pgbouncer__enabled": "false"}, "pgbouncer.enabled", "`pulumi up`"),
        ({"pgbouncer__pool_mode": "session"}, "pgbouncer.pool_mode", "`pulumi up`"),
        (
            {"pgbouncer__max_prepared_statements": "0"},
            "pgbouncer.max_prepared_statements",
            "pgbouncer.maxPreparedStatements: 200",
        ),
        ({"pgbouncer__query_wait_timeout": "0"}, "pgbouncer.query_wait_timeout", "120"),
        ({"pgbouncer__default_pool_size": "500"}, "connections", "pgbouncer.defaultPoolSize: 143 fits"),
        ({"citus__max_client_connections": "60"}, "connections", "pgbouncer.defaultPoolSize: 20 fits"),
    ],
)
def test_a_parameter_that_hurts_services_is_named_with_what_mends_it(
    values: dict[str, str], what: str, fix: str
) -> None:
    found = ill(spec(), SERVER, parameters(**values))
    assert list(found) == [what]
    assert fix in found[what]


def test_a_parameter_that_waits_for_a_restart_is_named() -> None:
    found = ill(spec(), SERVER, parameters("max_connections"))
    assert list(found) == ["max_connections"]
    assert "only after a restart" in found["max_connections"]


def test_the_server_and_its_standbys() -> None:
    assert list(ill(spec(), replace(SERVER, state="Updating"), parameters())) == ["server"]
    assert (
        "no failover until Healthy"
        in ill(spec(), replace(SERVER, ha_state="CreatingStandby"), parameters())["high availability"]
    )
    assert ill(spec(), replace(SERVER, ha_state="Healthy"), parameters()) == {}
    off = ill(spec(), replace(SERVER, ha_mode="Disabled"), parameters())
    assert "Disabled, but the stack file says ZoneRedundant" in off["high availability"]
    assert ill(spec(highAvailability="Disabled"), replace(SERVER, ha_mode="Disabled"), parameters()) == {}


def test_transactions_that_may_idle_for_ever_are_advised_against_but_no_illness() -> None:
    found = list(judge_server(spec(), SERVER, parameters(idle_in_transaction_session_timeout="0")))
    (one,) = [one for one in found if one.what == "idle_in_transaction_session_timeout"]
    assert one.ok
    assert "ALTER ROLE" in one.seen


def test_metrics_of_the_last_hour() -> None:
    readings = [Reading("cpu_percent", "", 12.0, 40.0, 60), Reading("storage_percent", "", 86.0, 91.5, 60)]
    assert list(judge_metrics(readings)) == [
        Finding("cpu_percent", True, "12.0% on average, 40.0% at most, in 60 minutes"),
        Finding(
            "storage_percent", False,
            "86.0% on average, 91.5% at most, in 60 minutes: grow the storage, or add nodes and rebalance",
        ),
    ]  # fmt: skip
