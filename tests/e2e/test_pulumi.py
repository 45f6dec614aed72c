"""Scale-out of a cluster that Pulumi declares: the lab's, taken over by a stack through the stand-in provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from tests.e2e.test_scale_out import config, make_tenants, status
from tests.fix_lab import Project
from tests.fix_pulumi import lacking

if lacking():
    pytest.skip(lacking(), allow_module_level=True)

from tests.infra.arm_calls import Arm
from tests.infra.engine import PulumiProject
from tests.infra.provider import StandInProvider

AnyArm = TypeVar("AnyArm", bound=Arm)


def arm_of(project: Project, kind: type[AnyArm]) -> AnyArm:
    """The lab's ARM endpoint, as the stand-in provider calls it."""
    values = config(project)
    return kind(values["elastic-cluster:endpoint"]["arm"], values["elastic-cluster:subscriptionId"])


@contextmanager
def declared(project: Project, *, up: bool = True, arm: Arm | None = None) -> Iterator[PulumiProject]:
    """The lab's cluster in Pulumi's state, as `pulumi import` and an `up` would leave it on Azure."""
    with StandInProvider(arm or arm_of(project, Arm), adopts=True) as provider, pytest.MonkeyPatch.context() as patch:
        stack = PulumiProject(project.folder, provider, "local")
        project.environment.update(stack.environment)
        for name, value in stack.environment.items():
            patch.setenv(name, value)
        stack.cli("stack", "init", "local")
        if up:
            stack.stack().up(color="never", show_secrets=False)
        yield stack
        stack.close()


@pytest.fixture
def taken_over(project: Project) -> Iterator[tuple[Project, PulumiProject]]:
    assert project.call("lab", "up", "--engine", "embedded", "--nodes", "4").returncode == 0
    with declared(project) as stack:
        yield project, stack


def nothing_to_do(stack: PulumiProject) -> bool:
    """Raises where a preview of the unchanged program shows a difference."""
    stack.stack().preview(expect_no_changes=True, color="never")
    stack.stack().preview(expect_no_changes=True, refresh=True, color="never")
    return True


def writes_of_server(stack: PulumiProject) -> int:
    return sum(write.endswith("/flexibleServers/lab-local") for write in stack.provider.arm.writes)


