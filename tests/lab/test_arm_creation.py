"""The lab's ARM endpoint where nothing is yet: groups and servers that come and go, and what is around a server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fix_arm import SUBSCRIPTION, ArmLab
from tests.lab.test_arm_emulator import settled

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-lab"
PASSWORD = "Sup3rSecret!value"
ENTRA = {"activeDirectoryAuth": "Enabled", "passwordAuth": "Enabled", "tenantId": "t"}
DBA = {"principalName": "dba", "principalType": "Group", "tenantId": "t"}


def declared(nodes: int = 4, **properties: Any) -> dict[str, Any]:
    return {
        "location": "northeurope",
        "sku": {"name": "Standard_D2ds_v5", "tier": "GeneralPurpose"},
        "tags": {"owner": "platform"},
        "properties": {
            "administratorLogin": "boss",
            "administratorLoginPassword": PASSWORD,
            "version": "17",
            "storage": {"storageSizeGB": 256},
            "cluster": {"clusterSize": nodes, "defaultDatabaseName": "citus"},
            **properties,
        },
    }


def send(arm: ArmLab, method: str, path: str, body: object = None) -> dict[str, Any]:
    """The operation's last poll; fails unless it was accepted."""
    status, answer, headers = arm.request(method, path, body)
    assert status == 202, answer
    return settled(arm, headers)


def create(arm: ArmLab, **properties: Any) -> None:
    assert arm.request("PUT", GROUP, {"location": "northeurope"})[0] == 201
    assert send(arm, "PUT", arm.server_path, declared(**properties))["status"] == "Succeeded"


def test_a_put_creates_the_server_and_starts_its_nodes(empty_arm: ArmLab) -> None:
    create(empty_arm)
    status, shown, _ = empty_arm.request("GET", empty_arm.server_path)
    properties = shown["properties"]
    assert status == 200
    assert (shown["location"], shown["tags"]) == ("North Europe", {"owner": "platform"})
    assert properties["cluster"] == {"clusterSize": 4, "defaultDatabaseName": "citus"}
    assert (properties["administratorLogin"], properties["state"]) == ("boss", "Ready")
    assert (properties["storage"]["tier"], properties["storage"]["storageSizeGB"]) == ("P15", 256)
    assert empty_arm.backend.calls == ["resize 4"]
    assert PASSWORD not in str(shown)
    assert empty_arm.state_file is not None
    assert PASSWORD not in empty_arm.state_file.read_text("utf-8")


def test_a_server_that_is_being_created_is_seen_and_is_busy(empty_arm: ArmLab) -> None:
    empty_arm.request("PUT", GROUP, {"location": "northeurope"})
    empty_arm.emulator.faults.hang_next_operation()
    _, _, headers = empty_arm.request("PUT", empty_arm.server_path, declared())
    assert empty_arm.request("GET", empty_arm.server_path)[1]["properties"]["state"] == "Provisioning"
    status, answer, _ = empty_arm.request("PUT", f"{empty_arm.server_path}/firewallRules/a", {"properties": {
        "startIpAddress": "1.1.1.1", "endIpAddress": "1.1.1.1"}})  # fmt: skip
    assert (status, answer["error"]["code"]) == (409, "ServerIsBusy")
    empty_arm.emulator.faults.release_operations()
    assert settled(empty_arm, headers)["status"] == "Succeeded"
    assert empty_arm.request("GET", empty_arm.server_path)[1]["properties"]["state"] == "Ready"


def test_a_creation_that_fails_leaves_no_server(empty_arm: ArmLab) -> None:
    empty_arm.request("PUT", GROUP, {"location": "northeurope"})
    ended = send(empty_arm, "PUT", empty_arm.server_path, declared(nodes=99))
    assert (ended["status"], ended["error"]["code"]) == ("Failed", "UnsupportedValue")
    assert empty_arm.request("GET", empty_arm.server_path)[0] == 404
    assert send(empty_arm, "PUT", empty_arm.server_path, declared())["status"] == "Succeeded"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**declared(), "location": None}, "LocationRequired"),
        ({"location": "northeurope", "properties": {}}, "NotSupportedByLab"),
        ({**declared(), "sku": "small"}, "InvalidRequestContent"),
    ],
)
def test_a_put_without_what_a_cluster_needs_is_refused_at_once(
    empty_arm: ArmLab, body: dict[str, Any], code: str
) -> None:
    empty_arm.request("PUT", GROUP, {"location": "northeurope"})
    status, answer, _ = empty_arm.request("PUT", empty_arm.server_path, body)
    assert (status, answer["error"]["code"]) == (400, code)
    assert empty_arm.request("GET", empty_arm.server_path)[0] == 404


def test_a_server_needs_its_group_and_goes_before_it(empty_arm: ArmLab) -> None:
    status, answer, _ = empty_arm.request("PUT", empty_arm.server_path, declared())
    assert (status, answer["error"]["code"]) == (404, "ResourceGroupNotFound")
    create(empty_arm)
    status, answer, _ = empty_arm.request("DELETE", GROUP)
    assert (status, answer["error"]["code"]) == (409, "ScopeLocked")
    assert send(empty_arm, "DELETE", empty_arm.server_path)["status"] == "Succeeded"
    assert empty_arm.request("GET", empty_arm.server_path)[0] == 404
    assert empty_arm.request("DELETE", empty_arm.server_path)[0] == 204
    assert empty_arm.request("DELETE", GROUP)[0] == 200
    assert empty_arm.request("GET", GROUP)[0] == 404


