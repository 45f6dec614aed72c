"""Restarts and failovers through Azure's SDK, against the lab's ARM endpoint."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.observed.server import Operation, OperationReading
from tests.fix_arm import ArmLab

Ended = Callable[[Operation], OperationReading]


def test_a_restart_stops_and_starts_the_cluster(client: ArmClient, arm: ArmLab, ended: Ended) -> None:
    assert ended(client.start_restart()).status == "Succeeded"
    assert arm.backend.calls == ["stop", "start"]


def test_a_failover_needs_standbys(client: ArmClient, arm: ArmLab, ended: Ended) -> None:
    refused = ended(client.start_restart("planned"))
    assert (refused.status, refused.code) == ("Failed", "HighAvailabilityNotEnabled")
    assert arm.backend.calls == []
    body = {"properties": {"highAvailability": {"mode": "ZoneRedundant"}}}
    status, _, headers = arm.request("PATCH", arm.server_path, body)
    assert status == 202
    assert ended(Operation(headers["Azure-AsyncOperation"], "update")).status == "Succeeded"
    assert ended(client.start_restart("forced")).status == "Succeeded"
    assert arm.backend.calls == ["stop", "start"]
