"""What people and scripts see, compared with golden files. To accept a change: UPDATE_GOLDEN=1 pytest tests/cli."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.cli.views import HumanView, JsonLines, placement_lines, plan_lines, report_lines
from orchestrator.core.account import fold_latency, fold_moves, fold_verified
from orchestrator.core.events import (
    EVENT_TYPES,
    Event,
    LatencySeen,
    MoveEnded,
    MoveStarted,
    MovesTimed,
    Notice,
    StepFailed,
    StepProgress,
    StepStarted,
    StepSucceeded,
    Verified,
)
from orchestrator.core.observed.state import (
    ClusterState,
    Node,
    RebalanceJob,
    RebalanceTask,
    ShardGroup,
    Strategy,
    node_loads,
)
from orchestrator.core.planning.placement import after
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.core.report import Report, fold_steps, job_json, notices, plan_json, report_json
from orchestrator.core.size import duration, size
from tests.workflow.simulator import Simulator
from tests.workflow.test_apply import spec

GOLDEN = Path(__file__).parent / "golden"
MB = 2**20


def golden(name: str, lines: Sequence[str]) -> None:
    path, text = GOLDEN / name, "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def observed() -> ClusterState:
    nodes = tuple(Node(i, i - 1, "10.7.0.254", 7000 + i, True, True, True) for i in (1, 2))
    groups = tuple(
        ShardGroup(100 + i, i + 1, i % 2 + 1, (i + 1) * 40 * MB, (f"tenant{i}.t",), f"tenant{i}") for i in range(6)
    )
    server = Simulator.of(2, []).read_server()
    strategies = (Strategy("by_disk_size", True, 100 * MB, 0.1, 0.5, True),)
    return ClusterState(server, "Citus 13.2.2", 170000, nodes, groups, strategies)


def the_plan() -> Plan:
    return make_plan(spec(4), observed(), Wanted())


EVENTS: tuple[tuple[float, Event], ...] = (
    (0.0, StepStarted(1, 3, "grow the cluster from 2 to 4 nodes")),
    (1.0, StepProgress(1, "Azure is adding nodes")),
    (271.5, StepSucceeded(1, "grow the cluster from 2 to 4 nodes")),
    (271.5, StepStarted(2, 3, "rebalance with by_disk_size: 3 moves")),
    (272.0, MoveStarted(2, 105, "tenant5", 2, 4, 240 * MB, "auto", "job")),
    (272.5, LatencySeen(1.25, "going")),
    (280.0, StepProgress(2, "moving tenant5 (Copying Data)", 1, 3, 240 * MB, 480 * MB, 17.0)),
    (281.0, Notice("Move of tenant4 failed, Citus tries again: could not fetch disk stats")),
    (299.0, MoveEnded(2, 105, "done", 27.0)),
    (300.0, MovesTimed(2, 7, 3, 480 * MB, 2.5, 26.0, 4.0)),
    (300.0, StepSucceeded(2, "rebalance with by_disk_size: 3 moves", "job 7: 3 of 3 tasks done")),
    (300.0, StepStarted(3, 3, "verify nodes, placement and settings")),
    (300.1, Verified(3, 6, 6, 1200, "quick", 0.1, ("tenant5: 3 rows are gone",))),
    (300.2, StepFailed(3, "verify nodes, placement and settings", "3 of 4 nodes are active")),
)


def shown(terminal: bool) -> str:
    clock = [0.0]
    stream = io.StringIO()
    view = HumanView(stream, terminal=terminal, now=lambda: clock[0])
    for at, event in EVENTS:
        clock[0] = at
        view.show(event)
    return stream.getvalue()


def test_plan_for_people() -> None:
    golden("plan.txt", plan_lines(the_plan()))


def test_plan_as_json() -> None:
    golden("plan.json", [json.dumps(plan_json(the_plan()), indent=1)])


def test_events_in_a_log_file() -> None:
    golden("events.txt", shown(terminal=False).splitlines())


def test_events_on_a_terminal_redraw_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(terminal=True)
    assert "\r\x1b[K      1 of 3, 240 MB of 480 MB, about 17.0 s left, moving tenant5 (Copying Data)" in text
    assert text.endswith("      failed after 0.2 s\n")


def test_a_line_of_progress_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    drawn = [part.split("\n")[0] for part in shown(terminal=True).split("\r\x1b[K")]
    assert "      1 of 3, 240 MB of 480 MB, about 1" in drawn
    assert all(len(line) < 40 for line in drawn if line.startswith("      1 of 3"))


def test_events_as_json_lines_have_a_fixed_list_of_types() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream, now=lambda: 1.5)
    for _, event in EVENTS:
        lines.show(event)
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {document["type"] for document in documents} == set(EVENT_TYPES.values())
    golden("events.jsonl", stream.getvalue().splitlines())


def test_report_for_people_and_as_json() -> None:
    state, plan = observed(), the_plan()
    nodes = tuple(Node(i, i - 1, "10.7.0.254", 7000 + i, True, True, True) for i in (1, 2, 3, 4))
    report = Report(
        "prod",
        "scale-out",
        "done",
        300.25,
        fold_steps(EVENTS, 300.25),
        notices(EVENTS),
        len(plan.moves),
        node_loads(state.nodes, state.shard_groups),
        node_loads(nodes, after(state.shard_groups, plan.moves)),
        simulated=False,
        began="2026-03-02T22:15:00+00:00",
        planned=tuple(step.title for step in plan.steps),
        planned_after=plan.after,
        moves=fold_moves(EVENTS, 300.25),
        latency=fold_latency(EVENTS),
        verified=fold_verified(EVENTS),
    )
    golden("report.txt", report_lines(report))
    golden("report.json", [json.dumps(report_json(report), indent=1)])


def test_a_failing_job_shows_its_tasks_in_status() -> None:
    tasks = (
        RebalanceTask(1, "done", "SELECT 1", 100),
        RebalanceTask(2, "runnable", "SELECT 1", 101, 2, "ERROR: no space"),
    )
    assert job_json(RebalanceJob(7, "running", tasks)) == {
        "job_id": 7,
        "state": "running",
        "tasks": {"done": 1, "runnable": 1},
        "failing": [{"task_id": 2, "retries": 2, "message": "ERROR: no space"}],
    }
    assert job_json(RebalanceJob(7, "finished", tasks)) is None


def test_a_step_that_never_ended_is_unfinished() -> None:
    steps = fold_steps(EVENTS[:2], 60.0)
    assert [(step.outcome, step.seconds) for step in steps] == [("unfinished", 60.0)]


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "unknown"), (0, "0 bytes"), (10_239, "10239 bytes"), (10_240, "10 kB"), (5 * 1024**3, "5120 MB")],
)
def test_sizes_as_postgresql_writes_them(number: int | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3720, "1 h 02 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_empty_cluster_and_an_unknown_size_can_be_shown() -> None:
    assert placement_lines(()) == ["  no nodes"]
    node = Node(1, 0, "h", 1, False, True, True)
    lines = placement_lines(node_loads((node,), (ShardGroup(1, 1, 1, None),)))
    assert "unknown" in lines[0]
    assert "not ready" in lines[0]
