"""The server as the lab's ARM endpoint shows and changes it, and what it refuses: paths, versions, bodies."""

from __future__ import annotations

import json
import logging

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient

from tests.fix_arm import SUBSCRIPTION, ArmLab
from tests.lab.arm_requests import GROUP, NAME, SECRET, get, patch, resize

# c. What GET shows


def test_get_shows_a_cluster_as_azure_does(arm: ArmLab) -> None:
    shown = get(arm)
    created = shown["systemData"].pop("createdAt")
    assert created.endswith("Z")
    assert shown == {
        "sku": {"name": "Standard_D2ds_v5", "tier": "GeneralPurpose"},
        "systemData": {},
        "properties": {
            "dataEncryption": {"type": "SystemManaged"},
            "cluster": {"clusterSize": 2, "defaultDatabaseName": "citus"},
            "replica": {"role": "Primary", "replicationState": "Active"},
            "storage": {"type": "", "iops": 500, "tier": "P10", "storageSizeGB": 128, "autoGrow": "Disabled"},
            "network": {"publicNetworkAccess": "Enabled"},
            "privateEndpointConnections": [],
            "authConfig": {"activeDirectoryAuth": "Disabled", "passwordAuth": "Enabled"},
            "fullyQualifiedDomainName": "elk1.postgres.database.azure.com",
            "version": "17",
            "administratorLogin": "clusteradmin",
            "state": "Ready",
            "availabilityZone": "1",
            "backup": {"backupRetentionDays": 7, "geoRedundantBackup": "Disabled"},
            "highAvailability": {"mode": "Disabled"},
            "maintenanceWindow": {"customWindow": "Disabled", "dayOfWeek": 0, "startHour": 0, "startMinute": 0},
            "replicationRole": "Primary",
        },
        "location": "North Europe",
        "id": arm.server_path,
        "name": NAME,
        "type": "Microsoft.DBforPostgreSQL/flexibleServers",
    }


@pytest.mark.parametrize(("size", "tier", "iops"), [(512, "P20", 2300), (32767, "P80", 20000)])
def test_storage_performance_follows_the_size(arm: ArmLab, size: int, tier: str, iops: int) -> None:
    patch(arm, {"properties": {"storage": {"storageSizeGB": size}}})
    assert get(arm)["properties"]["storage"] == {
        "type": "", "iops": iops, "tier": tier, "storageSizeGB": size, "autoGrow": "Disabled",
    }  # fmt: skip


def test_a_password_is_neither_shown_nor_kept_nor_logged(saved_arm: ArmLab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert patch(saved_arm, {"properties": {"administratorLoginPassword": SECRET}})["status"] == "Succeeded"
    assert saved_arm.state_file is not None
    assert SECRET not in json.dumps(get(saved_arm))
    assert SECRET not in saved_arm.state_file.read_text()
    assert SECRET not in caplog.text
    assert "PATCH /subscriptions" in caplog.text


def test_high_availability_has_no_state_on_a_cluster(arm: ArmLab) -> None:
    patch(arm, {"properties": {"highAvailability": {"mode": "ZoneRedundant", "state": "Healthy"}}})
    assert get(arm)["properties"]["highAvailability"] == {"mode": "ZoneRedundant"}


# d. Versions, paths, authentication, errors


@pytest.mark.parametrize("version", ["2025-08-01", "2026-01-01-preview", "2026-10-01"])
def test_api_versions_of_pulumi_azure_cli_and_the_sdk(arm: ArmLab, version: str) -> None:
    assert arm.request("GET", arm.server_path, version=version)[0] == 200


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, "MissingApiVersionParameter"),
        ("latest", "InvalidApiVersionParameter"),
        ("2021-06-01", "NoRegisteredProviderFound"),
    ],
)
def test_other_api_versions_are_refused(arm: ArmLab, version: str | None, code: str) -> None:
    status, body, _ = arm.request("GET", arm.server_path, version=version)
    assert (status, body["error"]["code"]) == (400, code)


def test_paths_are_matched_without_regard_to_case(arm: ArmLab) -> None:
    assert arm.request("GET", arm.server_path.lower())[1]["id"] == arm.server_path
    assert arm.request("GET", arm.server_path.upper() + "/FIREWALLRULES")[0] == 200


def test_without_authorization_nothing_is_answered(arm: ArmLab) -> None:
    for path in (arm.server_path, "/anything"):
        status, body, headers = arm.request("GET", path, authorized=False)
        assert (status, body["error"]["code"]) == (401, "AuthenticationFailed")
        assert headers["WWW-Authenticate"]


