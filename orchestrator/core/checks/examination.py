"""What doctor finds: what was looked at, whether it is well, and what was seen. Azure's side is judged here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.observed.metrics import FULL, METRICS, Reading
from orchestrator.core.observed.server import Parameter, ServerReading
from orchestrator.core.outlook.connections import CLIENTS, MAX, Pools, budget

IDLE = "idle_in_transaction_session_timeout"
# Those that decide about what a service meets at a port.
PARAMETERS = (
    "pgbouncer.enabled", "pgbouncer.pool_mode", "pgbouncer.max_prepared_statements", "pgbouncer.default_pool_size",
    "pgbouncer.max_client_conn", "pgbouncer.query_wait_timeout", "pgbouncer.server_idle_timeout", MAX, CLIENTS, IDLE,
    "citus.max_shared_pool_size", "citus.node_connection_timeout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    seen: str


def judge_server(spec: ClusterSpec, server: ServerReading, parameters: Mapping[str, Parameter]) -> Iterator[Finding]:
    """The server and its parameters, in the order in which they are shown."""
    size = f"{server.nodes} nodes of {server.sku}, PostgreSQL {server.version}"
    yield Finding("server", server.state == "Ready", f"{server.state}, {size}")
    yield _availability(spec, server)
    yield from _pooler(spec, parameters)
    yield from _connections(spec, server, parameters)
    yield from _others(parameters)


def _availability(spec: ClusterSpec, server: ServerReading) -> Finding:
    mode, state = server.ha_mode or "Disabled", server.ha_state
    if mode != spec.high_availability:
        fix = "set it there with `pulumi up`, or write into the stack file what is meant"
        return Finding("high availability", False, f"{mode}, but the stack file says {spec.high_availability}: {fix}")
    if mode == "Disabled":
        return Finding("high availability", True, "Disabled: a node that fails is away until it has been restarted")
    if state not in {"", "Healthy"}:
        return Finding("high availability", False, f"{mode}, but its standbys are {state}: no failover until Healthy")
    said = "Healthy" if state else "Azure does not tell the standbys' state for a cluster"
    return Finding("high availability", True, f"{mode}, {said}")


def _pooler(spec: ClusterSpec, parameters: Mapping[str, Parameter]) -> Iterator[Finding]:
    enabled = _value(parameters, "pgbouncer.enabled").lower() in {"true", "on"}
    if spec.pgbouncer.enabled != enabled:
        said = "enabled" if enabled else "not enabled, so nothing answers at the pooled ports"
        declared = "true" if spec.pgbouncer.enabled else "false"
        yield Finding("pgbouncer.enabled", False, f"{said}; the stack file says {declared}: `pulumi up` sets it")
    if not enabled:
        return
    mode = _value(parameters, "pgbouncer.pool_mode")
    if mode != spec.pgbouncer.pool_mode:
        said = f"{mode}; the stack file, and so what `connection` prints, says {spec.pgbouncer.pool_mode}"
        yield Finding("pgbouncer.pool_mode", False, f"{said}: `pulumi up` sets it")
    kept = _value(parameters, "pgbouncer.max_prepared_statements")
    if mode == "transaction" and kept == "0":
        yield Finding(
            "pgbouncer.max_prepared_statements", False,
            "0: drivers' prepared statements break through the pooled ports; set "
            "elastic-cluster:pgbouncer.maxPreparedStatements: 200, or turn them off in every driver",
        )  # fmt: skip
    elif kept:
        yield Finding("pgbouncer.max_prepared_statements", True, kept)
    if _value(parameters, "pgbouncer.query_wait_timeout") == "0":
        said = (
            "0: a query waits for ever when the pool is used up; set elastic-cluster:serverParameters to 120 (seconds)"
        )
        yield Finding("pgbouncer.query_wait_timeout", False, said)


def _connections(spec: ClusterSpec, server: ServerReading, parameters: Mapping[str, Parameter]) -> Iterator[Finding]:
    values = {name: parameter.value for name, parameter in parameters.items() if name in {MAX, CLIENTS}}
    if spec.endpoint is not None and MAX not in values:
        return  # a lab's number is not that of a compute size
    size = _value(parameters, "pgbouncer.default_pool_size")
    enabled = _value(parameters, "pgbouncer.enabled").lower() in {"true", "on"} and size.isdigit()
    pools = Pools(len(spec.services), int(size)) if enabled and spec.services else None
    found = budget(server.nodes, server.nodes, server.sku, server.tier, values, pools)
    if found is None:
        return
    said = f"a node takes {found.clients} client connections of {found.max_connections}"
    fits = found.pool_size is None or pools is None or found.pool_size >= pools.pool_size
    yield Finding("connections", fits, said if fits else f"{said}: {found.note}")


def _others(parameters: Mapping[str, Parameter]) -> Iterator[Finding]:
    if _value(parameters, IDLE) == "0":
        said = "0: a transaction that waits for its client holds up the cut-over of moving shards for ever; the pooled "
        said += (
            "ports cannot set it, so set it for the roles (ALTER ROLE ... SET) or in elastic-cluster:serverParameters"
        )
        yield Finding(IDLE, True, said)
    for name, parameter in parameters.items():
        if parameter.pending_restart:
            said = f"{parameter.value} holds only after a restart: `az postgres flexible-server restart`, in a window"
            yield Finding(name, False, said)


def _value(parameters: Mapping[str, Parameter], name: str) -> str:
    return parameters[name].value if name in parameters else ""


def judge_metrics(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Of the last hour."""
    for name, unit in METRICS.items():
        for one in (one for one in readings if one.metric == name):
            where = f"{name} of {one.node}" if one.node else name
            full = name == "storage_percent" and one.maximum >= FULL
            said = f"{one.average:.1f}{unit} on average, {one.maximum:.1f}{unit} at most, in {one.minutes} minutes"
            yield Finding(where, not full, said + (": grow the storage, or add nodes and rebalance" if full else ""))
