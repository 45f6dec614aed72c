"""The stand-in plans as Citus does: recorded clusters, their sizes injected, give the recorded moves in order."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fix_standin import Standin

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data" / "rebalance-cases.json").read_text())
SAMPLE = CASES[1::5]
CATALOG = (
    "pg_dist_node",
    "pg_dist_partition",
    "pg_dist_shard",
    "pg_dist_placement",
    "pg_dist_schema",
    "pg_dist_colocation",
    "citus_lab.host",
)


def build(standin: Standin, case: dict[str, Any]) -> None:
    """The recorded cluster, written straight into the catalog; node n of the case is localhost:7000 + n."""
    for table in CATALOG:
        standin.run(f"DELETE FROM {table}")
    nodes = range(max(case["nodes_before"], case["nodes_after"]))
    groups = sorted(case["shard_groups"], key=lambda group: group["shard_group"])
    colocations = {group["colocation_id"]: group["kind"] for group in groups}
    with standin.session().conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport) VALUES (%s, %s, 'localhost', %s)",
            [(node + 1, node, 7000 + node) for node in nodes],
        )
        cursor.executemany("INSERT INTO citus_lab.host VALUES ('localhost', %s)", [(7000 + node,) for node in nodes])
        cursor.executemany(
            "INSERT INTO pg_dist_partition (logicalrelid, partmethod, colocationid)"
            " VALUES (%s::text::regclass, %s, %s)",
            [(f"cases.t{n}", "n" if kind == "schema" else "h", n) for n, kind in colocations.items()],
        )
        cursor.executemany(
            "INSERT INTO pg_dist_schema VALUES (%s, %s)",
            [(n, n) for n, kind in colocations.items() if kind == "schema"],
        )
        cursor.executemany(
            "INSERT INTO pg_dist_shard (logicalrelid, shardid, shardminvalue) VALUES (%s::text::regclass, %s, %s)",
            [(f"cases.t{g['colocation_id']}", g["shard_group"], g["shard_group"]) for g in groups],
        )
        cursor.executemany(
            "INSERT INTO pg_dist_placement (shardid, groupid) VALUES (%s, %s)",
            [(g["shard_group"], g["node"]) for g in groups],
        )
        cursor.executemany(
            "INSERT INTO citus_lab.size_override VALUES (%s, %s)", [(g["shard_group"], g["bytes"]) for g in groups]
        )


def test_recorded_clusters_get_the_moves_that_citus_chose(standin: Standin) -> None:
    highest = max(group["colocation_id"] for case in SAMPLE for group in case["shard_groups"])
    standin.run("CREATE SCHEMA cases")
    for number in range(highest + 1):
        standin.run(f"CREATE TABLE cases.t{number} ()")
    for case in SAMPLE:
        with standin.session().conn.transaction(force_rollback=True):
            build(standin, case)

            moves = standin.run(
                "SELECT shardid, sourceport - 7000, targetport - 7000"
                " FROM get_rebalance_table_shards_plan(rebalance_strategy => %s)",
                case["strategy"],
            )

            assert moves == [(m["shard_group"], m["source"], m["target"]) for m in case["moves"]], case["case"]
            ignored = [m for m in standin.session().messages if m.text.startswith("Ignoring move of shard")]
            assert len(ignored) == case["ignored_moves"], case["case"]


def test_a_move_that_brings_too_little_is_told_in_citus_words(standin: Standin) -> None:
    """The microservices tutorial's own cluster: recorded sizes, recorded answer."""
    for name in ("time_service", "ping_service", "user_service"):
        standin.run(f"CREATE SCHEMA {name}")
        standin.run(f"SELECT citus_schema_distribute('{name}')")
        standin.run(f"CREATE TABLE {name}.t (id int PRIMARY KEY)")
    standin.run("UPDATE pg_dist_placement SET groupid = CASE shardid WHEN 102008 THEN 0 ELSE 1 END")
    standin.run("INSERT INTO citus_lab.size_override VALUES (102008, 32768), (102009, 32768), (102010, 147456)")

    assert standin.value("SELECT citus_rebalance_start()") is None

    told = [(message.text, message.detail) for message in standin.session().messages]
    assert told[0] == (
        "Ignoring move of shard 102009 from localhost:7001 to localhost:7000, because the move only brings a small "
        "improvement relative to the shard its size",
        "The balance improvement of 0.00109341 is lower than the improvement_threshold of 0.5",
    )
    assert [text for text, _ in told[1:]] == [
        "Ignored 1 moves, all of which are shown in notices above",
        "No moves available for rebalancing",
    ]


def test_the_number_of_moves_and_the_table_can_be_limited(standin: Standin) -> None:
    standin.make_schemas("a", "b", "c", "d")
    standin.run("UPDATE pg_dist_placement SET groupid = 0")

    one = standin.run("SELECT table_name::text FROM get_rebalance_table_shards_plan(max_shard_moves => 1)")
    without = standin.run(
        "SELECT table_name::text FROM get_rebalance_table_shards_plan(excluded_shard_list => ARRAY[102008])"
    )
    only = standin.run("SELECT * FROM get_rebalance_table_shards_plan('a.t')")

    assert one == [("a.t",)]
    assert without == [("b.t",)]
    assert only == []


def test_a_node_that_may_hold_no_shards_is_drained(standin: Standin) -> None:
    standin.make_schemas("a", "b", "c")
    standin.run("SELECT citus_set_node_property('localhost', 7001, 'shouldhaveshards', false)")

    moved = standin.run(
        "SELECT table_name::text, sourceport, targetport FROM get_rebalance_table_shards_plan(drain_only => true)"
    )

    assert moved == [(name, 7001, 7000) for name in ("a.t", "c.t")]


@pytest.fixture
def thousand_schemas(standin: Standin) -> Standin:
    standin.run("SET synchronous_commit = off")
    for start in range(0, 1000, 100):
        with standin.session().conn.transaction():
            for number in range(start, start + 100):
                standin.run(f"CREATE SCHEMA s{number}")
                standin.run(f"SELECT citus_schema_distribute('s{number}')")
                standin.run(f"CREATE TABLE s{number}.t (id bigint PRIMARY KEY)")
    return standin


def test_a_thousand_schemas_are_listed_and_planned_in_seconds(thousand_schemas: Standin) -> None:
    for port in range(7002, 7008):
        thousand_schemas.add_node(port)

    began = time.monotonic()
    assert thousand_schemas.value("SELECT count(shard_size) FROM citus_shards") == 1000
    listed = time.monotonic() - began
    moves = thousand_schemas.value("SELECT count(*) FROM get_rebalance_table_shards_plan()")
    planned = time.monotonic() - began - listed

    assert listed < 1
    assert planned < 3
    assert 600 < moves < 800