def test_pulumi_adds_the_nodes_and_the_orchestrator_does_the_rest(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    make_tenants(project)
    with declared(project) as stack:
        before = writes_of_server(stack)
        grown = project.run("scale-out", "--nodes", "6", "--yes", "--json", "--transfer-mode", "block_writes")
        assert grown.returncode == 0, grown.stderr
        report = json.loads(grown.stdout)
        assert report["outcome"] == "done"
        assert "The node count is changed by `pulumi up` on stack local." in report["notices"]
        assert writes_of_server(stack) == before + 1
        assert config(project)["elastic-cluster:nodes"] == 6
        assert [node["shard_groups"] > 0 for node in status(project)["nodes"]].count(True) == 6
        assert nothing_to_do(stack)
        again = project.call("scale-out", "--nodes", "6", "--yes", "--json")
        assert json.loads(again.stdout)["outcome"] == "nothing to do"
        assert writes_of_server(stack) == before + 1


@pytest.mark.slow
def test_a_stack_that_says_arm_is_grown_by_azure_and_pulumi_learns_it(
    taken_over: tuple[Project, PulumiProject],
) -> None:
    project, stack = taken_over
    stack.write({"scaling": "arm"})
    before = writes_of_server(stack)
    grown = project.call("scale-out", "--nodes", "5", "--yes")
    assert grown.returncode == 0, grown.stderr
    assert "pulumi" not in (grown.stdout + grown.stderr).lower()
    assert writes_of_server(stack) == before
    assert len(status(project)["nodes"]) == 5
    assert nothing_to_do(stack)


def test_other_pending_changes_are_named_and_made_only_when_asked_for(
    taken_over: tuple[Project, PulumiProject],
) -> None:
    project, stack = taken_over
    stack.write({"tags": {"owner": "platform"}, "serverParameters": {"work_mem": "8MB"}})
    text, before = stack.stack_file.read_text("utf-8"), list(stack.provider.arm.writes)
    refused = project.call("scale-out", "--nodes", "5", "--yes")
    assert refused.returncode == 2, refused.stderr
    assert "update Server server (nodes 4 -> 5, tags.owner nothing -> platform)" in refused.stderr
    assert "create Configuration parameter-work_mem" in refused.stderr
    assert "Nothing was changed." in refused.stderr
    assert stack.stack_file.read_text("utf-8") == text
    assert stack.provider.arm.writes == before
    assert len(status(project)["nodes"]) == 4

    grown = project.call("scale-out", "--nodes", "5", "--yes", "--with-pending-changes")
    assert grown.returncode == 0, grown.stderr
    assert "Pulumi will also create Configuration parameter-work_mem." in grown.stdout
    assert len(status(project)["nodes"]) == 5
    assert nothing_to_do(stack)


@pytest.mark.slow
def test_what_would_replace_the_server_is_refused_before_anything_is_changed(
    taken_over: tuple[Project, PulumiProject],
) -> None:
    project, stack = taken_over
    stack.write({"location": "westeurope"})
    before, text = list(stack.provider.arm.writes), stack.stack_file.read_text("utf-8")
    refused = project.run("scale-out", "--nodes", "5", "--yes")
    assert refused.returncode == 2, refused.stderr
    assert "elastic-cluster:location: northeurope is fixed at creation" in refused.stderr
    assert refused.stderr.count("Nothing was changed.") == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    assert stack.provider.arm.writes == before
    assert stack.stack_file.read_text("utf-8") == text


@pytest.mark.slow
def test_an_update_that_fails_is_told_and_the_same_command_goes_on(taken_over: tuple[Project, PulumiProject]) -> None:
    project, stack = taken_over
    stack.write({"serverParameters": {"citus.max_background_task_executors": "nonsense"}})
    # A process of its own: Pulumi's SDK leaves the program's event loop open after an update that fails.
    failed = project.run("scale-out", "--nodes", "5", "--yes", "--with-pending-changes")
    assert failed.returncode == 1, failed.stderr
    assert "`pulumi up` on stack local failed: " in failed.stderr
    assert "citus.max_background_task_executors" in failed.stderr
    stack.write({"serverParameters": None})
    done = project.call("scale-out", "--nodes", "5", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(status(project)["nodes"]) == 5
    assert nothing_to_do(stack)


@pytest.mark.slow
def test_a_state_that_is_locked_elsewhere_is_told_before_anything_is_changed(
    taken_over: tuple[Project, PulumiProject],
) -> None:
    project, stack = taken_over
    folder = stack.folder / "state" / ".pulumi" / "locks" / "organization" / "elastic-cluster" / "local"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "11111111-2222-3333-4444-555555555555.json").write_text(
        json.dumps({"pid": 1, "username": "somebody", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"})
    )
    text, writes = stack.stack_file.read_text("utf-8"), list(stack.provider.arm.writes)
    failed = project.call("scale-out", "--nodes", "5", "--yes")
    assert failed.returncode == 2, failed.stderr
    assert "The state of stack local is locked by another update (process 1 of somebody on elsewhere" in failed.stderr
    assert "Nothing was changed." in failed.stderr
    assert "pulumi cancel --stack local" in failed.stderr
    assert (stack.stack_file.read_text("utf-8"), stack.provider.arm.writes) == (text, writes)
    stack.cli("cancel", "--yes", "--stack", "local")
    assert project.call("scale-out", "--nodes", "5", "--yes").returncode == 0
    assert len(status(project)["nodes"]) == 5


def test_a_stack_that_says_pulumi_needs_the_cluster_in_pulumis_state(project: Project) -> None:
    assert project.call("lab", "up", "--engine", "embedded", "--nodes", "2").returncode == 0
    with declared(project, up=False) as stack:
        stack.write({"scaling": "pulumi"})
        refused = project.call("scale-out", "--nodes", "3", "--yes")
        assert refused.returncode == 2, refused.stderr
        assert "Pulumi's state of it holds no cluster. Nothing was changed." in refused.stderr
        assert stack.provider.arm.writes == []
        stack.write({"scaling": None})
        grown = project.call("scale-out", "--nodes", "3", "--yes")
        assert grown.returncode == 0, grown.stderr
        assert "pulumi" not in (grown.stdout + grown.stderr).lower()