def test_health_needs_neither_token_nor_version(arm: ArmLab) -> None:
    status, body, _ = arm.request("GET", "/health", version=None, authorized=False)
    assert (status, body) == (200, {"status": "ok", "servers": {NAME: 2}, "busy": False})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-lab/providers/Microsoft.DBforPostgreSQL/flexibleServers/x",
         "ResourceNotFound"),
        (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/nope/providers/Microsoft.DBforPostgreSQL/flexibleServers/x",
         "ResourceGroupNotFound"),
        ("/subscriptions/other/resourceGroups/rg-lab/providers/Microsoft.DBforPostgreSQL/flexibleServers/x",
         "SubscriptionNotFound"),
        (f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines", "InvalidResourceType"),
    ],
)  # fmt: skip
def test_what_is_not_there(arm: ArmLab, path: str, code: str) -> None:
    status, body, _ = arm.request("GET", path)
    assert (status, body["error"]["code"]) == (404, code)


def test_deleting_the_server_is_left_to_the_lab(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    with pytest.raises(ResourceExistsError, match="lab down --delete") as refused:
        sdk.servers.begin_delete(GROUP, NAME).result()
    assert refused.value.status_code == 409
    assert refused.value.error is not None
    assert refused.value.error.code == "ScopeLocked"
    assert get(arm)["properties"]["state"] == "Ready"


def test_a_second_server_is_refused_with_the_way_to_get_one(arm: ArmLab) -> None:
    other = arm.server_path.replace("elk1", "elk2")
    status, body, _ = arm.request("PUT", other, {"location": "northeurope", **resize(2)})
    assert (status, body["error"]["code"]) == (400, "NotSupportedByLab")
    assert "lab up" in body["error"]["message"]


def test_databases_cannot_be_added(arm: ArmLab) -> None:
    status, body, _ = arm.request("PUT", arm.server_path + "/databases/second", {"properties": {}})
    assert (status, body["error"]["code"]) == (400, "OperationNotSupportedOnCluster")


def test_verbs_that_a_resource_does_not_have(arm: ArmLab) -> None:
    status, body, headers = arm.request("POST", arm.server_path)
    assert (status, body["error"]["code"]) == (405, "HttpMethodNotAllowed")
    assert "PATCH" in headers["Allow"]


def test_resource_groups(arm: ArmLab) -> None:
    base = f"/subscriptions/{SUBSCRIPTION}/resourcegroups"
    status, body, _ = arm.request("GET", f"{base}/rg-lab", version="2024-11-01")
    assert (status, body["name"], body["type"]) == (200, "rg-lab", "Microsoft.Resources/resourceGroups")
    assert arm.request("HEAD", f"{base}/rg-lab", version="2024-11-01")[0] == 204
    assert arm.request("HEAD", f"{base}/rg-new", version="2024-11-01")[0] == 404
    assert [arm.request("PUT", f"{base}/rg-new", {"location": "northeurope"})[0] for _ in range(2)] == [201, 200]
    assert arm.request("GET", f"{base}/rg-new")[1]["properties"] == {"provisioningState": "Succeeded"}


# f. Merging


def test_patch_keeps_what_it_does_not_name(arm: ArmLab) -> None:
    patch(arm, {"tags": {"a": "1", "b": "2"}, "properties": {"maintenanceWindow": {"customWindow": "Enabled"}}})
    before = get(arm)
    patch(arm, {"tags": {"a": None, "c": "3"}, "properties": {"maintenanceWindow": {"dayOfWeek": 3}}})
    after = get(arm)
    assert after["tags"] == {"b": "2", "c": "3"}
    assert after["properties"]["maintenanceWindow"] == {
        "customWindow": "Enabled", "dayOfWeek": 3, "startHour": 0, "startMinute": 0,
    }  # fmt: skip
    after["properties"]["maintenanceWindow"] = before["properties"]["maintenanceWindow"]
    assert {**after, "tags": 0} == {**before, "tags": 0}


def test_patch_cannot_change_the_login_or_the_place(arm: ArmLab) -> None:
    before = get(arm)
    body = {
        "location": "westeurope",
        "properties": {"administratorLogin": "other", "state": "Stopped", "cluster": None},
    }
    assert patch(arm, body)["status"] == "Succeeded"
    assert get(arm) == before
