"""Preflight on a real cluster that is made bad in one way after the other, and mended again: every check fires.

One lab of three nodes with real Citus for the whole module. What an ordinary administrator can spoil on every engine is
in test_preflight.py. Every reading goes the way of `orchestrator preflight`: one observation, then the checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.lab.discover import make
from orchestrator.lab.home import LabHome
from tests.clients.preflight_lab import RELOAD, SCHEMAS, Lab, move_away, move_to, place
from tests.fix_lab import ROOT, Cluster, engines, running_cluster, superuser

pytestmark = pytest.mark.skipif(
    not engines()["native"].available, reason=f"engine native: {engines()['native'].reason}"
)


@pytest.fixture(scope="module")
def cluster(lab_base: Path) -> Iterator[Cluster]:
    with running_cluster(LabHome.of(ROOT, "test-preflight", lab_base), "native", 3) as made:
        with closing(made.connect()) as admin:
            for schema in SCHEMAS:
                name = sql.Identifier(schema)
                admin.execute(sql.SQL("CREATE SCHEMA {}").format(name))
                admin.execute("SELECT citus_schema_distribute(%s::regnamespace)", (schema,))
                admin.execute(sql.SQL("CREATE TABLE {}.t (id bigint PRIMARY KEY)").format(name))
        # Else Citus' daemon might clean up between a move and the look at what it left.
        with superuser(made, made.port) as connection:
            connection.execute("ALTER SYSTEM SET citus.defer_shard_delete_interval = -1")
            connection.execute(RELOAD)
        yield made


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Lab]:
    """Clean before the test, which mends what it has spoilt, and after it."""
    with closing(cluster.connect()) as admin:
        made = Lab(cluster, admin)
        made.assert_clean()
        yield made
        made.assert_clean()


def test_a_node_that_is_down(lab: Lab) -> None:
    """With its shards on it."""
    port = lab.ports[2]
    move_to(lab, "six", port)
    lab.admin.execute("CALL citus_cleanup_orphaned_resources()")
    server = lab.server(port)
    server.stop()
    try:
        finding = lab.assert_fires("reachable", str(port), "stops")
        assert "does not answer" in finding.consequence
        lab.assert_fires("node connections", "", "stops")
    finally:
        server.start()


def test_a_node_that_does_not_reach_the_others(lab: Lab) -> None:
    """Its certificate is gone from its settings, so the others refuse it; the coordinator reaches all."""
    port = lab.ports[1]
    lab.on(port, "ALTER SYSTEM SET citus.node_conninfo = 'sslmode=disable'", RELOAD)
    try:
        finding = lab.assert_fires("node connections", str(port), "stops")
        assert "does not reach node" in finding.consequence
    finally:
        lab.on(port, "ALTER SYSTEM RESET citus.node_conninfo", RELOAD)


def test_what_a_move_leaves_until_it_is_cleaned_up(lab: Lab) -> None:
    """The record and the old copy, as after any move. Without the record nobody would ever drop the copy."""
    shard = place(lab, "one")[2]
    left = move_away(lab, "one")
    try:
        lab.assert_fires("clean-up", f"t_{shard}", "warns")
        lab.on(lab.ports[0], "DELETE FROM pg_dist_cleanup")
        finding = lab.assert_fires("orphaned shards", f"one.t_{shard} on node", "warns")
        assert str(left) in finding.object
        assert "enable_manual_changes_to_shards" in finding.fix
    finally:
        with superuser(lab.cluster, left) as connection:
            connection.execute("SET citus.enable_manual_changes_to_shards TO on")
            connection.execute(sql.SQL("DROP TABLE one.{}").format(sql.Identifier(f"t_{shard}")))


def test_an_abandoned_prepared_transaction(lab: Lab) -> None:
    port = lab.ports[1]
    lab.on(port, "BEGIN", "CREATE TABLE public.abandoned (id int)", "PREPARE TRANSACTION 'of a lost application'")
    try:
        finding = lab.assert_fires("abandoned transactions", "of a lost application", "warns", long=0)
        assert str(port) in finding.object
    finally:
        lab.on(port, "ROLLBACK PREPARED 'of a lost application'")


def test_sizes_that_the_administrator_may_not_read(lab: Lab) -> None:
    """A schema made by somebody else hides the sizes of everything on its node."""
    with superuser(lab.cluster, lab.ports[0]) as other:
        other.execute("CREATE SCHEMA foreign_one")
        other.execute("SELECT citus_schema_distribute('foreign_one')")
        other.execute("CREATE TABLE foreign_one.t (id bigint PRIMARY KEY)")
        try:
            lab.assert_fires("sizes", "shard group", "stops")
            lab.assert_fires("membership", "postgres", "stops")
        finally:
            other.execute("DROP SCHEMA foreign_one CASCADE")


def test_a_shard_that_is_not_as_its_table(lab: Lab) -> None:
    port, _, shard = place(lab, "two")
    name = sql.Identifier(f"t_{shard}")
    with superuser(lab.cluster, port) as node:
        node.execute("SET citus.enable_manual_changes_to_shards TO on")
        node.execute(sql.SQL("ALTER TABLE two.{} ADD COLUMN surplus int").format(name))
        try:
            lab.assert_fires("shards", "two.t", "warns")
        finally:
            node.execute(sql.SQL("ALTER TABLE two.{} DROP COLUMN surplus").format(name))


def test_a_disabled_node(lab: Lab) -> None:
    """The finding's own statement mends it."""
    port = lab.ports[2]
    for schema in SCHEMAS:
        if place(lab, schema)[0] == port:
            move_away(lab, schema)
    lab.admin.execute("CALL citus_cleanup_orphaned_resources()")
    with superuser(lab.cluster, lab.ports[0]) as coordinator:
        coordinator.execute(
            "SELECT citus_disable_node(nodename, nodeport, true) FROM pg_dist_node WHERE nodeport = %s", (port,)
        )
        finding = lab.assert_fires("active", str(port), "stops")
        coordinator.execute(finding.fix)


