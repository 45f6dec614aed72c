"""Preflight on a cluster made bad on purpose: each check fires and names the object, and none fires on a clean one.

What an administrator can spoil is tried on every engine; what needs a worker of its own, on real Citus only.
"""

# ruff: noqa: E501
# Tables of damage are easier to read with a line for each.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.clients.checks.preflight import LONG, PreflightClient
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.core.checks.preflight import Facts, Finding, find
from orchestrator.core.checks.preflight_checks import CHECKS
from orchestrator.core.observed.state import RebalanceJob
from tests.fix_lab import Cluster, superuser

PREPARE = (
    "CREATE ROLE flight LOGIN",
    "GRANT flight TO CURRENT_USER",
    "CREATE SCHEMA flight AUTHORIZATION flight",
    "SELECT citus_schema_distribute('flight')",
    "CREATE TABLE flight.t (id bigint PRIMARY KEY)",
    "ALTER TABLE flight.t OWNER TO flight",
)
SHRUNK = """
    CREATE OR REPLACE FUNCTION pg_catalog.citus_local_disk_space_stats(
        OUT available_disk_size bigint, OUT total_disk_size bigint)
    RETURNS record LANGUAGE sql AS 'SELECT {free}::bigint, 1000::bigint'
"""
RIGHT_DISK = """
    CREATE OR REPLACE FUNCTION pg_catalog.citus_local_disk_space_stats(
        OUT available_disk_size bigint, OUT total_disk_size bigint)
    RETURNS record LANGUAGE C STRICT AS 'citus', 'citus_local_disk_space_stats'
"""
# As the administrator: what is done, what undoes it, the check, a word of the object that it names.
BY_ADMIN = (
    ("ALTER TABLE flight.t DROP CONSTRAINT t_pkey", "ALTER TABLE flight.t ADD PRIMARY KEY (id)", "replica identity", "flight.t"),
    ("ALTER ROLE flight NOLOGIN", "ALTER ROLE flight LOGIN", "owner's login", "flight"),
    ("CREATE DOMAIN flight.word AS text", "DROP DOMAIN flight.word", "domains", "flight.word"),
    (
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.a (id int PRIMARY KEY);"
        "CREATE TABLE two.b (id int REFERENCES one.a)",
        "DROP TABLE two.b; DROP TABLE one.a; DROP SCHEMA one; DROP SCHEMA two", "foreign keys", "two.b",
    ),
    (
        "CREATE ROLE chain LOGIN; CREATE ROLE last; GRANT flight TO chain WITH ADMIN OPTION; GRANT chain TO CURRENT_USER;"
        "SET ROLE chain; GRANT flight TO last; RESET ROLE",
        "SET ROLE chain; REVOKE flight FROM last; RESET ROLE; REVOKE flight FROM chain; DROP ROLE last; DROP ROLE chain",
        "granted by", "flight to last",
    ),
)  # fmt: skip
# As superuser on a worker of real Citus.
ON_WORKER = (
    ("CREATE PUBLICATION citus_shard_move_publication_1", "DROP PUBLICATION citus_shard_move_publication_1", "leftovers", "publication"),
    (
        "SELECT pg_create_physical_replication_slot('citus_shard_move_slot_1')",
        "SELECT pg_drop_replication_slot('citus_shard_move_slot_1')", "leftovers", "replication slot",
    ),
    (
        "CREATE ROLE citus_shard_move_subscription_role_1",
        "DROP ROLE citus_shard_move_subscription_role_1", "leftovers", "role citus_shard_move",
    ),
    ("UPDATE pg_dist_placement SET shardlength = 0, groupid = groupid + 10", "UPDATE pg_dist_placement SET groupid = groupid - 10", "metadata", "placements"),
    ("ALTER TABLE flight.t REPLICA IDENTITY FULL", "ALTER TABLE flight.t REPLICA IDENTITY DEFAULT", "tables", "flight.t"),
    ("ALTER ROLE flight SET work_mem TO '9MB'", "ALTER ROLE flight RESET work_mem", "role settings", "work_mem=9MB, missing"),
    ("ALTER ROLE flight NOLOGIN", "ALTER ROLE flight LOGIN", "roles", "role flight"),
    ("GRANT CREATE ON DATABASE citus TO flight", "REVOKE CREATE ON DATABASE citus FROM flight", "database grants", "CREATE on the database to flight"),
    ("UPDATE pg_extension SET extversion = '0' WHERE extname = 'plpgsql'", "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'plpgsql'", "extensions", "plpgsql"),
    (SHRUNK.format(free=50), RIGHT_DISK, "disk", "node"),
    (SHRUNK.format(free=500), RIGHT_DISK, "room for WAL", "node"),
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(cluster: Cluster) -> Iterator[Any]:
    with closing(cluster.connect()) as connection:
        for statement in PREPARE:
            connection.execute(statement)
        yield connection
        connection.execute("DROP SCHEMA flight CASCADE")
        connection.execute("DROP ROLE flight")


def read(cluster: Cluster, connection: Any, long: int = LONG, pools: int = 0) -> Facts:
    with CitusClient(cluster.connect, "lab") as citus:
        state = citus.observe()
    return PreflightClient(lambda: connection).read(state, pools, long)


def assert_fires(facts: Facts, check: str, named: str) -> Finding:
    found = find(facts, CHECKS)
    fitting = [one for one in found if one.check == check and named in one.object]
    assert fitting, found
    assert fitting[0].consequence
    assert fitting[0].fix
    return fitting[0]


def run_all(connection: Any, statements: str) -> None:
    for statement in statements.split(";") if "FUNCTION" not in statements else [statements]:
        connection.execute(statement)


def test_a_clean_cluster_has_no_finding(cluster: Cluster, prepared: Any) -> None:
    assert find(read(cluster, prepared), CHECKS) == ()


@pytest.mark.parametrize(("spoil", "mend", "check", "named"), BY_ADMIN, ids=[row[2] for row in BY_ADMIN])
def test_what_an_administrator_spoils(
    cluster: Cluster, prepared: Any, spoil: str, mend: str, check: str, named: str
) -> None:
    run_all(prepared, spoil)
    try:
        facts = read(cluster, prepared)
    finally:
        run_all(prepared, mend)
    assert_fires(facts, check, named)


@pytest.mark.parametrize(
    ("spoil", "mend", "check", "named"), ON_WORKER, ids=[f"{row[2]} {row[3]}" for row in ON_WORKER]
)
def test_what_is_wrong_on_a_worker(
    cluster: Cluster, prepared: Any, spoil: str, mend: str, check: str, named: str
) -> None:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: all nodes are one server")
    # The shard's own node, so that what is about shards is seen there.
    port = prepared.execute("SELECT max(nodeport) FROM pg_dist_node WHERE groupid <> 0").fetchone()[0]
    prepared.execute(
        "SELECT citus_schema_move('flight', nodeid, shard_transfer_mode := 'block_writes') FROM pg_dist_node"
        " WHERE nodeport = %s AND NOT EXISTS (SELECT FROM citus_shards WHERE citus_shards.nodeport = %s)",
        (port, port),
    )
    prepared.execute("CALL citus_cleanup_orphaned_resources()")
    with superuser(cluster, port) as worker:
        worker.execute("SET citus.enable_ddl_propagation TO off")
        run_all(worker, spoil)
        try:
            facts = read(cluster, prepared)
        finally:
            run_all(worker, mend)
    assert_fires(facts, check, named)


def test_a_transaction_that_is_open_for_long(cluster: Cluster, prepared: Any) -> None:
    with closing(cluster.connect()) as other:
        other.execute("BEGIN")
        assert_fires(read(cluster, prepared, long=0), "long transactions", "process")


def test_more_pools_than_connections(cluster: Cluster, prepared: Any) -> None:
    assert_fires(read(cluster, prepared, pools=100_000), "connections", "node")


def test_an_owner_without_the_administrator(cluster: Cluster, prepared: Any) -> None:
    prepared.execute("REVOKE flight FROM CURRENT_USER")
    try:
        facts = read(cluster, prepared)
    finally:
        prepared.execute("GRANT flight TO CURRENT_USER")
    assert assert_fires(facts, "membership", "flight").grade == "stops"


def test_a_rebalance_under_way_and_settings_of_an_interrupted_run(cluster: Cluster, prepared: Any) -> None:
    facts = read(cluster, prepared)
    running = replace(facts.state, job=RebalanceJob(7, "running"), executors=(4, 1), kept_settings={"a": "1"})
    assert_fires(replace(facts, state=running), "rebalance", "job 7")
    assert_fires(replace(facts, state=running), "executors", "4 moves at once, 1 per node")
    assert_fires(replace(facts, state=running), "kept settings", "a")


def test_nodes_that_are_off_the_cluster(cluster: Cluster, prepared: Any) -> None:
    facts = read(cluster, prepared)
    first, *rest = facts.state.nodes
    for change, check in (
        ({"active": False}, "active"), ({"metadata_synced": False}, "synced"),
        ({"should_have_shards": False}, "may hold shards"),
    ):  # fmt: skip
        state = replace(facts.state, nodes=(replace(first, **change), *rest))
        assert_fires(replace(facts, state=state), check, f"node {first.node_id}")


def test_settings_that_are_too_small(cluster: Cluster, prepared: Any) -> None:
    facts = read(cluster, prepared)
    facts = replace(facts, state=replace(facts.state, citus_version="Citus 13.2"))
    bad = {
        "wal_level": "replica", "max_prepared_transactions": "1", "max_worker_processes": "2",
        "max_replication_slots": "1", "max_wal_senders": "0", "max_logical_replication_workers": "0",
    }  # fmt: skip
    node = replace(facts.nodes[0], settings=bad)
    for check in bad:
        assert_fires(replace(facts, nodes=(node, *facts.nodes[1:])), check, node.name)
