"""The ARM endpoint of the lab over an in-memory cluster, the production client, and Azure's plain SDK client."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.azure.credentials import FixedBearer, NoCredential
from orchestrator.core.errors import LabError
from orchestrator.core.observed.server import Operation, OperationReading
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.resources import ServerFacts

EXECUTORS = "citus.max_background_task_executors"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


class MemoryBackend:
    """A cluster without servers. `resize_error` fails the next resize; `silent` every look at the parameters."""

    def __init__(self, nodes: int = 2) -> None:
        self.nodes = nodes
        self.running = True
        self.calls: list[str] = []
        self.resize_error: Exception | None = None
        self.silent = False
        self.values = {EXECUTORS: ("1", "1"), "work_mem": ("4MB", "4MB"), "citus.enable_metadata_sync": ("on", "on")}

    def node_count(self) -> int:
        return self.nodes

    def resize(self, nodes: int) -> None:
        self.calls.append(f"resize {nodes}")
        error, self.resize_error = self.resize_error, None
        if error is not None:
            raise error
        self.nodes = nodes

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        if self.silent:
            raise LabError("node 1 does not answer")
        return dict(self.values)

    def set_parameter(self, name: str, value: str) -> None:
        self.calls.append(f"set {name}={value}")
        if value == "impossible":
            raise LabError(f'invalid value for parameter "{name}": "{value}"')
        self.values[name] = (value, self.values[name][1])

    def start(self) -> None:
        self.calls.append("start")
        self.running = True

    def stop(self) -> None:
        self.calls.append("stop")
        self.running = False


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ArmLab:
    """One emulator, its cluster, and ways to talk to it. `empty`: no server until one is created by PUT."""

    def __init__(self, state_file: Path | None = None, *, empty: bool = False) -> None:
        self.backend = MemoryBackend(0 if empty else 2)
        self.clock = Clock()
        facts = ServerFacts(SUBSCRIPTION, "rg-lab", "elk1", location="northeurope", database="citus")
        self.facts = None if empty else facts
        self.state_file = state_file
        self.emulator = self._new(0)

    def _new(self, port: int) -> ArmEmulator:
        emulator = ArmEmulator(self.backend, self.facts, port=port, state_file=self.state_file, clock=self.clock)
        emulator.start()
        self.port = int(emulator.url.rpartition(":")[2])
        return emulator

    def restart(self) -> None:
        """As after a crash of the daemon and another `lab up`: same port, same state file."""
        self.emulator.stop()
        self.emulator = self._new(self.port)

    @property
    def server_path(self) -> str:
        return (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-lab"
            "/providers/Microsoft.DBforPostgreSQL/flexibleServers/elk1"
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        version: str | None = "2026-10-01",
        authorized: bool = True,
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """One request as a client without an SDK would send it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": "Bearer any"} if authorized else {}
        address = path if version is None else f"{path}{'&' if '?' in path else '?'}api-version={version}"
        try:
            connection.request(method, address, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return response.status, json.loads(content) if content else None, response.headers


def wait_for(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """The condition's first true answer; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still not true after {seconds} s"
        time.sleep(0.002)
    return answer


@pytest.fixture
def arm() -> Iterator[ArmLab]:
    lab = ArmLab()
    yield lab
    lab.emulator.stop()


@pytest.fixture
def empty_arm(tmp_path: Path) -> Iterator[ArmLab]:
    """A subscription with nothing in it, kept in a file."""
    lab = ArmLab(tmp_path / "arm.json", empty=True)
    yield lab
    lab.emulator.stop()


@pytest.fixture
def saved_arm(tmp_path: Path) -> Iterator[ArmLab]:
    """An emulator that keeps its state in a file."""
    lab = ArmLab(tmp_path / "arm.json")
    yield lab
    lab.emulator.stop()


@pytest.fixture
def client(arm: ArmLab) -> Iterator[ArmClient]:
    with ArmClient(SUBSCRIPTION, "rg-lab", "elk1", arm.emulator.url) as made:
        yield made


@pytest.fixture
def sdk(arm: ArmLab) -> Iterator[PostgreSQLManagementClient]:
    """Azure's client as anybody would use it, polling without pauses."""
    with PostgreSQLManagementClient(
        NoCredential(), SUBSCRIPTION, arm.emulator.url, authentication_policy=FixedBearer(), polling_interval=0
    ) as made:
        yield made


@pytest.fixture
def ended(client: ArmClient) -> Callable[[Operation], OperationReading]:
    """Polls an operation until it has ended."""

    def until_ended(operation: Operation) -> OperationReading:
        def reading() -> OperationReading | None:
            now = client.read_operation(operation)
            return now if now.status != "InProgress" else None

        found: OperationReading = wait_for(reading)
        return found

    return until_ended
