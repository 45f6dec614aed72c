"""The lab's ARM endpoint against what real Azure was recorded to do, through Azure's own SDK client and bare HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient
from azure.mgmt.postgresqlflexibleservers import models as m

from orchestrator.core.desired.limits import limit
from orchestrator.core.errors import LabError
from tests.fix_arm import EXECUTORS, SUBSCRIPTION, ArmLab
from tests.lab.arm_requests import GROUP, NAME, SECRET, get, patch, resize, settled

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
