"""How often the predicted moves are those that Citus chooses, and how fast they are predicted.

    uv run --extra lab python bench/prediction.py [--rounds 2]

Three parts. Recorded: the clusters of tests/data/rebalance-cases.json. Fresh: random clusters on real Citus (the lab's
native engine); moves are predicted for nodes that do not exist, the nodes are added, Citus is asked for its plan under
both strategies and several base costs, and at last for the job that it runs. Speed: 10 -> 20 nodes, 1,000 to 100,000
shard groups. Writes bench/results/prediction.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.core.observed.state import Node, ShardGroup, Strategy
from orchestrator.core.planning.placement import Move, predict, with_future_nodes
from orchestrator.lab.engine import LabSettings
from orchestrator.lab.native import NativeEngine, availability

Moves: TypeAlias = list[tuple[int, int, int]]
RESULTS = Path(__file__).parent / "results" / "prediction.json"
CASES = Path(__file__).parent.parent / "tests" / "data" / "rebalance-cases.json"
MB = 2**20
BASE_COSTS = (100 * MB, MB, 64 * 1024)
GROWTH = (2, 3, 5, 8)
# Every shard with the first shard of its group: the lowest id of the same colocation group and key range.
ANCHORS = """
    SELECT shardid, min(shardid) OVER (PARTITION BY part.colocationid, shard.shardminvalue)
    FROM pg_dist_shard shard JOIN pg_dist_partition part USING (logicalrelid) WHERE part.colocationid > 0
"""


def triples(moves: Sequence[Move]) -> Moves:
    return [(move.shard_id, move.source, move.target) for move in moves]


def recorded(path: Path = CASES) -> tuple[int, int]:
    """Clusters with identical moves in the same order, and clusters in all."""
    cases = json.loads(path.read_text("utf-8"))
    same = 0
    for case in cases:
        limits = case["base_cost_bytes"], case["threshold"], case["improvement_threshold"]
        strategy = Strategy(case["strategy"], case["strategy"] == "by_disk_size", *limits)
        groups = [ShardGroup(g["shard_group"], g["colocation_id"], g["node"], g["bytes"]) for g in case["shard_groups"]]
        nodes = [Node(number, number, "localhost", 1, True, True, True) for number in range(case["nodes_after"])]
        expected = [(move["shard_group"], move["source"], move["target"]) for move in case["moves"]]
        same += triples(predict(groups, nodes, strategy).moves) == expected
    return same, len(cases)


def fresh(seed: int, growth: Sequence[int] = GROWTH) -> Iterator[dict[str, Any]]:
    """One comparison after the other on a cluster that grows; every step adds random tenants before it is predicted."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-bench-", dir="/var/tmp"))
    folder.chmod(0o711)
    settings = LabSettings(
        "bench", folder / "lab", "appdb", "clusteradmin", secrets.token_hex(12), secrets.token_hex(12)
    )
    settings.directory.mkdir(mode=0o711)
    engine, chance = NativeEngine(settings), random.Random(seed)
    try:
        engine.start(growth[0], lambda _: None)
        address = engine.addresses()[0]
        with psycopg.connect(
            host=address.host,
            port=address.port,
            dbname=settings.database,
            user=settings.admin_login,
            password=settings.admin_password,
            sslmode="disable",
            autocommit=True,
        ) as admin:
            for number, nodes in enumerate(growth[1:]):
                _add_tenants(admin, chance, f"r{number}")
                yield from _step(engine, admin, nodes)
    finally:
        engine.delete()
        shutil.rmtree(folder, ignore_errors=True)


def _add_tenants(admin: psycopg.Connection[Any], chance: random.Random, prefix: str) -> None:
    """Distributed schemas from nothing to a few MB, a row-sharded pair of tables, a reference table."""
    for number in range(chance.randint(8, 20)):
        name = f"{prefix}_t{number}"
        admin.execute(f"CREATE SCHEMA {name}")
        admin.execute("SELECT citus_schema_distribute(%s)", [name])
        for table in ("a", "b")[: chance.randint(1, 2)]:
            admin.execute(f"CREATE TABLE {name}.{table} (id bigint PRIMARY KEY, v text)")
            _fill(admin, f"{name}.{table}", int(chance.lognormvariate(6, 2)))
    admin.execute(f"CREATE SCHEMA {prefix}_rows")
    admin.execute(f"CREATE TABLE {prefix}_rows.country (id bigint PRIMARY KEY, v text)")
    admin.execute(f"SELECT create_reference_table('{prefix}_rows.country')")
    shards = chance.choice([4, 9, 16])
    for table in ("event", "detail"):
        admin.execute(f"CREATE TABLE {prefix}_rows.{table} (id bigint, v text, PRIMARY KEY (id))")
        colocate = "none" if table == "event" else f"{prefix}_rows.event"
        count = f", shard_count := {shards}" if table == "event" else ""
        admin.execute(
            f"SELECT create_distributed_table(%s, 'id', colocate_with := %s{count})",
            [f"{prefix}_rows.{table}", colocate],
        )
        _fill(admin, f"{prefix}_rows.{table}", chance.randint(0, 20000))


def _fill(admin: psycopg.Connection[Any], table: str, rows: int) -> None:
    admin.execute(f"INSERT INTO {table} SELECT i, repeat('x', 200) FROM generate_series(1, %s) i", [min(rows, 30000)])


