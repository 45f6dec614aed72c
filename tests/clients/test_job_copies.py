"""What Citus' own job moves is compared by rows read on the source: losses are found, changes are no false alarm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from orchestrator.clients.checks.job_copies import JobCopies, Move
from tests.fix_lab import Cluster, superuser

ROWS = 400


class Moved:
    """A schema of which rows were read, and which was then moved with its writes blocked."""

    def __init__(self, cluster: Cluster, admin: psycopg.Connection[Any]) -> None:
        self.cluster, self.admin = cluster, admin
        admin.execute("CREATE SCHEMA jobbed")
        admin.execute("SELECT citus_schema_distribute('jobbed')")
        admin.execute('CREATE TABLE jobbed."odd Name" (a int, b text, payload text, PRIMARY KEY (a, b))')
        admin.execute("CREATE TABLE jobbed.keyless (note jsonb)")
        rows = f"SELECT i, 'key ' || i, repeat(md5(i::text), 20) FROM generate_series(1, {ROWS}) i"
        admin.execute(f'INSERT INTO jobbed."odd Name" {rows}')
        shard, source = admin.execute(
            "SELECT min(shardid), min(nodeid) FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)"
            " JOIN pg_dist_node USING (groupid) WHERE logicalrelid::text LIKE 'jobbed.%'"
        ).fetchone()  # type: ignore[misc]
        (target,) = admin.execute("SELECT nodeid FROM pg_dist_node WHERE nodeid <> %s", [source]).fetchone()  # type: ignore[misc]
        self.move = Move(shard, source, target)
        self.copies = JobCopies(cluster.connect, settle=0.1)
        self.copies.take(admin, self.move)
        admin.execute("SELECT citus_move_shard_placement(%s, %s, %s, 'block_writes')", [shard, source, target])

    def on_target(self, statement: str) -> None:
        """Change the new copy behind everybody's back, the counters included."""
        (port,) = self.admin.execute(
            "SELECT nodeport FROM pg_dist_node WHERE nodeid = %s", [self.move.target]
        ).fetchone()  # type: ignore[misc]
        (shard,) = self.admin.execute(
            "SELECT shard_name(logicalrelid, shardid) FROM pg_dist_shard WHERE logicalrelid::text LIKE '%odd Name%'"
        ).fetchone()  # type: ignore[misc]
        with superuser(self.cluster, port) as node:
            node.execute("SET citus.enable_manual_changes_to_shards TO on")
            node.execute("SET track_counts TO off")
            node.execute(statement.format(shard))


@pytest.fixture
def moved(cluster: Cluster) -> Iterator[Moved]:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: there is one copy of everything, placement is simulated")
    with cluster.connect() as admin:
        yield Moved(cluster, admin)
        admin.execute("DROP SCHEMA jobbed CASCADE")
        admin.execute("CALL citus_cleanup_orphaned_resources()")


def test_equal_copies_are_counted_and_so_is_what_cannot_be_compared(moved: Moved) -> None:
    found = moved.copies.end(moved=3)
    assert found.problems == ()
    assert (found.schemas, found.tables) == (1, 1)
    assert found.rows >= ROWS
    assert found.note == (
        "1 tables of 1 groups by a sample; not compared: 1 tables have no primary key, 2 groups had moved before they "
        "could be read"
    )


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM {} WHERE a = 7",
        "UPDATE {} SET payload = 'x' || substr(payload, 2) WHERE a = 7",
        "UPDATE {} SET b = b || ' ' WHERE a = 7",
    ],
)
def test_a_row_that_was_lost_or_changed_on_the_way_is_found(moved: Moved, damage: str) -> None:
    moved.on_target(damage)
    (problem,) = moved.copies.end(moved=1).problems
    assert problem.startswith(("1 of ", "2 of "))
    assert f'rows of jobbed.odd Name (shard jobbed."odd Name_{moved.move.shard_id}") that were on node' in problem
    assert f"on node {moved.move.target}, where nothing was changed or deleted" in problem


@pytest.mark.parametrize(
    "change",
    [
        'DELETE FROM jobbed."odd Name" WHERE a = 7',
        'UPDATE jobbed."odd Name" SET payload = payload || 1',
        'TRUNCATE jobbed."odd Name"',
        'ALTER TABLE jobbed."odd Name" ADD COLUMN later int DEFAULT 5',
    ],
)
def test_what_a_service_changed_meanwhile_is_no_false_alarm(moved: Moved, change: str) -> None:
    with moved.cluster.connect() as service:
        service.execute(change)
    found = moved.copies.end(moved=1)
    assert found.problems == ()
    assert "1 tables were changed meanwhile" in found.note
