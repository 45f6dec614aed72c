"""What the Pulumi program declares: resources, options, secretness."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.infra.program import (
    ADMINISTRATOR,
    CONFIGURATION,
    EXISTING,
    FIREWALL,
    PASSWORD,
    SECRET,
    SERVER,
    Azure,
    Recorder,
    inputs,
    run,
)

SUBNET = "/subscriptions/s/resourceGroups/n/providers/Microsoft.Network/virtualNetworks/v/subnets/db"
ENTRA = {
    "tenantId": "00000000-1111-2222-3333-444444444444",
    "administrators": [{"objectId": "55555555-6666-7777-8888-999999999999", "name": "dba", "type": "group"}],
}
EVERYTHING: dict[str, Any] = {
    "createResourceGroup": True,
    "authentication": {"password": True, "entra": ENTRA},
    "network": {
        "firewallRules": [{"name": "office", "startIp": "203.0.113.10"}],
        "privateEndpoint": {"subnetId": SUBNET},
    },
    "diagnostics": {"workspaceId": "/subscriptions/s/workspaces/logs"},
    "alerts": {
        "actionGroupIds": ["/subscriptions/s/actionGroups/oncall"],
        "activeConnections": 3000,
        "replicationLagMb": 64,
    },
    "tags": {"owner": "platform"},
}


@pytest.fixture(scope="module")
def recorded() -> Recorder:
    return run()


@pytest.fixture(scope="module")
def everything() -> Recorder:
    return run(EVERYTHING)


def test_the_server_is_the_cluster_that_the_stack_file_declares(recorded: Recorder) -> None:
    asked = recorded.the(SERVER)
    assert asked["cluster"] == {"clusterSize": 4.0, "defaultDatabaseName": "citus"}
    assert (asked["serverName"], asked["location"], asked["version"]) == ("contoso-test", "northeurope", "17")
    assert asked["highAvailability"]["mode"] == "ZoneRedundant"
    assert asked["storage"] == {"autoGrow": "Disabled", "storageSizeGB": 128.0}
    assert asked["authConfig"] == {"passwordAuth": "Enabled", "activeDirectoryAuth": "Disabled", "tenantId": ""}
    assert "createMode" not in asked


def test_the_server_is_protected_and_what_azure_changes_itself_is_no_difference(recorded: Recorder) -> None:
    (server,) = recorded.of_type(SERVER)
    assert server.protect
    assert set(server.ignoreChanges) == {
        "availabilityZone",
        "highAvailability.standbyAvailabilityZone",
        "storage.type",
        "storage.tier",
        "storage.iops",
    }


def test_what_the_file_names_itself_is_a_difference() -> None:
    recorder = run({"storage": {"sizeGb": 256, "iops": 4000, "type": "PremiumV2_LRS"}})
    (server,) = recorder.of_type(SERVER)
    assert inputs(server)["storage"] == {
        "autoGrow": "Disabled", "storageSizeGB": 256.0, "iops": 4000.0, "type": "PremiumV2_LRS",
    }  # fmt: skip
    assert not {"storage.iops", "storage.type"} & set(server.ignoreChanges)


def test_the_password_is_secret_wherever_it_goes(everything: Recorder) -> None:
    asked = everything.the(SERVER)
    assert asked["administratorLoginPassword"] == {**SECRET, "value": PASSWORD}
    for request in everything.requests:
        if request.type != SERVER:
            assert PASSWORD not in str(request)


def test_everything_on_the_server_is_changed_one_after_the_other(everything: Recorder) -> None:
    chain = [r for r in everything.requests if r.type in {SERVER, FIREWALL, ADMINISTRATOR, CONFIGURATION}]
    assert {request.type for request in chain} == {SERVER, FIREWALL, ADMINISTRATOR, CONFIGURATION}
    for before, after in pairwise(chain):
        assert any(urn.endswith(f"::{before.name}") for urn in after.dependencies), after.name


def test_pgbouncer_is_enabled_before_its_settings_and_takes_prepared_statements(recorded: Recorder) -> None:
    asked = recorded.of_type(CONFIGURATION)
    values = {inputs(request)["configurationName"]: inputs(request)["value"] for request in asked}
    assert next(iter(values)) == "pgbouncer.enabled"
    assert values["pgbouncer.max_prepared_statements"] == "300"
    assert values["jit"] == "off"
    assert all(request.retainOnDelete for request in asked)


def test_every_resource_hangs_below_the_component_and_has_a_name_of_its_own(everything: Recorder) -> None:
    names = [(request.type, request.name) for request in everything.requests]
    assert len(set(names)) == len(names)
    for request in everything.azure():
        assert request.parent.endswith("elastic-cluster:index:ElasticCluster::cluster")


def test_no_resource_is_named_after_the_cluster_so_that_renaming_cannot_make_a_second_one() -> None:
    other = run(EVERYTHING | {"name": "another"})
    assert {r.name for r in run(EVERYTHING).azure()} == {r.name for r in other.azure()}


def test_a_group_made_here_is_protected_and_waited_for(everything: Recorder, recorded: Recorder) -> None:
    (group,) = everything.of_type("azure-native:resources:ResourceGroup")
    assert group.protect
    assert inputs(group) == {"resourceGroupName": "rg-test", "location": "northeurope", "tags": {"owner": "platform"}}
    (server,) = everything.of_type(SERVER)
    assert any(urn.endswith("::group") for urn in server.dependencies)
    assert recorded.of_type("azure-native:resources:ResourceGroup") == []


def test_entra_administrators_are_entered_on_a_server_that_takes_entra(everything: Recorder) -> None:
    assert everything.the(SERVER)["authConfig"] == {
        "passwordAuth": "Enabled", "activeDirectoryAuth": "Enabled", "tenantId": ENTRA["tenantId"],
    }  # fmt: skip
    asked = everything.the(ADMINISTRATOR)
    assert (asked["principalName"], asked["principalType"]) == ("dba", "group")
    assert asked["tenantId"] == ENTRA["tenantId"]


def test_without_passwords_there_is_no_login_and_none_is_looked_for() -> None:
    recorder = run(
        {
            "authentication": {"password": False, "entra": ENTRA},
            "databaseLogin": {"method": "entra", "role": "dba"},
            "administratorPassword": None,
        }
    )
    asked = recorder.the(SERVER)
    assert asked["authConfig"]["passwordAuth"] == "Disabled"
    assert "administratorLogin" not in asked
    assert "administratorLoginPassword" not in asked
    (server,) = recorder.of_type(SERVER)
    assert "administratorLogin" in server.ignoreChanges


def test_a_private_cluster_has_an_endpoint_a_zone_of_its_own_and_no_public_access() -> None:
    recorder = run({"network": {"publicAccess": False, "privateEndpoint": {"subnetId": SUBNET}}})
    assert recorder.the(SERVER)["network"] == {"publicNetworkAccess": "Disabled"}
    endpoint = recorder.the("azure-native:network:PrivateEndpoint")
    assert endpoint["subnet"] == {"id": SUBNET}
    assert endpoint["privateLinkServiceConnections"][0]["groupIds"] == ["postgresqlServer"]
    zone = recorder.the("azure-native:privatedns:PrivateZone")
    assert zone["privateZoneName"] == "privatelink.postgres.database.azure.com"
    link = recorder.the("azure-native:privatedns:VirtualNetworkLink")
    assert link["virtualNetwork"] == {"id": SUBNET.rpartition("/subnets/")[0]}
    configs = recorder.the("azure-native:network:PrivateDnsZoneGroup")["privateDnsZoneConfigs"]
    assert configs == [{"name": "postgres", "privateDnsZoneId": "/id/dns-zone"}]
    assert recorder.of_type(FIREWALL) == []


def test_a_zone_that_exists_is_used() -> None:
    wanted = {"subnetId": SUBNET, "privateDnsZoneId": "/zones/hub"}
    recorder = run({"network": {"publicAccess": False, "privateEndpoint": wanted}})
    configs = recorder.the("azure-native:network:PrivateDnsZoneGroup")["privateDnsZoneConfigs"]
    assert configs == [{"name": "postgres", "privateDnsZoneId": "/zones/hub"}]
    assert recorder.of_type("azure-native:privatedns:PrivateZone") == []


def test_logs_and_metrics_go_to_the_workspace(everything: Recorder) -> None:
    asked = everything.the("azure-native:monitor:DiagnosticSetting")
    assert asked["resourceUri"] == "/id/server"
    assert asked["workspaceId"] == "/subscriptions/s/workspaces/logs"
    assert [log["category"] for log in asked["logs"]] == ["PostgreSQLLogs", "PostgreSQLFlexPGBouncer"]


def test_alerts_watch_cpu_storage_connections_and_lag_and_tell_the_group(everything: Recorder) -> None:
    found = {}
    for request in everything.of_type("azure-native:monitor:MetricAlert"):
        asked = inputs(request)
        (criterion,) = asked["criteria"]["allOf"]
        found[criterion["metricName"]] = criterion["threshold"]
        assert asked["scopes"] == ["/id/server"]
        assert asked["actions"] == [{"actionGroupId": "/subscriptions/s/actionGroups/oncall"}]
    assert found == {
        "cpu_percent": 85,
        "storage_percent": 80,
        "active_connections": 3000,
        "physical_replication_delay_in_bytes": 64 * 1024 * 1024,
    }


def test_an_unchanged_stack_with_a_server_is_declared_as_before(recorded: Recorder) -> None:
    again = run(azure=Azure(EXISTING))
    assert {r.name for r in again.azure()} == {r.name for r in recorded.azure()}


def test_connection_settings_name_every_port_and_no_password() -> None:
    from infra.cluster import connections
    from infra.settings import ClusterSpec

    spec = ClusterSpec(name="contoso", resource_group="rg", location="x", database="citus")
    ports = {name: value["port"] for name, value in connections(spec, "host").items()}
    assert ports == {"direct": 5432, "pooled": 6432, "balanced": 7432, "balanced_pooled": 8432}
    assert "password" not in json.dumps(connections(spec, "host"))