def test_a_node_without_metadata(lab: Lab) -> None:
    lab.on(lab.ports[0], "UPDATE pg_dist_node SET metadatasynced = false WHERE groupid = 2")
    try:
        lab.assert_fires("synced", str(lab.ports[2]), "stops")
    finally:
        lab.on(lab.ports[0], "UPDATE pg_dist_node SET metadatasynced = true WHERE groupid = 2")


def test_a_node_that_may_hold_no_shards(lab: Lab) -> None:
    """The finding's own statement mends it."""
    with superuser(lab.cluster, lab.ports[0]) as coordinator:
        coordinator.execute(
            "SELECT citus_set_node_property(nodename, nodeport, 'shouldhaveshards', false) FROM pg_dist_node"
            " WHERE groupid = 2"
        )
        finding = lab.assert_fires("may hold shards", str(lab.ports[2]), "warns")
        coordinator.execute(finding.fix)


TOO_SMALL = {
    "wal_level": ("replica", "stops"), "max_prepared_transactions": ("1", "warns"),
    "max_worker_processes": ("2", "warns"), "max_replication_slots": ("1", "warns"),
    "max_wal_senders": ("1", "warns"), "max_logical_replication_workers": ("1", "warns"),
}  # fmt: skip


def test_settings_that_are_too_small(lab: Lab) -> None:
    """All of them at once on one node, which takes them with a restart."""
    port = lab.ports[1]
    server = lab.server(port)
    with superuser(lab.cluster, port) as node:
        for name, (value, _) in TOO_SMALL.items():
            node.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    server.stop()
    server.start()
    try:
        found = lab.findings()
        for name, (_, grade) in TOO_SMALL.items():
            assert [one for one in found if (one.check, one.grade) == (name, grade) and str(port) in one.object], name
    finally:
        with superuser(lab.cluster, port) as node:
            for name in TOO_SMALL:
                node.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))
        server.stop()
        server.start()


def test_executors_of_which_only_one_is_raised(lab: Lab) -> None:
    with lab.everywhere("citus.max_background_task_executors_per_node", "2"):
        lab.assert_fires("executors", "1 moves at once, 2 per node", "informs")


def test_settings_that_an_interrupted_run_has_raised(lab: Lab) -> None:
    with CitusClient(lab.cluster.connect, "lab") as citus:
        citus.keep_settings({"citus.max_background_task_executors": "1"})
        try:
            lab.assert_fires("kept settings", "citus.max_background_task_executors", "informs")
        finally:
            citus.forget_settings()


def test_a_rebalance_that_is_under_way(lab: Lab) -> None:
    """All schemas on the coordinator, so that Citus finds something to move."""
    for schema in SCHEMAS:
        move_to(lab, schema, lab.ports[0])
    lab.admin.execute("CALL citus_cleanup_orphaned_resources()")
    job = lab.admin.execute("SELECT citus_rebalance_start('by_shard_count')").fetchone()[0]
    try:
        lab.assert_fires("rebalance", f"job {job}", "warns")
    finally:
        lab.admin.execute("SELECT citus_rebalance_stop()")
        lab.admin.execute("SELECT citus_job_wait(%s)", (job,))
        lab.admin.execute("CALL citus_cleanup_orphaned_resources()")


@contextmanager
def base_cost(lab: Lab, value: LiteralString) -> Iterator[None]:
    """In place of 100 MB, so that a few megabytes of rows show what it does."""
    name = "citus.rebalancer_by_disk_size_base_cost"
    lab.admin.execute(sql.SQL("ALTER ROLE clusteradmin SET {} = {}").format(sql.SQL(name), sql.Literal(value)))
    try:
        yield
    finally:
        lab.admin.execute(sql.SQL("ALTER ROLE clusteradmin RESET {}").format(sql.SQL(name)))
        for schema in SCHEMAS:
            lab.admin.execute(sql.SQL("TRUNCATE {}.t").format(sql.Identifier(schema)))


def test_a_group_that_is_more_than_a_nodes_share(lab: Lab) -> None:
    with base_cost(lab, "1MB"):
        lab.admin.execute("INSERT INTO three.t SELECT generate_series(1, 100000)")
        lab.assert_fires("outlier", "three (", "warns")


def test_a_base_cost_that_hides_the_bytes(lab: Lab) -> None:
    """Two groups on each node, so that Citus moves nothing, and all rows on one of them."""
    for number, schema in enumerate(SCHEMAS):
        move_to(lab, schema, lab.ports[number // 2])
    lab.admin.execute("CALL citus_cleanup_orphaned_resources()")
    with base_cost(lab, "2MB"):
        for schema in ("one", "two"):
            lab.admin.execute(
                sql.SQL("INSERT INTO {}.t SELECT generate_series(1, 30000)").format(sql.Identifier(schema))
            )
        lab.assert_fires("base cost", "6 shard groups", "informs")


def test_a_node_that_joined_after_the_reference_tables(lab: Lab) -> None:
    """The last test: the cluster keeps its fourth node. Azure adds nodes as this does, without a rebalance."""
    lab.admin.execute("CREATE SCHEMA shared")
    lab.admin.execute("CREATE TABLE shared.countries (code text PRIMARY KEY)")
    lab.admin.execute("SELECT create_reference_table('shared.countries')")
    make("native", lab.cluster.home.settings()).resize(4, lambda _: None)
    try:
        lab.assert_fires("reference tables", "shared.countries on node", "warns")
    finally:
        lab.admin.execute("DROP SCHEMA shared CASCADE")
