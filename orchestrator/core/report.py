"""The account of a run: a fold over its events, with the placement before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from orchestrator.core.account import Latency, MoveReport, latency_json, move_json, verified_json
from orchestrator.core.events import Event, Notice, StepFailed, StepStarted, StepSucceeded, Verified
from orchestrator.core.observed.state import NodeLoad, RebalanceJob, skew
from orchestrator.core.planning.plan import Plan

Outcome: TypeAlias = Literal["done", "nothing to do", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: how it ended, how long it took and when it began, in seconds since the start of the run."""

    title: str
    outcome: Literal["done", "failed", "unfinished"]
    seconds: float
    note: str = ""
    kind: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class EstimateReport:
    """What the run was estimated to take and what it took, both from the first step to the end, in seconds."""

    seconds: float
    low: float
    high: float
    took: float
    runs: int

    @property
    def error(self) -> float | None:
        """How much longer it took, as a ratio of what it took; negative when it was quicker."""
        return (self.took - self.seconds) / self.took if self.took else None


@dataclass(frozen=True, slots=True)
class Report:
    """`before` and `after` are what was observed, not what was predicted; `after` is None when the run did not end.

    `planned` and `planned_after` are the first plan's steps and placement; `began` is a time in ISO 8601.
    """

    stack: str
    command: str
    outcome: Outcome
    seconds: float
    steps: tuple[StepReport, ...]
    notices: tuple[str, ...]
    moves_planned: int
    before: tuple[NodeLoad, ...]
    after: tuple[NodeLoad, ...] | None
    simulated: bool
    error: str | None = None
    estimate: EstimateReport | None = None
    began: str | None = None
    planned: tuple[str, ...] = ()
    planned_after: tuple[NodeLoad, ...] = ()
    moves: tuple[MoveReport, ...] = ()
    latency: tuple[Latency, ...] = ()
    verified: tuple[Verified, ...] = ()


def fold_steps(events: Sequence[tuple[float, Event]], end: float) -> tuple[StepReport, ...]:
    """Steps from events with the time of each, in seconds; a step that never ended is unfinished at `end`."""
    steps: list[StepReport] = []
    open_step: tuple[float, StepStarted] | None = None
    for at, event in events:
        if isinstance(event, StepStarted):
            open_step = at, event
        elif isinstance(event, StepSucceeded | StepFailed) and open_step is not None:
            ended: Literal["done", "failed"] = "done" if isinstance(event, StepSucceeded) else "failed"
            note = event.note if isinstance(event, StepSucceeded) else event.error
            steps.append(StepReport(event.title, ended, at - open_step[0], note, open_step[1].kind, open_step[0]))
            open_step = None
    if open_step is not None:
        at, step = open_step
        steps.append(StepReport(step.title, "unfinished", end - at, kind=step.kind, at=at))
    return tuple(steps)


def notices(events: Sequence[tuple[float, Event]]) -> tuple[str, ...]:
    return tuple(event.text for _, event in events if isinstance(event, Notice))


def loads_json(loads: Sequence[NodeLoad]) -> list[dict[str, Any]]:
    """One object per node. `bytes` is null when the size of a shard group on it is unknown."""
    return [
        {
            "node_id": load.node.node_id,
            "host": load.node.host,
            "port": load.node.port,
            "active": load.node.active,
            "should_have_shards": load.node.should_have_shards,
            "shard_groups": load.shard_groups,
            "bytes": load.bytes,
        }
        for load in loads
    ]


def job_json(job: RebalanceJob | None) -> dict[str, Any] | None:
    """The job in flight; null when there is none."""
    if job is None or not job.in_flight:
        return None
    counts: dict[str, int] = {}
    for task in job.tasks:
        counts[task.status] = counts.get(task.status, 0) + 1
    failing = [
        {"task_id": task.task_id, "retries": task.retries, "message": task.message}
        for task in job.tasks
        if task.retries
    ]
    return {"job_id": job.job_id, "state": job.state, "tasks": counts, "failing": failing}


def plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "steps": [{"kind": type(step).__name__, "title": step.title} for step in plan.steps],
        "moves": [
            {"shard_id": move.shard_id, "source": move.source, "target": move.target, "bytes": move.bytes}
            for move in plan.moves
        ],
        "before": loads_json(plan.before),
        "after": loads_json(plan.after),
        "skew_before": skew(plan.before),
        "skew_after": skew(plan.after),
        "notes": list(plan.notes),
    }


def report_json(report: Report) -> dict[str, Any]:
    after = report.after
    return {
        "stack": report.stack,
        "command": report.command,
        "outcome": report.outcome,
        "error": report.error,
        "began": report.began,
        "seconds": round(report.seconds, 3),
        "placement_simulated": report.simulated,
        "moves_planned": report.moves_planned,
        "steps": [
            {
                "title": step.title,
                "outcome": step.outcome,
                "at": round(step.at, 3),
                "seconds": round(step.seconds, 3),
                "note": step.note,
            }
            for step in report.steps
        ],
        "notices": list(report.notices),
        "nodes_before": len(report.before),
        "nodes_after": None if after is None else len(after),
        "before": loads_json(report.before),
        "after": None if after is None else loads_json(after),
        "skew_before": skew(report.before),
        "skew_after": None if after is None else skew(after),
        "estimate": None if report.estimate is None else _estimate_json(report.estimate),
        "planned": {
            "steps": list(report.planned),
            "after": loads_json(report.planned_after),
            "skew_after": skew(report.planned_after),
        },
        "moves": [move_json(move) for move in report.moves],
        "latency": [latency_json(seen) for seen in report.latency],
        "verification": [verified_json(found) for found in report.verified],
    }


def _estimate_json(found: EstimateReport) -> dict[str, Any]:
    numbers = {name: round(getattr(found, name), 1) for name in ("seconds", "low", "high", "took")}
    return numbers | {"runs": found.runs, "error": None if found.error is None else round(found.error, 3)}