def _step(engine: NativeEngine, admin: psycopg.Connection[Any], nodes: int) -> Iterator[dict[str, Any]]:
    state = CitusClient(lambda: admin, "bench").observe()
    future = with_future_nodes(state.nodes, nodes)
    wanted = [
        (strategy, replace(strategy, base_cost=base) if strategy.by_size else strategy)
        for strategy in state.strategies
        for base in (BASE_COSTS if strategy.by_size else (0,))
    ]
    predictions = [(used, triples(predict(state.shard_groups, future, used).moves)) for _, used in wanted]
    default = triples(predict(state.shard_groups, future, state.strategy(None)).moves)
    engine.resize(nodes, lambda _: None)
    anchors = dict(admin.execute(ANCHORS).fetchall())
    shape = {"nodes": f"{len(state.nodes)} -> {nodes}", "shard_groups": len(state.shard_groups)}
    for used, predicted in predictions:
        answered = _citus_plan(admin, used, anchors)
        how = {"strategy": used.name, "base_cost": used.base_cost, "asked": "plan"}
        yield shape | how | {"moves": len(answered), "same": predicted == answered}
    answered = _citus_job(admin, anchors)
    yield shape | {
        "strategy": state.strategy(None).name,
        "asked": "job",
        "moves": len(answered),
        "same": default == answered,
    }


def _citus_plan(admin: psycopg.Connection[Any], strategy: Strategy, anchors: dict[int, int]) -> Moves:
    """The plan has a row for every table; a group moves once."""
    admin.execute("SELECT set_config('citus.rebalancer_by_disk_size_base_cost', %s, false)", [f"{strategy.base_cost}B"])
    rows = admin.execute(
        """
        SELECT plan.shardid, source.nodeid, target.nodeid
        FROM get_rebalance_table_shards_plan(rebalance_strategy := %s) WITH ORDINALITY plan
        JOIN pg_dist_node source ON source.nodename = sourcename AND source.nodeport = sourceport
        JOIN pg_dist_node target ON target.nodename = targetname AND target.nodeport = targetport ORDER BY ordinality
        """,
        [strategy.name],
    ).fetchall()
    admin.execute("RESET citus.rebalancer_by_disk_size_base_cost")
    return list(dict.fromkeys((anchors[shard], source, target) for shard, source, target in rows))


def _citus_job(admin: psycopg.Connection[Any], anchors: dict[int, int]) -> Moves:
    """What Citus' own background job sets out to do, followed to its end."""
    job = admin.execute("SELECT citus_rebalance_start(shard_transfer_mode := 'block_writes')").fetchone()
    if job is None or job[0] is None:
        return []
    commands = admin.execute(
        "SELECT (regexp_match(command, 'placement\\((\\d+),(\\d+),(\\d+)'))[1:3]::bigint[]"
        " FROM pg_dist_background_task WHERE job_id = %s AND command LIKE '%%citus_move_shard%%' ORDER BY task_id",
        [job[0]],
    ).fetchall()
    admin.execute("SELECT citus_job_wait(%s, 'finished')", [job[0]])
    return [(anchors[shard], source, target) for ((shard, source, target),) in commands]


def speed(groups: int, shape: str, by_size: bool) -> dict[str, Any]:
    """Seconds of this process for one prediction from 10 to 20 nodes: the middle of three."""
    chance = random.Random(1)
    sizes = [chance.randint(0, MB) if shape == "small" else int(chance.lognormvariate(17, 2.5)) for _ in range(groups)]
    placed = [ShardGroup(i, i, 1 if shape == "on one node" else i % 10 + 1, size) for i, size in enumerate(sizes)]
    nodes = with_future_nodes([Node(i + 1, i, "localhost", 1, True, True, True) for i in range(10)], 20)
    strategy = Strategy("by_disk_size", True, 100 * MB, 0.1, 0.5) if by_size else Strategy("by_shard_count", False)
    seconds, moves = [], 0
    for _ in range(3):
        start = time.process_time()
        moves = len(predict(placed, nodes, strategy).moves)
        seconds.append(time.process_time() - start)
    how = {"shard_groups": groups, "sizes": shape, "strategy": strategy.name}
    return how | {"moves": moves, "seconds": round(statistics.median(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2, help="fresh clusters, each grown 2 -> 3 -> 5 -> 8")
    options = parser.parse_args()
    same, cases = recorded()
    print(f"recorded: {same} of {cases} identical", flush=True)
    comparisons: list[dict[str, Any]] = []
    for seed in range(options.rounds if availability().available else 0):
        for compared in fresh(seed):
            comparisons.append(compared)
            print(json.dumps(compared), flush=True)
    speeds = [
        speed(groups, shape, by_size)
        for groups in (1000, 10_000, 100_000)
        for shape in ("small", "mixed", "on one node")
        for by_size in (True, False)
    ]
    for row in speeds:
        print(json.dumps(row), flush=True)
    document = {
        "command": "uv run --extra lab python bench/prediction.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "citus": availability().version,
        "recorded": {"identical": same, "of": cases},
        "fresh": {"identical": sum(row["same"] for row in comparisons), "of": len(comparisons), "each": comparisons},
        "speed": speeds,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
