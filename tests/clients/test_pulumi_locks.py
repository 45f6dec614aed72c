"""Locks on a state in files: whose they are, and which of them are dead."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.clients.azure.pulumi import PulumiLocked, PulumiStack
from orchestrator.clients.azure.pulumi_locks import backend, read_locks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n")
    return tmp_path


def environment(root: Path) -> dict[str, str]:
    return {"PULUMI_BACKEND_URL": f"file://{root / 'state'}"}


def lock(root: Path, pid: int, host: str | None = None, stack: str = "prod") -> Path:
    folder = root / "state" / ".pulumi" / "locks" / "organization" / "elastic-cluster" / stack
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{pid}.json"
    held = {"pid": pid, "username": "me", "hostname": host or socket.gethostname()}
    file.write_text(json.dumps(held | {"timestamp": "2026-11-28T12:23:37.821789508Z"}))
    return file


def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_of_a_process_of_this_machine_that_is_gone_is_dead(root: Path) -> None:
    lock(root, ended())
    (found,) = read_locks(root, "prod", environment(root))
    assert found.dead
    assert found.holder.endswith(f"of me on {socket.gethostname()}, since 2026-11-28T12:23:37Z")
    assert read_locks(root, "dev", environment(root)) == ()


def test_a_lock_of_another_machine_is_never_dead(root: Path) -> None:
    lock(root, ended(), host="elsewhere")
    (found,) = read_locks(root, "prod", environment(root))
    assert not found.dead


def test_pulumi_that_still_runs_holds_its_lock_and_another_program_with_its_number_does_not(
    root: Path, tmp_path: Path
) -> None:
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as pulumi, subprocess.Popen(["sleep", "60"]) as other:
        for process in (pulumi, other):
            lock(root, process.pid)
        found = {one.pid: one.dead for one in read_locks(root, "prod", environment(root))}
        for process in (pulumi, other):
            process.kill()
    assert found == {pulumi.pid: False, other.pid: True}


def test_one_that_ended_and_was_not_waited_for_is_dead(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "", program)
    process = subprocess.Popen([program, "60"])
    try:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        lock(root, process.pid)
        (found,) = read_locks(root, "prod", environment(root))
        assert found.dead
    finally:
        process.wait()


def test_only_dead_locks_are_removed_and_a_live_one_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.clients.azure.pulumi.lacking", lambda: None)
    monkeypatch.setenv("PULUMI_BACKEND_URL", environment(root)["PULUMI_BACKEND_URL"])
    dead, stack = lock(root, ended()), PulumiStack(root, "prod")
    assert [one.file for one in stack.dead_locks()] == [dead]
    alive = lock(root, 1, host="elsewhere")
    with pytest.raises(PulumiLocked, match=r"process 1 of me on elsewhere.*Nothing was changed"):
        stack.dead_locks()
    stack._unlock()
    assert alive.exists()
    assert not dead.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 4}'])
def test_a_lock_that_is_being_written_is_no_lock(root: Path, text: str) -> None:
    lock(root, 4).write_text(text)
    assert read_locks(root, "prod", environment(root)) == ()


def test_the_backend_is_found_where_pulumi_looks_for_it(root: Path) -> None:
    nobody = {"PULUMI_HOME": str(root / "home")}
    assert backend(root, nobody) == ""
    assert read_locks(root, "prod", nobody) == ()
    (root / "home").mkdir()
    (root / "home" / "credentials.json").write_text('{"current": "https://api.pulumi.com"}')
    assert backend(root, nobody) == "https://api.pulumi.com"
    assert read_locks(root, "prod", nobody) == ()
    with (root / "Pulumi.yaml").open("a") as file:
        file.write("backend: {url: 'file://./state'}\n")
    lock(root, ended())
    assert len(read_locks(root, "prod", nobody)) == 1
    assert backend(root, nobody | {"PULUMI_BACKEND_URL": "azblob://state"}) == "azblob://state"
