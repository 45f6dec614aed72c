"""Pulumi's real engine on a project of its own: file backend, passphrase, the stand-in provider over the lab's ARM.

The program runs in the tests' process (Automation API), so that no language host is needed beside the CLI.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pulumi.automation import LocalWorkspace, Stack
from pulumi.automation.errors import CommandError

from orchestrator.lab.arm.emulator import ArmEmulator
from tests.fix_arm import SUBSCRIPTION, MemoryBackend
from tests.fix_pulumi import ROOT, pulumi_cli
from tests.infra.arm_calls import Arm
from tests.infra.provider import StandInProvider

PASSWORD = "Hunter2-of-the-cluster"
GROUP_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-test"
SERVER_PATH = f"{GROUP_PATH}/providers/Microsoft.DBforPostgreSQL/flexibleServers/contoso-test"
STACK: dict[str, Any] = {
    "name": "contoso-test",
    "resourceGroup": "rg-test",
    "createResourceGroup": True,
    "subscriptionId": SUBSCRIPTION,
    "location": "northeurope",
    "nodes": 4,
    "database": "citus",
    "serverParameters": {"work_mem": "8MB"},
    "network": {"firewallRules": [{"name": "office", "startIp": "203.0.113.10"}]},
    "tags": {"owner": "platform"},
}


class PulumiProject:
    """A copy of the project in a folder of its own. `environment` is what `pulumi` needs to work on it."""

    def __init__(self, folder: Path, provider: StandInProvider, stack: str = "test") -> None:
        cli = pulumi_cli()
        assert cli is not None, "tests of the engine skip where there is no CLI"
        self.folder, self.provider, self.name = folder, provider, stack
        self._loops: list[asyncio.AbstractEventLoop] = []
        (folder / "stacks").mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir()
        if not (folder / "Pulumi.yaml").exists():
            shutil.copy(ROOT / "Pulumi.yaml", folder)
        shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        self.environment = {
            "PATH": f"{cli.parent}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase for tests",
            "PULUMI_DEBUG_PROVIDERS": f"azure-native:{provider.port}",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    @property
    def stack_file(self) -> Path:
        return self.folder / "stacks" / f"Pulumi.{self.name}.yaml"

    def write(self, values: dict[str, Any]) -> None:
        """The keys of ours in the stack file; what Pulumi wrote beside them stays. None drops a key."""
        content = yaml.safe_load(self.stack_file.read_text("utf-8")) if self.stack_file.exists() else {}
        config = content.setdefault("config", {})
        config.update({f"elastic-cluster:{key}": value for key, value in values.items()})
        content["config"] = {key: value for key, value in config.items() if value is not None}
        self.stack_file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")

    def cli(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env=os.environ | self.environment,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self) -> None:
        self.cli("stack", "init", self.name)
        self.cli("config", "set", "--secret", "elastic-cluster:administratorPassword", "-s", self.name, stdin=PASSWORD)

    def stack(self) -> Stack:
        def program() -> None:
            self._loops.append(asyncio.get_running_loop())
            runpy.run_path(str(self.folder / "infra"), run_name="__main__")

        workspace = LocalWorkspace(work_dir=str(self.folder), program=program, env_vars=self.environment)
        return Stack.select(self.name, workspace)

    def close(self) -> None:
        """Pulumi's SDK leaves the program's event loop open after an update that fails."""
        for loop in self._loops:
            loop.close()


def operations(events: list[Any]) -> dict[str, str]:
    """What a preview or an update did with each resource: name -> operation; what stays the same is left out."""
    steps = [event.resource_pre_event.metadata for event in events if event.resource_pre_event is not None]
    named = {step.urn.rsplit("::", 1)[-1]: getattr(step.op, "value", step.op) for step in steps}
    return {name: str(how) for name, how in named.items() if how not in {"same", "refresh", "read"}}


def differences(events: list[Any], name: str) -> list[str]:
    """The paths of the properties by which this resource differs."""
    for event in events:
        step = event.resource_pre_event and event.resource_pre_event.metadata
        if step and step.urn.endswith(f"::{name}") and step.detailed_diff:
            return sorted(step.detailed_diff)
    return []


def refused(command: Any, **options: Any) -> str:
    """What Pulumi said when it refused; fails when it did not."""
    said: list[str] = []
    try:
        command(on_output=said.append, on_error=said.append, color="never", **options)
    except CommandError as error:
        return "\n".join([*said, str(error)])
    raise AssertionError("it went through:\n" + "\n".join(said))


@contextmanager
def azure(nodes: int = 0) -> Iterator[tuple[ArmEmulator, MemoryBackend]]:
    """A subscription in which nothing is yet."""
    backend = MemoryBackend(nodes)
    with ArmEmulator(backend, None) as emulator:
        yield emulator, backend


def provider_for(emulator: ArmEmulator, *, adopts: bool = False) -> StandInProvider:
    return StandInProvider(Arm(emulator.url, SUBSCRIPTION), adopts=adopts)
