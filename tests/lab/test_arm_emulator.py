"""The lab's ARM endpoint against what real Azure was recorded to do, through Azure's own SDK client and bare HTTP."""

from __future__ import annotations

import http.client
import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient
from azure.mgmt.postgresqlflexibleservers import models as m

from orchestrator.core.desired.limits import limit
from orchestrator.core.errors import LabError
from orchestrator.lab.arm.emulator import ArmEmulator
from tests.fix_arm import EXECUTORS, SUBSCRIPTION, ArmLab, wait_for

GROUP, NAME = "rg-lab", "elk1"
SECRET = "Sup3rSecret!value"


def resize(nodes: int) -> dict[str, Any]:
    return {"properties": {"cluster": {"clusterSize": nodes}}}


def settled(arm: ArmLab, headers: http.client.HTTPMessage) -> dict[str, Any]:
    """The last poll of the operation whose 202 had these headers."""
    path = headers["Azure-AsyncOperation"].partition(str(arm.port))[2]

    def poll() -> Any:
        status, body, _ = arm.request("GET", path, version=None)
        assert status == 200
        return body if body["status"] != "InProgress" else None

    body: dict[str, Any] = wait_for(poll)
    return body


def patch(arm: ArmLab, body: object) -> dict[str, Any]:
    status, _, headers = arm.request("PATCH", arm.server_path, body)
    assert status == 202
    return settled(arm, headers)


def get(arm: ArmLab, child: str = "") -> dict[str, Any]:
    status, body, _ = arm.request("GET", arm.server_path + child)
    assert status == 200
    found: dict[str, Any] = body
    return found


# Azure's own client, unmodified


