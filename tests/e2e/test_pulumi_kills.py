"""SIGKILL in the middle of the `pulumi up` of a scale-out: the same command again ends with exactly one resize.

The stand-in provider is held at the server's update, once before Azure hears of it and once after Azure has accepted
it. What is killed is the command alone, or with all its processes. The real provider dies with them, so it sends
nothing any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from tests.e2e.test_scale_out import config, make_tenants, status
from tests.fix_arm import wait_for
from tests.fix_lab import Project
from tests.fix_pulumi import lacking

if lacking():
    pytest.skip(lacking(), allow_module_level=True)

from tests.e2e.test_pulumi import arm_of, declared, nothing_to_do, writes_of_server
from tests.infra.arm_calls import Arm, ArmRefused
from tests.infra.engine import PulumiProject

Where = Literal["before", "after"]


class HeldArm(Arm):
    """Stands still at the server's next update. `killed` says that whoever asked for it is gone."""

    def __init__(self, url: str, subscription: str) -> None:
        super().__init__(url, subscription)
        self.hold: Where | None = None
        self.reached, self.killed = threading.Event(), threading.Event()

    def write(self, method: str, path: str, version: str, body: Any = None) -> None:
        if self.hold is None or not path.endswith("/lab-local"):
            super().write(method, path, version, body)
            return
        if self.hold == "after":
            self.writes.append(f"{method} {path}")
            self._send(method, f"{path}?api-version={version}", body)
        self.reached.set()
        self.killed.wait(60)
        raise ArmRefused(0, {"error": {"code": "Killed"}})


def kill(project: Project, arm: HeldArm, output: Path, *, everything: bool) -> None:
    """A scale-out to six nodes that dies while Pulumi updates the server; its processes are gone when this returns."""
    command = [sys.executable, "-m", "orchestrator", "scale-out", "--nodes", "6", "--yes"]
    with output.open("w") as file:
        running = subprocess.Popen(
            command, cwd=project.folder, env=project.environment, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    assert arm.reached.wait(90), output.read_text()
    children = psutil.Process(running.pid).children(recursive=True)
    assert any("pulumi" in child.name() for child in children)
    if everything:
        os.killpg(running.pid, signal.SIGKILL)
    else:
        os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wait_for(lambda: not [one for one in children if one.is_running() and one.status() != "zombie"], 60)
    arm.hold = None
    arm.killed.set()


def locks(stack: PulumiProject) -> list[Path]:
    return list((stack.folder / "state" / ".pulumi" / "locks").rglob("*.json"))


@pytest.mark.parametrize(
    ("everything", "where"),
    [
        (True, "after"),
        *(
            pytest.param(*how, marks=pytest.mark.slow)
            for how in ((True, "before"), (False, "before"), (False, "after"))
        ),
    ],
)
def test_killed_while_pulumi_is_at_it(project: Project, tmp_path: Path, everything: bool, where: Where) -> None:
    assert project.call("lab", "up", "--engine", "embedded", "--nodes", "4").returncode == 0
    make_tenants(project)
    arm = arm_of(project, HeldArm)
    with declared(project, arm=arm) as stack:
        before, arm.hold = writes_of_server(stack), where
        kill(project, arm, tmp_path / "output", everything=everything)
        assert len(locks(stack)) == 1
        assert config(project)["elastic-cluster:nodes"] == 6

        again = project.call("scale-out", "--nodes", "6", "--yes")
        assert again.returncode == 0, again.stdout + again.stderr
        if where == "before":
            assert "left its lock on the state: this run removes it" in again.stdout
        assert "locked" not in again.stdout + again.stderr
        assert locks(stack) == []
        assert writes_of_server(stack) == before + 1
        seen = status(project)
        assert len(seen["nodes"]) == 6
        assert nothing_to_do(stack)
        once_more = project.call("scale-out", "--nodes", "6", "--yes")
        assert (once_more.returncode, "Nothing to do." in once_more.stdout) == (0, True), once_more.stdout
        assert writes_of_server(stack) == before + 1
