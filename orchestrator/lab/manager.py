"""The lab's verbs: up, status, down. They start and stop the process behind a lab and wait until it is done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.core.errors import LabError, LabRefused
from orchestrator.lab.daemon import FAILED, READY
from orchestrator.lab.discover import choose, make
from orchestrator.lab.engine import Progress
from orchestrator.lab.home import LabHome, Running
from orchestrator.lab.pgbouncer import stop_in

# The lab's process outlives the one that started it; a Popen object that is collected would complain about that.
_started: list[subprocess.Popen[bytes]] = []
START_TIMEOUT = 300.0
STOP_TIMEOUT = 60.0


def up(
    home: LabHome,
    engine: str,
    nodes: int | None,
    *,
    database: str,
    admin_login: str,
    server: Mapping[str, Any],
    progress: Progress,
) -> Running:
    """Make the lab or start the one that is there; one that runs already is only reported. `nodes` None keeps it.

    Raises LabRefused for another engine or fewer nodes than the lab has, LabError when it does not come up.
    """
    if home.exists():
        _agree(home, engine, nodes)
        running = home.running()
        if running is not None:
            if nodes is not None and nodes > running.nodes:
                raise LabRefused(
                    f"The lab runs with {running.nodes} nodes. Grow it the way Azure's is grown: "
                    f"`orchestrator scale-out --stack {home.name} --nodes {nodes}`."
                )
            return running
        record = home.read()
        if nodes is not None and nodes > record.nodes:
            home.grow(nodes)
    else:
        home.create(choose(engine).engine, nodes or 2, database, admin_login, server)
    return _start(home, progress)


def _agree(home: LabHome, engine: str, nodes: int | None) -> None:
    record = home.read()
    if engine not in ("auto", record.engine):
        raise LabRefused(
            f"The lab {home.name!r} is on the {record.engine} engine. "
            f"`orchestrator lab down --delete` removes it, then `orchestrator lab up --engine {engine}` makes another."
        )
    if nodes is not None and nodes < record.nodes:
        raise LabRefused(
            f"The lab {home.name!r} has {record.nodes} nodes, and an elastic cluster cannot lose nodes. "
            "`orchestrator lab down --delete` removes it with its data."
        )


def _start(home: LabHome, progress: Progress) -> Running:
    home.progress_file.write_text("", "utf-8")
    with home.log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.lab.daemon", str(home.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    _started[:] = [child for child in _started if child.poll() is None]
    _started.append(process)
    deadline = time.monotonic() + START_TIMEOUT
    seen = 0
    try:
        while time.monotonic() < deadline:
            lines = home.progress_file.read_text("utf-8").splitlines()
            for line in lines[seen:]:
                if line.startswith(FAILED):
                    process.wait(STOP_TIMEOUT)
                    raise LabError(f"The lab did not come up. {line.removeprefix(FAILED)}")
                if line != READY:
                    progress(line)
            seen = len(lines)
            if READY in lines and (running := home.running()) is not None:
                return running
            if process.poll() is not None:
                raise LabError(
                    f"The lab ended while it was starting (exit code {process.returncode}); see {home.log_file}."
                )
            time.sleep(0.05)
    except KeyboardInterrupt:
        process.terminate()
        process.wait(STOP_TIMEOUT)
        raise
    process.terminate()
    raise LabError(f"The lab did not come up within {START_TIMEOUT:.0f} s; see {home.log_file}.")


def down(home: LabHome, *, delete: bool, progress: Progress) -> bool:
    """Stop the lab, also one whose process died; remove its data with `delete`. False when there was nothing."""
    if not home.exists():
        if home.folder.exists() and delete:
            shutil.rmtree(home.folder)
            return True
        return False
    if home.locked():
        progress("stopping the lab")
        _terminate(home)
    engine = make(home.read().engine, home.settings())
    stop_in(home.pooler)
    engine.stop()
    home.withdraw()
    if delete:
        progress("removing its data")
        engine.delete()
        shutil.rmtree(home.folder)
    return True


def _terminate(home: LabHome) -> None:
    """The lock tells when the process is gone; its number alone could be another process's by then."""
    pid = home.lock_holder()
    if pid is None:
        raise LabError(f"The lab {home.name!r} is being started by another process. Try again in a moment.")
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        if _wait_until(lambda: not home.locked(), STOP_TIMEOUT):
            _reap(pid)
            return
    raise LabError(f"The lab's process {pid} does not end.")


def _reap(pid: int) -> None:
    """Where the same process made and ends the lab, nobody else collects its child."""
    for process in [child for child in _started if child.pid == pid]:
        process.wait(STOP_TIMEOUT)
        _started.remove(process)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
