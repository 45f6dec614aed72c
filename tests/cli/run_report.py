"""Reports of runs as the tests of the page need them: made from events by the product's own fold, then through JSON."""

from __future__ import annotations

import json
import random
from typing import Any

from orchestrator.core.account import fold_latency, fold_moves, fold_verified
from orchestrator.core.events import (
    Event,
    LatencySeen,
    MoveEnded,
    MoveStarted,
    Notice,
    StepFailed,
    StepStarted,
    StepSucceeded,
    TableCompared,
    Verified,
)
from orchestrator.core.observed.state import Node, NodeLoad
from orchestrator.core.report import EstimateReport, Report, fold_steps, notices, report_json

HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>&lt;\u202egnp.exe"


def loads(count: int, groups: int) -> tuple[NodeLoad, ...]:
    hosts = [f"node{number}.orders-production.postgres.database.azure.com" for number in range(1, count + 1)]
    nodes = [Node(number, number - 1, host, 5432, True, True, True) for number, host in enumerate(hosts, 1)]
    return tuple(NodeLoad(node, groups, groups * 1_000_000 + node.node_id) for node in nodes)


def events(before: int, after: int, moves: int, looks: int, name: str) -> list[tuple[float, Event]]:
    chance = random.Random(1)
    found: list[tuple[float, Event]] = [
        (0.5, StepStarted(1, 3, f"grow the cluster from {before} to {after} nodes", "ResizeCluster")),
        (60.0, StepSucceeded(1, "grow")),
        (60.0, StepStarted(2, 3, f"rebalance: {moves} moves", "MoveShards")),
    ]
    timed: list[tuple[float, Event]] = []
    for number in range(moves):
        at, took, shard = 60 + number * 0.2, 0.05 + chance.random(), 102000 + number
        mode = "force_logical" if number % 7 == 0 else "block_writes"
        target = before + 1 + number % (after - before)
        started = MoveStarted(2, shard, f"{name}{number}", 1 + number % before, target, number * 1000, mode, "direct")
        outcome: Any = "failed" if number == 3 else "done"
        digest = str(number) if mode == "block_writes" else None
        compared = () if number == 3 else (TableCompared(f"{name}.t", number * 1000, digest),)
        ended = MoveEnded(2, shard, outcome, took, took if mode == "block_writes" else None, compared)
        timed += [(at, started), (at + took, ended)]
    for number in range(looks):
        state: Any = "paused" if number % 50 == 9 else "going"
        timed.append((60 + number * 0.25, LatencySeen(4 + chance.random() + (90 if number == 7 else 0), state)))
    timed.sort(key=lambda pair: pair[0])
    end = max([at for at, _ in timed], default=60.0)
    return [
        *found,
        *timed,
        (end, StepSucceeded(2, "rebalance", f"{moves} direct moves")),
        (end, StepStarted(3, 3, "verify", "Verify")),
        (end + 1, Verified(3, 12, 34, 56789, "quick", 0.9)),
        (end + 1, StepSucceeded(3, "verify")),
        (end + 1, Notice(f"A move of {name} has to wait.")),
    ]


def document(
    before: int = 4, after: int = 8, moves: int = 24, looks: int = 60, name: str = "tenant", failed: bool = False
) -> dict[str, Any]:
    """What `--json` prints for such a run."""
    seen = events(before, after, moves, looks, name)
    if failed:
        seen = [*seen[:-3], (seen[-3][0], StepFailed(3, "verify", f"rows of {name} differ"))]
    end = seen[-1][0]
    report = Report(
        stack=name,
        command="scale-out",
        outcome="failed" if failed else "done",
        seconds=end,
        steps=fold_steps(seen, end),
        notices=notices(seen),
        moves_planned=moves,
        before=loads(before, 40),
        after=None if failed else loads(after, 20),
        simulated=False,
        error=f"rows of {name} differ" if failed else None,
        estimate=EstimateReport(80.0, 60.0, 120.0, 75.0, 2),
        began="2026-03-02T22:15:00+00:00",
        planned=("grow", f"rebalance {name}", "verify"),
        planned_after=loads(after, 20),
        moves=fold_moves(seen, end),
        latency=fold_latency(seen),
        verified=fold_verified(seen),
    )
    found: dict[str, Any] = json.loads(json.dumps(report_json(report)))
    return found
