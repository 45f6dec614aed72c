"""The Pulumi program under Pulumi's real engine: what it previews, does, keeps, sees and refuses.

Azure is the lab's ARM endpoint behind a stand-in for Pulumi's provider; see `provider`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fix_pulumi import lacking

if lacking():
    pytest.skip(lacking(), allow_module_level=True)

from pulumi.automation import Stack

from tests.fix_arm import MemoryBackend
from tests.infra import engine
from tests.infra.arm_calls import Arm
from tests.infra.engine import PASSWORD, SERVER_PATH, STACK, PulumiProject, azure, operations, refused

VERSION = "2025-08-01"
SUBNET = "/subscriptions/s/resourceGroups/n/providers/Microsoft.Network/virtualNetworks/v/subnets/db"
ENTRA = {
    "tenantId": "00000000-1111-2222-3333-444444444444",
    "administrators": [{"objectId": "55555555-6666-7777-8888-999999999999", "name": "dba", "type": "group"}],
}
EVERYTHING: dict[str, Any] = {
    "authentication": {"password": True, "entra": ENTRA},
    "highAvailability": "ZoneRedundant",
    "maintenanceWindow": {"dayOfWeek": "Sunday", "startHour": 2},
    "network": {"publicAccess": False, "privateEndpoint": {"subnetId": SUBNET}},
    "diagnostics": {"workspaceId": "/subscriptions/s/resourceGroups/m/workspaces/logs"},
    "alerts": {"actionGroupIds": ["/subscriptions/s/actionGroups/oncall"], "activeConnections": 3000},
}


class Deployment:
    """A stack that is up, and the Azure that it is up on."""

    def __init__(self, project: PulumiProject, backend: MemoryBackend) -> None:
        self.project, self.backend = project, backend
        self.arm: Arm = project.provider.arm
        self.stack: Stack = project.stack()

    def declare(self, **values: Any) -> None:
        self.project.write(values)

    def preview(self, **options: Any) -> dict[str, str]:
        events: list[Any] = []
        self.stack.preview(on_event=events.append, color="never", **options)
        return operations(events)

    def up(self, **options: Any) -> dict[str, str]:
        events: list[Any] = []
        self.stack.up(on_event=events.append, color="never", show_secrets=False, **options)
        return operations(events)

    def server(self) -> dict[str, Any]:
        return self.arm.get(SERVER_PATH, VERSION)

    def behind_its_back(self, change: dict[str, Any]) -> None:
        self.arm.write("PATCH", SERVER_PATH, VERSION, change)


Deploy = Callable[..., Deployment]


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """Makes stacks; each has an Azure of its own."""
    with pytest.MonkeyPatch.context() as patch:
        stops: list[Any] = []
        projects: list[PulumiProject] = []

        def made(*, up: bool = True, **values: Any) -> Deployment:
            subscription = azure()
            emulator, backend = subscription.__enter__()
            provider = engine.provider_for(emulator).__enter__()
            stops.extend([subscription, provider])
            project = PulumiProject(tmp_path_factory.mktemp("pulumi") / "project", provider)
            projects.append(project)
            for name, value in project.environment.items():
                patch.setenv(name, value)
            project.write(STACK | values)
            project.create()
            deployment = Deployment(project, backend)
            if up:
                deployment.up()
            return deployment

        yield made
        for project in projects:
            project.close()
        for stop in reversed(stops):
            stop.__exit__(None, None, None)


@pytest.fixture(scope="module")
def deployed(deploy: Deploy) -> Deployment:
    """Shared by the tests that change nothing of it."""
    return deploy()


def test_a_new_stack_is_previewed_without_a_change_of_azure(deploy: Deploy) -> None:
    new = deploy(up=False)
    planned = new.preview()
    assert planned["server"] == planned["group"] == planned["parameter-work_mem"] == "create"
    assert new.arm.writes == []
    assert new.backend.calls == []


def test_up_makes_the_cluster_and_then_there_is_nothing_to_do(deployed: Deployment) -> None:
    shown = deployed.server()["properties"]
    assert shown["cluster"] == {"clusterSize": 4, "defaultDatabaseName": "citus"}
    assert shown["state"] == "Ready"
    assert deployed.backend.nodes == 4
    assert deployed.backend.values["work_mem"] == ("8MB", "4MB")
    assert deployed.preview(expect_no_changes=True) == {}
    assert deployed.preview(expect_no_changes=True, refresh=True) == {}


def test_outputs_say_where_the_cluster_answers_and_hold_no_password(deployed: Deployment) -> None:
    outputs = deployed.stack.outputs()
    assert outputs["resourceId"].value == SERVER_PATH
    ports = {name: settings["port"] for name, settings in outputs["connections"].value.items()}
    assert ports == {"direct": 5432, "pooled": 6432, "balanced": 7432, "balanced_pooled": 8432}
    assert PASSWORD not in str(outputs)


def test_the_password_is_nowhere_in_clear(deployed: Deployment) -> None:
    written = [path for path in deployed.project.folder.rglob("*") if path.is_file()]
    state = [path for path in written if "state" in path.parts and SERVER_PATH in path.read_text("utf-8", "ignore")]
    assert state, "the state of the stack is among what is looked at"
    for path in written:
        assert PASSWORD.encode() not in path.read_bytes(), path
    exported = deployed.project.cli("stack", "export", "-s", deployed.project.name)
    assert re.search(r'"administratorLoginPassword": \{\s*"[0-9a-f]{32}": "[0-9a-f]{32}",\s*"ciphertext"', exported)


def test_everything_that_a_stack_file_can_declare_comes_up_and_stays_the_same(deploy: Deploy) -> None:
    whole = deploy(**EVERYTHING)
    made = {address.rsplit("/", 2)[-2] for address in whole.arm.writes if address.startswith("PUT")}
    assert made == {
        "resourceGroups", "flexibleServers", "administrators", "configurations", "privateEndpoints",
        "privateDnsZoneGroups", "privateDnsZones", "virtualNetworkLinks", "diagnosticSettings", "metricAlerts",
    }  # fmt: skip
    assert whole.preview(expect_no_changes=True, refresh=True) == {}


@pytest.mark.slow
def test_what_azure_changes_itself_after_a_failover_is_no_difference(deploy: Deploy) -> None:
    cluster = deploy(highAvailability="ZoneRedundant")
    cluster.behind_its_back(
        {
            "properties": {
                "availabilityZone": "2",
                "highAvailability": {"mode": "ZoneRedundant", "standbyAvailabilityZone": "1"},
                "storage": {"iops": 3000, "tier": "P20"},
            }
        }
    )
    assert cluster.server()["properties"]["availabilityZone"] == "2"
    assert cluster.preview(expect_no_changes=True, refresh=True) == {}


@pytest.mark.slow
def test_drift_behind_pulumis_back_is_seen_and_put_back(deploy: Deploy) -> None:
    cluster = deploy()
    cluster.behind_its_back({"tags": {"owner": "somebody"}, "properties": {"backup": {"backupRetentionDays": 30}}})
    assert cluster.preview(expect_no_changes=True) == {}, "without a refresh Pulumi believes its state"
    events: list[Any] = []
    cluster.stack.preview(refresh=True, on_event=events.append, color="never")
    assert operations(events) == {"server": "update"}
    assert engine.differences(events, "server") == ["backup.backupRetentionDays", "tags.owner"]
    cluster.stack.refresh(color="never", show_secrets=False)
    assert cluster.up() == {"server": "update"}
    assert cluster.server()["tags"] == {"owner": "platform"}
    assert cluster.server()["properties"]["backup"]["backupRetentionDays"] == 7
    assert cluster.preview(expect_no_changes=True, refresh=True) == {}


def test_the_cluster_grows_by_up(deploy: Deploy) -> None:
    cluster = deploy()
    cluster.declare(nodes=8)
    events: list[Any] = []
    cluster.stack.preview(on_event=events.append, color="never")
    assert operations(events) == {"server": "update"}
    assert engine.differences(events, "server") == ["cluster.clusterSize"]
    before = len(cluster.arm.writes)
    assert cluster.up() == {"server": "update"}
    assert cluster.arm.writes[before:] == [f"PUT {SERVER_PATH}"]
    assert cluster.backend.nodes == 8
    assert cluster.preview(expect_no_changes=True, refresh=True) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"location": "westeurope"}, "elastic-cluster:location: northeurope is fixed at creation"),
        ({"name": "contoso-two"}, "elastic-cluster:name: contoso-test is fixed at creation"),
        ({"administratorLogin": "boss"}, "elastic-cluster:administratorLogin: clusteradmin is fixed at creation"),
        ({"nodes": 2}, "elastic-cluster:nodes: the cluster has 4 nodes and cannot lose any"),
        ({"storage": {"sizeGb": 64}}, "elastic-cluster:storage.sizeGb: nodes have 128 GB and storage cannot shrink"),
    ],
    ids=["location", "name", "login", "scale-in", "smaller storage"],
)
def test_what_would_replace_or_shrink_the_server_fails_the_preview(
    deployed: Deployment, change: dict[str, Any], said: str
) -> None:
    before, text = len(deployed.arm.writes), deployed.project.stack_file.read_text("utf-8")
    deployed.declare(**change)
    try:
        answers = [refused(deployed.stack.preview), refused(deployed.stack.up, show_secrets=False)]
    finally:
        deployed.project.stack_file.write_text(text, "utf-8")
    for answer in answers:
        assert said in answer
        assert "Nothing was changed." in answer
    assert len(deployed.arm.writes) == before


@pytest.mark.slow
def test_a_replacement_that_no_rule_foresees_is_refused_by_protect(deploy: Deploy) -> None:
    """A server without passwords has no login, and one cannot be added: Pulumi would replace the server."""
    cluster = deploy(
        authentication={"password": False, "entra": ENTRA}, databaseLogin={"method": "entra", "role": "dba"}
    )
    assert cluster.server()["properties"]["administratorLogin"] == ""
    cluster.declare(authentication={"password": True, "entra": ENTRA})
    answer = refused(cluster.stack.preview)
    assert re.search(
        r'unable to replace resource ".*Server::server".*\n?.*as it is currently marked for protection', answer
    )


def test_destroy_is_refused_by_protect(deployed: Deployment) -> None:
    before = len(deployed.arm.writes)
    answer = refused(deployed.stack.destroy, show_secrets=False)
    assert "::server cannot be deleted" in answer or 'Server::server" cannot be deleted' in answer
    assert "protect" in answer
    assert len(deployed.arm.writes) == before
    assert deployed.server()["properties"]["state"] == "Ready"


def test_an_azure_that_fails_in_the_middle_is_gone_on_with(deploy: Deploy) -> None:
    cluster = deploy(up=False, serverParameters={"work_mem": "impossible"})
    answer = refused(cluster.stack.up, show_secrets=False)
    assert 'invalid value for parameter "work_mem"' in answer
    cluster.declare(serverParameters={"work_mem": "8MB"})
    assert cluster.up() == {"parameter-work_mem": "create"}
    assert cluster.preview(expect_no_changes=True, refresh=True) == {}
    assert [call for call in cluster.backend.calls if call.startswith("resize")] == ["resize 4"]
