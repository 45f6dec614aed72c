"""The Pulumi program: start and memory, the real engine's preview and up, and a scale-out through Pulumi.

uv run --all-extras python bench/infra.py [--runs 5]

Needs the `pulumi` CLI (`make pulumi`). Azure is the lab's endpoint behind the tests' stand-in for Pulumi's provider: it
answers at once, so these are times of Pulumi and of the orchestrator, not of Azure. CPU seconds are those of the
command and of what it starts; unlike wall time they hardly depend on what else runs. Writes bench/results/infra.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # this file's folder would hide the package `infra` behind this file

from pulumi.automation import LocalWorkspace, Stack  # noqa: E402

from tests.e2e.test_pulumi import declared  # noqa: E402
from tests.fix_lab import Project  # noqa: E402
from tests.fix_project import _project  # noqa: E402
from tests.fix_pulumi import pulumi_cli  # noqa: E402
from tests.infra.engine import STACK, PulumiProject, azure, provider_for  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "infra.json"
IMPORTS = {
    "python": "",
    "pulumi": "import pulumi",
    "program": "import infra.cluster, infra.existing, pulumi_azure_native.dbforpostgresql as p; p.Server",
    "program with network and alerts": (
        "import infra.cluster, infra.network, infra.monitoring, pulumi_azure_native as a;"
        "a.dbforpostgresql.Server; a.network.PrivateEndpoint; a.privatedns.PrivateZone; a.monitor.MetricAlert"
    ),
}
# What getrusage says of memory is inherited from the process that started it; this is not.
PROBE = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float


def timed(call: Callable[[], Any]) -> tuple[Took, Any]:
    """CPU includes processes that the call started and waited for."""
    started, before = time.perf_counter(), os.times()
    result = call()
    after = os.times()
    return Took(time.perf_counter() - started, sum(after[:4]) - sum(before[:4])), result


def medians(values: list[Took]) -> dict[str, float]:
    return {
        "wall_seconds": round(statistics.median(took.wall for took in values), 2),
        "cpu_seconds": round(statistics.median(took.cpu for took in values), 2),
    }


def imports(runs: int) -> dict[str, Any]:
    """Wall time and most memory of a fresh process; in turn, so that all see the same moods of the machine."""
    times: dict[str, list[Took]] = {name: [] for name in IMPORTS}
    megabytes: dict[str, float] = {}
    for _ in range(runs):
        for name, code in IMPORTS.items():
            command = [sys.executable, "-c", f"{code}\n{PROBE}"]
            took, done = timed(partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True))
            times[name].append(took)
            megabytes[name] = round(int(done.stdout) / 1024, 1)
    return {name: {**medians(values), "mib": megabytes[name]} for name, values in times.items()}


def engine(runs: int, folder: Path) -> dict[str, Any]:
    """Median times of each command of the engine on a stack of 11 resources, each run on a stack of its own."""
    found: dict[str, list[Took]] = {}
    for number in range(runs):
        with azure() as (emulator, _), provider_for(emulator) as provider:
            project = PulumiProject(folder / str(number), provider)
            os.environ.update(project.environment)
            project.write(STACK)
            project.create()
            for name, command in _commands(project).items():
                found.setdefault(name, []).append(timed(command)[0])
            project.close()
    return {name: medians(values) for name, values in found.items()}


def _commands(project: PulumiProject) -> dict[str, Callable[[], Any]]:
    stack, quiet = project.stack(), {"color": "never"}
    return {
        "version": lambda: project.cli("version"),
        "preview of a new stack": lambda: stack.preview(**quiet),
        "up of a new stack": lambda: stack.up(show_secrets=False, **quiet),
        "preview without a change": lambda: stack.preview(**quiet),
        "up without a change": lambda: stack.up(show_secrets=False, **quiet),
    }


def by_hand(folder: Path, name: str) -> None:
    """What a person would run to add nodes: a preview and an `up`, both looking at Azure first."""
    workspace = LocalWorkspace(
        work_dir=str(folder), program=lambda: runpy.run_path(str(folder / "infra"), run_name="__main__")
    )
    stack = Stack.select(name, workspace)
    stack.preview(refresh=True, color="never")
    stack.up(refresh=True, color="never", show_secrets=False)


def scale_out(folder: Path) -> dict[str, Any]:
    """One node more by Pulumi alone and one by the orchestrator through Pulumi, in turn, on a lab with the stand-in."""
    project: Project = _project(folder / "project", folder / "labs")
    assert project.run("lab", "up", "--engine", "embedded", "--nodes", "3").returncode == 0
    alone, through = [], []
    try:
        with declared(project) as stack:
            for nodes in range(4, 10, 2):
                stack.write({"nodes": nodes})
                script = [sys.executable, str(Path(__file__).resolve()), "--by-hand", str(project.folder)]
                alone.append(timed(partial(_checked, project, script))[0])
                command = ["scale-out", "--nodes", str(nodes + 1), "--no-rebalance", "--yes"]
                verb = [sys.executable, "-m", "orchestrator", *command]
                through.append(timed(partial(_checked, project, verb))[0])
    finally:
        project.run("lab", "down", "--delete")
    pairs = list(zip(through, alone, strict=True))
    return {
        "pairs": len(pairs),
        "preview_and_up": medians(alone),
        "orchestrator": medians(through),
        "wall_ratios": [round(mine.wall / engines.wall, 2) for mine, engines in pairs],
        "cpu_ratios": [round(mine.cpu / engines.cpu, 2) for mine, engines in pairs],
        "added_cpu_seconds": [round(mine.cpu - engines.cpu, 2) for mine, engines in pairs],
    }


def _checked(project: Project, command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of the Pulumi program and of the engine.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--by-hand", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.by_hand is not None:
        by_hand(asked.by_hand, "local")
        return
    cli = pulumi_cli()
    if cli is None:
        sys.exit("There is no pulumi CLI here: make pulumi")
    os.environ["PATH"] = f"{cli.parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        version = subprocess.run([cli, "version"], capture_output=True, text=True, check=True).stdout.strip()
        document = {
            "command": "uv run --all-extras python bench/infra.py " + " ".join(sys.argv[1:]),
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "pulumi": version,
            "runs": asked.runs,
            "imports": imports(asked.runs),
            "engine": engine(asked.runs, folder),
            "scale_out": scale_out(folder),
        }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
