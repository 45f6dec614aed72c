"""Killed after every event of a scale-out, on a real lab through the production clients: the same command continues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.cli.session import open_session
from orchestrator.cli.stack import stackfile
from orchestrator.core.events import Event, StepProgress
from orchestrator.core.planning.plan import Plan, Wanted
from orchestrator.driver import drive
from orchestrator.workflow.apply import converge
from tests.e2e.test_scale_out import connect, make_tenants, status
from tests.fix_lab import Project, engines

EXECUTORS = ("citus.max_background_task_executors", "citus.max_background_task_executors_per_node")


class Killed(Exception):
    """The process died here."""


def scale_out(
    project: Project, nodes: int, stop_after: int | None = None, also: Callable[[Event], None] = lambda _: None
) -> int:
    """What the verb does, stopped after a number of events; gives the number of events that there were."""
    file = stackfile.load(project.folder, "local")
    file = replace(file, spec=file.spec.model_copy(update={"nodes": nodes}))
    seen: list[Event] = []

    def show(event: Event) -> None:
        seen.append(event)
        also(event)
        if stop_after is not None and len(seen) > stop_after:
            raise Killed

    with open_session(project.folder, file, services=False, control=True, lock=True) as session:
        wanted = Wanted(transfer_mode="block_writes")
        plan, state = drive(session.replan(wanted), show)
        drive(converge(session.world, plan, state, lambda: session.replan(wanted)), show)
    return len(seen)


def left_to_do(project: Project, nodes: int) -> Plan:
    file = stackfile.load(project.folder, "local")
    file = replace(file, spec=file.spec.model_copy(update={"nodes": nodes}))
    with open_session(project.folder, file, services=False, control=True, lock=False) as session:
        return drive(session.replan(Wanted()), lambda _: None)[0]


@pytest.mark.skipif(not engines()["embedded"].available, reason=f"engine embedded: {engines()['embedded'].reason}")
def test_killed_after_every_event_the_same_command_converges(project: Project) -> None:
    assert project.call("lab", "up", "--engine", "embedded", "--nodes", "2").returncode == 0
    make_tenants(project)
    nodes, stop_after, killed = 2, 0, True
    while killed and nodes < 20:
        nodes += 1
        try:
            scale_out(project, nodes, stop_after)
            killed = False
        except Killed:
            scale_out(project, nodes)
        seen = status(project)
        assert len(seen["nodes"]) == nodes, f"killed after event {stop_after}"
        assert sum(node["shard_groups"] for node in seen["nodes"]) == 8
        assert seen["rebalance_job"] is None
        assert left_to_do(project, nodes).steps == ()
        with connect(project) as admin:
            for name in EXECUTORS:
                assert admin.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("1",)
            assert admin.execute("SELECT count(*) FROM orchestrator.kept_setting").fetchone() == (0,)
        stop_after += 1
    assert stop_after > 8


@pytest.mark.slow
def test_a_lost_session_is_replaced_and_the_run_goes_on(lab_project: tuple[Project, str]) -> None:
    """The orchestrator's own session is ended by the server in the middle of the rebalance."""
    project, _ = lab_project
    make_tenants(project)
    ended: list[int] = []

    def end_session(event: Event) -> None:
        if isinstance(event, StepProgress) and event.bytes_total is not None and not ended:
            with connect(project) as admin:
                rows = admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'orchestrator' AND usename = current_user"
                ).fetchall()
            ended.append(len(rows))

    scale_out(project, 8, also=end_session)
    assert ended == [1]
    assert len(status(project)["nodes"]) == 8
    assert left_to_do(project, 8).steps == ()
