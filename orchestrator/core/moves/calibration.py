"""What a run took, folded from its events: kept on the cluster, it makes the next estimate better."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.events import Event, MovesTimed
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.observed.timing import RunTiming
from orchestrator.core.outlook.estimate import Estimate
from orchestrator.core.planning.plan import Plan
from orchestrator.core.planning.steps import MoveShards, RaiseExecutors, RebalanceShards, ResizeCluster
from orchestrator.core.report import StepReport


def run_timing(
    plan: Plan,
    before: ClusterState,
    steps: Sequence[StepReport],
    events: Sequence[tuple[float, Event]],
    expected: Estimate,
    seconds: float,
) -> RunTiming | None:
    """None for a run that neither resized nor rebalanced: it tells nothing for the next one."""
    resize = next((step for step in plan.steps if isinstance(step, ResizeCluster)), None)
    shards = next((step for step in plan.steps if isinstance(step, RebalanceShards | MoveShards)), None)
    timed = [event for _, event in events if isinstance(event, MovesTimed)]
    if resize is None and not timed:
        return None
    executors = next(
        ((step.at_once, step.per_node) for step in plan.steps if isinstance(step, RaiseExecutors)), before.executors
    )
    if isinstance(shards, MoveShards):
        executors = shards.at_once, shards.per_node
    first = timed[0] if timed else None
    return RunTiming(
        transfer_mode=_mode(shards, first),
        nodes_before=resize.before if resize else len(before.nodes),
        nodes_after=resize.after if resize else len(before.nodes),
        shard_groups=len(before.shard_groups),
        moves=sum(event.moves for event in timed),
        moved_bytes=sum(event.moved_bytes for event in timed),
        at_once=executors[0],
        per_node=executors[1],
        resize_seconds=_sum(steps, "ResizeCluster"),
        join_seconds=_sum(steps, "AwaitNodes"),
        settings_seconds=_sum(steps, "RaiseExecutors", "RestoreSettings"),
        lead_seconds=first.lead_seconds if first else None,
        moves_seconds=sum(event.seconds for event in timed) if timed else None,
        fixed_seconds=first.fixed_seconds if first else None,
        seconds_per_byte=first.seconds_per_byte if first else None,
        estimated_seconds=round(expected.seconds, 3),
        seconds=round(seconds, 3),
    )


def _mode(step: RebalanceShards | MoveShards | None, timed: MovesTimed | None) -> str:
    """Direct moves and Citus' job do not compare, nor do tiny groups and those that are moved logically."""
    if step is None:
        return ""
    if isinstance(step, RebalanceShards):
        return step.transfer_mode
    return f"direct {(timed.mode if timed else None) or step.transfer_mode}"


def _sum(steps: Sequence[StepReport], *kinds: str) -> float | None:
    found = [step.seconds for step in steps if step.kind in kinds and step.outcome == "done"]
    return round(sum(found), 3) if found else None