def test_begin_update_grows_the_cluster(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    server = sdk.servers.begin_update(
        GROUP, NAME, m.ServerForPatch(properties=m.ServerPropertiesForPatch(cluster=m.Cluster(cluster_size=4)))
    ).result()
    assert server.properties is not None
    assert server.properties.cluster is not None
    assert server.properties.cluster.cluster_size == arm.backend.nodes == 4
    assert server.properties.state == "Ready"


def test_a_full_put_is_an_update(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    """As Pulumi updates: everything that it declares, the password included, every time."""
    wanted = m.Server(
        location="northeurope",
        sku=m.Sku(name="Standard_D4ds_v5", tier="GeneralPurpose"),
        tags={"team": "data"},
        properties=m.ServerProperties(
            administrator_login="clusteradmin",
            administrator_login_password=SECRET,
            version="17",
            create_mode="Create",
            storage=m.Storage(storage_size_gb=256, auto_grow="Disabled"),
            cluster=m.Cluster(cluster_size=6, default_database_name="citus"),
            backup=m.Backup(backup_retention_days=14, geo_redundant_backup="Disabled"),
            high_availability=m.HighAvailability(mode="Disabled"),
        ),
    )
    sdk.servers.begin_create_or_update(GROUP, NAME, wanted).result()
    shown = get(arm)
    assert shown["sku"] == {"name": "Standard_D4ds_v5", "tier": "GeneralPurpose"}
    assert shown["tags"] == {"team": "data"}
    assert shown["properties"]["cluster"] == {"clusterSize": 6, "defaultDatabaseName": "citus"}
    assert (shown["properties"]["storage"]["tier"], shown["properties"]["storage"]["iops"]) == ("P15", 1100)
    assert shown["properties"]["backup"]["backupRetentionDays"] == 14
    assert "createMode" not in shown["properties"]
    assert arm.backend.nodes == 6


def test_a_server_that_was_read_can_be_put_back(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    before = get(arm)
    sdk.servers.begin_create_or_update(GROUP, NAME, sdk.servers.get(GROUP, NAME)).result()
    assert get(arm) == before


def test_configurations_put_and_patch(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    update = m.ConfigurationForUpdate(properties=m.ConfigurationProperties(value="4", source="user-override"))
    done = sdk.configurations.begin_put(GROUP, NAME, EXECUTORS, update).result()
    assert done.properties is not None
    assert (done.properties.value, done.properties.default_value) == ("4", "1")
    sdk.configurations.begin_update(GROUP, NAME, EXECUTORS, {"properties": {"value": "5"}}).result()
    assert arm.backend.values[EXECUTORS] == ("5", "1")


def test_firewall_rules_come_and_go(sdk: PostgreSQLManagementClient) -> None:
    rule = m.FirewallRule(properties=m.FirewallRuleProperties(start_ip_address="10.0.0.1", end_ip_address="10.0.0.9"))
    made = sdk.firewall_rules.begin_create_or_update(GROUP, NAME, "office", rule).result()
    assert made.properties is not None
    assert (made.name, made.properties.end_ip_address) == ("office", "10.0.0.9")
    assert [known.name for known in sdk.firewall_rules.list_by_server(GROUP, NAME)] == ["office"]
    sdk.firewall_rules.begin_delete(GROUP, NAME, "office").result()
    sdk.firewall_rules.begin_delete(GROUP, NAME, "office").result()
    with pytest.raises(ResourceNotFoundError):
        sdk.firewall_rules.get(GROUP, NAME, "office")


def test_restart_stop_and_start_reach_the_cluster(sdk: PostgreSQLManagementClient, arm: ArmLab) -> None:
    sdk.servers.begin_restart(GROUP, NAME).result()
    assert (arm.backend.calls, arm.backend.running) == (["stop", "start"], True)
    sdk.servers.begin_stop(GROUP, NAME).result()
    assert (get(arm)["properties"]["state"], arm.backend.running) == ("Stopped", False)
    with pytest.raises(HttpResponseError, match="ServerIsNotReady"):
        sdk.servers.begin_restart(GROUP, NAME).result()
    sdk.servers.begin_start(GROUP, NAME).result()
    assert (get(arm)["properties"]["state"], arm.backend.running) == ("Ready", True)


def test_everything_that_can_only_be_read(sdk: PostgreSQLManagementClient) -> None:
    assert [server.name for server in sdk.servers.list_by_resource_group(GROUP)] == [NAME]
    assert [server.name for server in sdk.servers.list_by_subscription()] == [NAME]
    assert [database.name for database in sdk.databases.list_by_server(GROUP, NAME)] == ["citus", "postgres"]
    assert sdk.databases.get(GROUP, NAME, "citus").name == "citus"
    assert list(sdk.replicas.list_by_server(GROUP, NAME)) == []
    assert list(sdk.captured_logs.list_by_server(GROUP, NAME)) == []
    assert list(sdk.backups_automatic_and_on_demand.list_by_server(GROUP, NAME)) == []
    assert list(sdk.maintenance_events.list(GROUP, NAME, maintenance_status="Upcoming")) == []
    assert sdk.private_dns_zone_suffix.get() == "private.postgres.database.azure.com"
    assert next(iter(sdk.quota_usages.list("northeurope"))).limit
    for offers in (sdk.capabilities_by_location.list("northeurope"), sdk.capabilities_by_server.list(GROUP, NAME)):
        (offer,) = offers
        assert [(known.name, known.status) for known in offer.supported_features or []] == [("Clusters", "Enabled")]


@pytest.mark.parametrize(
    ("name", "available", "reason"),
    [("elk2", True, None), (NAME, False, "AlreadyExists"), ("No_Good", False, "Invalid")],
)
def test_name_availability(sdk: PostgreSQLManagementClient, name: str, available: bool, reason: str | None) -> None:
    wanted = m.CheckNameAvailabilityRequest(name=name, type="Microsoft.DBforPostgreSQL/flexibleServers")
    for answer in (
        sdk.name_availability.check_globally(wanted),
        sdk.name_availability.check_with_location("northeurope", wanted),
    ):
        assert (answer.name_available, answer.reason) == (available, reason)


# a. The long-running operation on the wire


def test_an_accepted_write_answers_as_recorded(arm: ArmLab) -> None:
    arm.emulator.faults.hang_next_operation()
    status, body, headers = arm.request("PATCH", arm.server_path, resize(4))
    assert (status, set(body)) == (202, {"operation", "startTime"})
    assert body["operation"] == "UpsertFlexClusterManagementOperation"
    assert headers["Retry-After"] is None
    for name, part in (("Azure-AsyncOperation", "azureAsyncOperation"), ("Location", "operationResults")):
        assert headers[name].startswith(f"http://127.0.0.1:{arm.port}/subscriptions/{SUBSCRIPTION}/providers/")
        assert f"/locations/northeurope/{part}/" in headers[name]
        assert len(headers[name]) > 3000
    path = headers["Azure-AsyncOperation"].partition(str(arm.port))[2]
    _, poll, _ = arm.request("GET", path, version=None)
    assert poll == {
        "name": path.partition("?")[0].rpartition("/")[2],
        "status": "InProgress",
        "startTime": body["startTime"],
    }
    result = headers["Location"].partition(str(arm.port))[2]
    assert arm.request("GET", result, version=None)[0] == 202
    arm.emulator.faults.release_operations()
    assert settled(arm, headers)["status"] == "Succeeded"
    assert arm.request("GET", result, version=None)[0] == 204


def test_operation_addresses_follow_the_host_header(arm: ArmLab) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=10)
    connection.request(
        "PATCH",
        f"{arm.server_path}?api-version=2026-10-01",
        json.dumps(resize(3)),
        {"Authorization": "Bearer any", "Host": f"localhost:{arm.port}"},
    )
    assert connection.getresponse().headers["Location"].startswith(f"http://localhost:{arm.port}/")
    connection.close()


def test_a_rebuilt_operation_address_is_not_found(arm: ArmLab) -> None:
    _, _, headers = arm.request("PATCH", arm.server_path, resize(4))
    path = headers["Azure-AsyncOperation"].partition(str(arm.port))[2]
    assert arm.request("GET", path.partition("&t=")[0], version=None)[0] == 404
    assert settled(arm, headers)["status"] == "Succeeded"


def test_retry_after_is_a_knob(arm: ArmLab) -> None:
    arm.emulator.faults.retry_after = 0
    _, _, headers = arm.request("PATCH", arm.server_path, resize(4))
    assert headers["Retry-After"] == "0"
    settled(arm, headers)


# b. What is checked only while the operation runs


@pytest.mark.parametrize("nodes", [limit("cluster.nodes").maximum + 1, 0, -3])
def test_node_counts_that_azure_does_not_take(arm: ArmLab, nodes: int) -> None:
    poll = patch(arm, resize(nodes))
    assert poll["status"] == "Failed"
    assert poll["error"] == {
        "code": "UnsupportedValue",
        "message": f"Unsupported value {nodes} for parameter NumberOfNodes",
    }
    assert arm.backend.calls == []


def test_storage_of_a_cluster_cannot_grow_by_itself(arm: ArmLab) -> None:
    poll = patch(arm, {"properties": {"storage": {"autoGrow": "Enabled"}}})
    assert poll["error"] == {
        "code": "ClusterStorageAutoGrowIsDisabled",
        "message": "Cannot enable storage autogrow.",
    }


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_scale_in_succeeds_and_does_nothing(arm: ArmLab, nodes: int) -> None:
    patch(arm, resize(4))
    assert patch(arm, resize(nodes))["status"] == "Succeeded"
    assert get(arm)["properties"]["cluster"]["clusterSize"] == arm.backend.nodes == 4


@pytest.mark.parametrize(
    "change",
    [
        {"version": "18"},
        {"storage": {"storageSizeGB": 64}},
        {"storage": {"storageSizeGB": 100}},
        {"cluster": {"defaultDatabaseName": "other"}},
    ],
)
def test_what_a_cluster_cannot_change(arm: ArmLab, change: dict[str, Any]) -> None:
    before = get(arm)
    assert patch(arm, {"properties": change})["status"] == "Failed"
    assert get(arm) == before


def test_a_cluster_that_cannot_grow_fails_the_operation(arm: ArmLab) -> None:
    arm.backend.resize_error = LabError("node 3 did not start: no space left on device")
    poll = patch(arm, resize(4))
    assert poll["error"] == {"code": "InternalServerError", "message": "node 3 did not start: no space left on device"}
    assert get(arm)["properties"]["cluster"]["clusterSize"] == 2
    assert patch(arm, resize(4))["status"] == "Succeeded"
    assert arm.backend.nodes == 4


def test_a_body_that_cannot_be_read_is_refused_at_once(arm: ArmLab) -> None:
    for body in (resize("many"), resize(True), {"properties": 3}, [1]):  # type: ignore[arg-type]
        status, answer, _ = arm.request("PATCH", arm.server_path, body)
        assert (status, answer["error"]["code"]) == (400, "InvalidRequestContent")


def test_a_put_elsewhere_is_refused_at_once(arm: ArmLab) -> None:
    status, answer, _ = arm.request("PUT", arm.server_path, {"location": "westeurope", **resize(3)})
    assert (status, answer["error"]["code"]) == (409, "InvalidResourceLocation")
    status, answer, _ = arm.request("PUT", arm.server_path, resize(3))
    assert (status, answer["error"]["code"]) == (400, "LocationRequired")
    assert arm.request("PUT", arm.server_path, {"location": "North Europe", **resize(3)})[0] == 202


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


# e. Configurations


def put_parameter(arm: ArmLab, name: str, properties: dict[str, Any], method: str = "PUT") -> dict[str, Any]:
    status, body, headers = arm.request(method, f"{arm.server_path}/configurations/{name}", {"properties": properties})
    return settled(arm, headers) if status == 202 else {"status": status, **body}


def names(arm: ArmLab) -> set[str]:
    return {entry["name"] for entry in get(arm, "/configurations")["value"]}


def test_a_configuration_is_shown_as_azure_does(arm: ArmLab) -> None:
    assert get(arm, f"/configurations/{EXECUTORS.upper()}") == {
        "properties": {
            "value": "1", "description": "", "defaultValue": "1", "dataType": "Integer", "allowedValues": "",
            "source": "system-default", "isDynamicConfig": True, "isReadOnly": False, "isConfigPendingRestart": False,
        },
        "id": f"{arm.server_path}/configurations/{EXECUTORS}",
        "name": EXECUTORS,
        "type": "Microsoft.DBforPostgreSQL/flexibleServers/configurations",
    }  # fmt: skip


def test_pgbouncer_settings_are_hidden_until_it_is_enabled(arm: ArmLab) -> None:
    assert {name for name in names(arm) if name.startswith("pgbouncer.")} == {"pgbouncer.enabled"}
    hidden = put_parameter(arm, "pgbouncer.pool_mode", {"value": "session", "source": "user-override"})
    assert hidden["error"]["code"] == "ConfigurationNotExists"
    put_parameter(arm, "pgbouncer.enabled", {"value": "true", "source": "user-override"})
    assert {"pgbouncer.pool_mode", "pgbouncer.max_prepared_statements"} < names(arm)
    put_parameter(arm, "pgbouncer.pool_mode", {"value": "session", "source": "user-override"})
    assert get(arm, "/configurations/pgbouncer.pool_mode")["properties"]["value"] == "session"


def test_source_tells_who_chose_the_value(arm: ArmLab) -> None:
    def source() -> str:
        found: str = get(arm, "/configurations/work_mem")["properties"]["source"]
        return found

    put_parameter(arm, "work_mem", {"value": "4MB", "source": "user-override"})
    assert source() == "user-override"
    put_parameter(arm, "work_mem", {"value": "8MB", "source": "system-default"})
    assert source() == "user-override"
    put_parameter(arm, "work_mem", {"value": "4MB", "source": "system-default"})
    assert source() == "system-default"


@pytest.mark.parametrize("properties", [{"value": "4"}, {"source": "user-override"}])
def test_put_needs_value_and_source(arm: ArmLab, properties: dict[str, Any]) -> None:
    assert put_parameter(arm, EXECUTORS, properties)["error"] == {"code": "OperationFailed", "message": "{0}"}


def test_patch_of_a_configuration_needs_no_source(arm: ArmLab) -> None:
    assert put_parameter(arm, EXECUTORS, {"value": "4"}, "PATCH")["status"] == "Succeeded"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("nope", "1", "ConfigurationNotExists"),
        ("block_size", "1", "ConfigurationReadOnly"),
        (EXECUTORS, "impossible", "InvalidConfigurationValue"),
        ("metrics.pgbouncer_diagnostics", "maybe", "InvalidConfigurationValue"),
    ],
)
def test_configurations_that_cannot_be_set(arm: ArmLab, name: str, value: str, code: str) -> None:
    assert put_parameter(arm, name, {"value": value, "source": "user-override"})["error"]["code"] == code


def test_a_cluster_that_does_not_answer_is_named(arm: ArmLab) -> None:
    arm.backend.silent = True
    status, body, _ = arm.request("GET", f"{arm.server_path}/configurations")
    assert (status, body["error"]) == (500, {"code": "InternalServerError", "message": "node 1 does not answer"})


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
