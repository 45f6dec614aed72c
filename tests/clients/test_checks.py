"""The checks around the moves of a run, on real Citus: what they say of a run in which nothing went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.clients.checks.checks import MoveChecks
from orchestrator.core.events import MoveStarted, TableCompared
from tests.fix_lab import Cluster

MB = 2**20


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[Any]:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: placement is simulated, so nothing is checked around moves")
    with cluster.connect() as connection:
        connection.execute("CREATE SCHEMA around")
        connection.execute("SELECT citus_schema_distribute('around')")
        connection.execute("CREATE TABLE around.keyed (id bigserial PRIMARY KEY)")
        connection.execute("CREATE TABLE around.keyless (id int)")
        yield connection
        connection.execute("DROP SCHEMA around CASCADE")


def test_a_run_without_damage_tells_what_was_compared_and_what_was_not(cluster: Cluster, admin: Any) -> None:
    (shard,) = admin.execute(
        "SELECT shardid FROM pg_dist_shard WHERE logicalrelid = 'around.keyed'::regclass"
    ).fetchone()
    checks = MoveChecks(lambda: admin, cluster.connect)
    assert checks.begin() == ()
    large = MoveStarted(1, shard, "around", 1, 2, 2 * MB, "auto", "direct")
    checks.moved(large, [TableCompared("around.keyed", 240), TableCompared("around.keyless", None)])
    tiny = MoveStarted(1, shard + 1000, "tiny", 1, 2, 8192, "block_writes", "direct")
    checks.moved(tiny, [TableCompared("tiny.t", 7, "-12")])
    checks.moved(tiny, [])
    admin.execute("SELECT nextval('around.keyed_id_seq')")
    found = {finding.mode: finding for finding in checks.end()}
    checks.close()
    assert {mode: finding.problems for mode, finding in found.items()} == {
        "probe writes": (),
        "sequences": (),
        "copies of direct moves": (),
    }
    assert "sequences on 2 nodes" in found["sequences"].note
    copies = found["copies of direct moves"]
    assert (copies.schemas, copies.tables, copies.rows) == (2, 2, 247)
    assert copies.note == (
        "before their commit: 1 tables row by row, 1 by a sample; not compared: 1 large tables without a primary key "
        "(--verify full reads them), 1 groups that an earlier try of the same move had moved already"
    )


def test_a_sequence_that_is_set_back_is_found(cluster: Cluster, admin: Any) -> None:
    admin.execute("SELECT setval('around.keyed_id_seq', 70)")
    checks = MoveChecks(lambda: admin, cluster.connect)
    checks.begin()
    admin.execute("SELECT setval('around.keyed_id_seq', 69)")
    problems = [problem for finding in checks.end() for problem in finding.problems]
    checks.close()
    assert len(problems) == 1
    assert problems[0].startswith("sequence around.keyed_id_seq on node 1 (")
    assert problems[0].endswith("was set back from 70 to 69")