def test_a_created_server_and_what_is_around_it_survive_a_restart(empty_arm: ArmLab) -> None:
    create(empty_arm, authConfig=ENTRA)
    send(empty_arm, "PUT", f"{empty_arm.server_path}/administrators/ABC", {"properties": DBA})
    alert = f"{GROUP}/providers/Microsoft.Insights/metricAlerts/cpu"
    empty_arm.request("PUT", alert, {"location": "global", "properties": {"severity": 2}})
    paths = (empty_arm.server_path, f"{empty_arm.server_path}/administrators/abc", alert)
    before = [empty_arm.request("GET", path)[:2] for path in paths]
    empty_arm.restart()
    assert [empty_arm.request("GET", path)[:2] for path in paths] == before


def test_the_labs_own_server_cannot_be_created_twice_or_deleted(arm: ArmLab) -> None:
    other = arm.server_path.replace("elk1", "elk2")
    status, answer, _ = arm.request("PUT", other, declared())
    assert (status, answer["error"]["code"]) == (400, "NotSupportedByLab")
    assert "elk2" in answer["error"]["message"]
    status, answer, _ = arm.request("DELETE", arm.server_path)
    assert (status, answer["error"]["code"]) == (409, "ScopeLocked")
    assert arm.request("GET", arm.server_path)[0] == 200


def test_entra_administrators_come_and_go_on_a_server_that_takes_entra(empty_arm: ArmLab) -> None:
    create(empty_arm, authConfig=ENTRA)
    path = f"{empty_arm.server_path}/administrators"
    assert send(empty_arm, "PUT", f"{path}/ABC", {"properties": DBA})["status"] == "Succeeded"
    assert empty_arm.request("GET", f"{path}/abc")[1]["properties"] == {**DBA, "objectId": "abc"}
    assert [known["name"] for known in empty_arm.request("GET", path)[1]["value"]] == ["abc"]
    assert send(empty_arm, "DELETE", f"{path}/abc")["status"] == "Succeeded"
    assert empty_arm.request("DELETE", f"{path}/abc")[0] == 204
    assert empty_arm.request("GET", f"{path}/abc")[0] == 404


def test_an_entra_administrator_is_refused_without_entra_or_without_a_name(empty_arm: ArmLab, arm: ArmLab) -> None:
    status, answer, _ = arm.request("PUT", f"{arm.server_path}/administrators/abc", {"properties": DBA})
    assert (status, answer["error"]["code"]) == (400, "AadAuthDisabled")
    create(empty_arm, authConfig=ENTRA)
    unnamed = {"properties": {**DBA, "principalName": ""}}
    status, answer, _ = empty_arm.request("PUT", f"{empty_arm.server_path}/administrators/abc", unnamed)
    assert status == 400
    assert "principalName" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("Microsoft.Network/privateEndpoints/e", "Microsoft.Network/privateEndpoints"),
        (
            "Microsoft.Network/privateEndpoints/e/privateDnsZoneGroups/default",
            "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
        ),
        ("Microsoft.Network/privateDnsZones/z", "Microsoft.Network/privateDnsZones"),
        (
            "Microsoft.Network/privateDnsZones/z/virtualNetworkLinks/l",
            "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
        ),
        ("Microsoft.Insights/metricAlerts/cpu", "Microsoft.Insights/metricAlerts"),
    ],
)
def test_resources_around_a_server_are_kept_as_they_were_written(arm: ArmLab, path: str, kind: str) -> None:
    address, body = f"{GROUP}/providers/{path}", {"location": "global", "properties": {"severity": 2}}
    assert arm.request("GET", address)[0] == 404
    assert arm.request("PUT", address, body)[0] == 201
    assert arm.request("PUT", address, body)[0] == 200
    shown = arm.request("GET", address.replace("resourceGroups", "resourcegroups"))[1]
    assert (shown["properties"], shown["type"]) == (body["properties"], kind)
    assert arm.request("DELETE", address)[0] == 200
    assert arm.request("DELETE", address)[0] == 204


def test_diagnostic_settings_hang_below_the_server(arm: ArmLab) -> None:
    address = f"{arm.server_path}/providers/Microsoft.Insights/diagnosticSettings/logs"
    assert arm.request("PUT", address, {"properties": {"workspaceId": "w"}})[0] == 201
    assert arm.request("GET", address)[1]["type"] == "Microsoft.Insights/diagnosticSettings"


def test_a_resource_in_an_unknown_group_is_refused(arm: ArmLab) -> None:
    address = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-none/providers/Microsoft.Insights/metricAlerts/cpu"
    status, answer, _ = arm.request("PUT", address, {"location": "global"})
    assert (status, answer["error"]["code"]) == (404, "ResourceGroupNotFound")
