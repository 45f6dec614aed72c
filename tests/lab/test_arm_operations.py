"""Operations of the lab's ARM endpoint that meet each other, fail as ordered, or outlive its process."""

from __future__ import annotations

import http.client
import stat
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient
from azure.mgmt.postgresqlflexibleservers import models as m

from orchestrator.lab.arm.emulator import ArmEmulator
from tests.fix_arm import EXECUTORS, ArmLab, wait_for
from tests.lab.arm_requests import GROUP, NAME, get, names, patch, put_parameter, resize, settled

# Busy servers and ordered faults


def test_one_operation_per_server(arm: ArmLab) -> None:
    arm.emulator.faults.hang_next_operation()
    _, _, headers = arm.request("PATCH", arm.server_path, resize(4))
    assert get(arm)["properties"]["state"] == "Updating"
    rule = {"properties": {"startIpAddress": "10.0.0.1", "endIpAddress": "10.0.0.1"}}
    value = {"properties": {"value": "4", "source": "user-override"}}
    for method, child, body in (
        ("PATCH", "", resize(6)),
        ("PUT", f"/configurations/{EXECUTORS}", value),
        ("PUT", "/firewallRules/office", rule),
        ("POST", "/restart", None),
    ):
        status, answer, _ = arm.request(method, arm.server_path + child, body)
        assert (status, answer["error"]["code"]) == (409, "ServerIsBusy")
        assert answer["error"]["message"] == (
            "Cannot complete operation while server 'elk1' is busy processing another operation. Try again later."
        )
    assert names(arm)
    arm.emulator.faults.release_operations()
    settled(arm, headers)
    assert get(arm)["properties"]["cluster"]["clusterSize"] == arm.backend.nodes == 4


def test_an_operation_can_be_made_to_take_its_time(arm: ArmLab) -> None:
    arm.emulator.faults.min_duration = 60
    _, _, headers = arm.request("PATCH", arm.server_path, resize(4))
    wait_for(lambda: arm.backend.nodes == 4)
    shown = get(arm)["properties"]
    assert (shown["state"], shown["cluster"]["clusterSize"]) == ("Updating", 2)
    arm.clock.now += 61
    assert settled(arm, headers)["status"] == "Succeeded"
    assert get(arm)["properties"]["cluster"]["clusterSize"] == 4


def test_the_next_operation_fails_as_ordered(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    arm.emulator.faults.fail_next_operation("SkuNotAvailable", "No capacity in North Europe.")
    with pytest.raises(HttpResponseError, match="No capacity") as caught:
        sdk.servers.begin_update(GROUP, NAME, m.ServerForPatch(resize(4))).result()
    assert (caught.value.status_code, caught.value.error and caught.value.error.code) == (200, "SkuNotAvailable")
    assert (arm.backend.nodes, get(arm)["properties"]["cluster"]["clusterSize"]) == (2, 2)
    sdk.servers.begin_update(GROUP, NAME, m.ServerForPatch(resize(4))).result()
    assert arm.backend.nodes == 4


def test_nodes_join_after_the_operation_has_succeeded(arm: ArmLab) -> None:
    arm.emulator.faults.hold_nodes()
    assert patch(arm, resize(4))["status"] == "Succeeded"
    assert (get(arm)["properties"]["cluster"]["clusterSize"], arm.backend.nodes) == (4, 2)
    arm.emulator.faults.release_nodes()
    wait_for(lambda: arm.backend.nodes == 4)


def test_the_plain_client_sits_out_throttling_and_errors(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    arm.emulator.faults.throttle(retry_after=0)
    arm.emulator.faults.error_once(503)
    assert sdk.servers.get(GROUP, NAME).name == NAME


def test_a_lost_reply_hides_an_accepted_write(arm: ArmLab) -> None:
    arm.emulator.faults.lose_next_reply()
    with pytest.raises(http.client.RemoteDisconnected):
        arm.request("PATCH", arm.server_path, resize(4))
    wait_for(lambda: get(arm)["properties"]["cluster"]["clusterSize"] == 4)


# Restarts


def test_state_survives_a_restart(saved_arm: ArmLab) -> None:
    patch(saved_arm, {**resize(4), "tags": {"a": "1"}})
    put_parameter(saved_arm, "pgbouncer.enabled", {"value": "true", "source": "user-override"})
    _, _, headers = saved_arm.request(
        "PUT",
        f"{saved_arm.server_path}/firewallRules/office",
        {"properties": {"startIpAddress": "10.0.0.1", "endIpAddress": "10.0.0.1"}},
    )
    settled(saved_arm, headers)
    before = [get(saved_arm, child) for child in ("", "/configurations", "/firewallRules")]
    saved_arm.restart()
    assert [get(saved_arm, child) for child in ("", "/configurations", "/firewallRules")] == before
    assert settled(saved_arm, headers)["status"] == "Succeeded"


def test_an_interrupted_operation_goes_on_after_a_restart(saved_arm: ArmLab) -> None:
    saved_arm.emulator.faults.hang_next_operation()
    _, _, headers = saved_arm.request("PATCH", saved_arm.server_path, resize(4))
    saved_arm.restart()
    assert settled(saved_arm, headers)["status"] == "Succeeded"
    assert (get(saved_arm)["properties"]["cluster"]["clusterSize"], saved_arm.backend.nodes) == (4, 4)


def test_nodes_that_had_not_joined_join_after_a_restart(saved_arm: ArmLab) -> None:
    saved_arm.emulator.faults.hold_nodes()
    patch(saved_arm, resize(4))
    saved_arm.restart()
    wait_for(lambda: saved_arm.backend.nodes == 4)


def test_a_cluster_that_grew_without_its_record_is_believed(saved_arm: ArmLab) -> None:
    saved_arm.emulator.stop()
    saved_arm.backend.nodes = 3
    saved_arm.restart()
    assert get(saved_arm)["properties"]["cluster"]["clusterSize"] == 3


def test_a_stopped_server_is_ready_when_the_lab_is_up_again(saved_arm: ArmLab) -> None:
    _, _, headers = saved_arm.request("POST", f"{saved_arm.server_path}/stop")
    settled(saved_arm, headers)
    assert get(saved_arm)["properties"]["state"] == "Stopped"
    saved_arm.restart()
    assert get(saved_arm)["properties"]["state"] == "Ready"


def test_the_state_file_is_private_and_alone(saved_arm: ArmLab, tmp_path: Path) -> None:
    patch(saved_arm, resize(4))
    assert saved_arm.state_file is not None
    assert stat.S_IMODE(saved_arm.state_file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [saved_arm.state_file]


def test_a_port_in_use_is_reported_before_anything_happens(arm: ArmLab) -> None:
    second = ArmEmulator(arm.backend, arm.facts, port=arm.port)
    with pytest.raises(OSError, match="in use"):
        second.start()
    second.stop()
    assert get(arm)["properties"]["state"] == "Ready"
