"""The contract for every engine, second part: rebalances, the ports, and Azure's control plane before the cluster."""

from __future__ import annotations

from functools import partial

import psycopg
import pytest

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.core.planning.placement import predict
from orchestrator.core.planning.steps import AT_ONCE
from tests.fix_sandbox import Sandbox
from tests.fix_standin import await_true

until = partial(await_true, seconds=60)


# Rebalancing


def crowded(sandbox: Sandbox, count: int = 6) -> list[str]:
    """Distributed schemas that are all on the coordinator."""
    schemas = [sandbox.schema(f"m{number}") for number in range(count)]
    first = sandbox.run("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")[0]
    for schema in schemas:
        if sandbox.place(schema) != first:
            sandbox.run(f"SELECT citus_schema_move('{schema}', '{first[0]}', {first[1]}, 'block_writes')")
    return schemas


def test_the_plan_of_the_rebalancer_is_what_the_predictor_says(sandbox: Sandbox) -> None:
    crowded(sandbox)
    with sandbox.cluster.connect() as connection:
        state = CitusClient(lambda: connection, "test").observe()
    predicted = predict(state.shard_groups, state.nodes, state.strategy(None)).moves
    rows = sandbox.run(
        "SELECT shardid, source.nodeid, target.nodeid FROM get_rebalance_table_shards_plan() plan"
        " JOIN pg_dist_node source ON (source.nodename, source.nodeport) = (plan.sourcename, plan.sourceport)"
        " JOIN pg_dist_node target ON (target.nodename, target.nodeport) = (plan.targetname, plan.targetport)"
    )
    assert [(move.shard_id, move.source, move.target) for move in predicted] == rows
    assert len(rows) == 3


def test_a_rebalance_is_a_job_that_moves_what_it_planned(sandbox: Sandbox) -> None:
    schemas = crowded(sandbox)
    sandbox.run(f"INSERT INTO {schemas[0]}.t SELECT i, i FROM generate_series(1, 1000) i")
    job = sandbox.run("SELECT citus_rebalance_start(shard_transfer_mode := 'block_writes')")[0][0]
    assert "Scheduled 3 moves as job " + str(job) in sandbox.notices
    assert sandbox.refused("SELECT citus_rebalance_start()") == f"XX000 A rebalance is already running as job {job}"
    state = sandbox.run("SELECT state::text, details->'task_state_counts' FROM citus_rebalance_status()")[0]
    assert state[0] in {"scheduled", "running", "finished"}
    assert sum(state[1].values()) == 3
    with sandbox.cluster.connect() as connection:
        client = CitusClient(lambda: connection, "test")
        until(lambda: not client.read_job(job).in_flight)
        ended = client.read_job(job)
    assert (ended.state, ended.done, len(ended.tasks)) == ("finished", 3, 3)
    assert all(task.shard_id for task in ended.tasks)
    places = [sandbox.place(schema) for schema in schemas]
    assert sorted(places.count(place) for place in set(places)) == [3, 3]
    assert sandbox.run(f"SELECT count(*) FROM {schemas[0]}.t") == [(1000,)]
    assert sandbox.run("SELECT citus_rebalance_start()") == [(None,)]
    assert "No moves available for rebalancing" in sandbox.notices


def test_a_stopped_rebalance_is_cancelled_and_the_rest_can_be_planned_again(sandbox: Sandbox) -> None:
    crowded(sandbox)
    job = sandbox.run("SELECT citus_rebalance_start()")[0][0]
    sandbox.run("SELECT citus_rebalance_stop()")
    with sandbox.cluster.connect() as connection:
        client = CitusClient(lambda: connection, "test")
        until(lambda: not client.read_job(job).in_flight)
        assert client.read_job(job).state == "cancelled"


def test_a_table_of_somebody_else_blocks_the_rebalance(sandbox: Sandbox) -> None:
    crowded(sandbox, 2)
    role = sandbox.role("svc")
    sandbox.run(f"GRANT {role} TO CURRENT_USER")
    schema = sandbox.schema("foreign")
    sandbox.run(f"GRANT CREATE ON SCHEMA {schema} TO {role}")
    sandbox.run(f"ALTER TABLE {schema}.t OWNER TO {role}")
    sandbox.run(f"REVOKE {role} FROM CURRENT_USER")
    try:
        assert sandbox.refused("SELECT citus_rebalance_start('by_shard_count')") == "42501 must be owner of table t"
    finally:
        sandbox.run(f"GRANT {role} TO CURRENT_USER")


def test_the_balanced_port_spreads_connections_over_all_nodes(sandbox: Sandbox) -> None:
    seen = set()
    for _ in range(6):
        with sandbox.cluster.connect(port=sandbox.cluster.balanced) as session:
            seen.add(session.execute("SELECT citus_is_coordinator()").fetchone())
    assert seen == {(True,), (False,)}


def test_the_pooled_port_lets_every_role_in_with_its_own_password(sandbox: Sandbox) -> None:
    if sandbox.cluster.pooled is None:
        pytest.skip("no pgbouncer was found on this machine")
    role = sandbox.role("svc")
    with sandbox.cluster.connect(role, f"secret-{role}", port=sandbox.cluster.pooled) as session:
        assert session.execute("SELECT current_user").fetchone() == (role,)
    with pytest.raises(psycopg.OperationalError):
        sandbox.cluster.connect(role, "wrong", port=sandbox.cluster.pooled)


# Azure's control plane in front of it


def test_a_parameter_set_through_arm_is_what_the_server_shows(sandbox: Sandbox) -> None:
    with ArmClient("sub", "lab", "lab-test", sandbox.cluster.arm) as arm:
        before = arm.read_parameters([AT_ONCE])[AT_ONCE]
        assert (before.value, before.default, before.read_only) == ("1", "1", False)
        for value in ("3", "1"):
            operation = arm.start_set_parameter(AT_ONCE, value)
            until(lambda op=operation: arm.read_operation(op).status != "InProgress")  # type: ignore[misc]
            assert arm.read_operation(operation).status == "Succeeded"
            until(lambda v=value: sandbox.run(f"SELECT current_setting('{AT_ONCE}')") == [(v,)])  # type: ignore[misc]
        server = arm.read_server()
    assert (server.nodes, server.database, server.admin_login, server.state) == (2, "citus", "clusteradmin", "Ready")
