"""The Pulumi program through Pulumi's mocks, with a monitor that records the raw requests.

Mocks know no schema and no replacement: this proves what the program asks for, not what Azure answers.
"""

from __future__ import annotations

import contextvars
import json
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pulumi = pytest.importorskip("pulumi", reason="the Pulumi SDK is not installed: pip install '.[infra]'")
pytest.importorskip("pulumi_azure_native", reason="pulumi-azure-native is not installed: pip install '.[infra]'")

from google.protobuf import json_format  # noqa: E402
from pulumi.runtime import mocks, set_all_config, set_mocks  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
SERVER = "azure-native:dbforpostgresql:Server"
CONFIGURATION = "azure-native:dbforpostgresql:Configuration"
STACK = {
    "name": "contoso-test",
    "resourceGroup": "rg-test",
    "location": "northeurope",
    "nodes": "4",
    "database": "citus",
    "administratorPassword": "hunter2-Secret",
    "highAvailability": "ZoneRedundant",
    "pgbouncer": json.dumps({"maxPreparedStatements": 300}),
    "serverParameters": json.dumps({"work_mem": "8MB", "jit": False}),
    "network": json.dumps({"firewallRules": [{"name": "office", "startIp": "203.0.113.10"}]}),
    "services": json.dumps([{"name": "user_service"}]),
}


class Recorder(mocks.MockMonitor):
    """Keeps every raw request to register a resource: options and secretness never reach ordinary mocks."""

    def __init__(self, mocked: Any) -> None:
        super().__init__(mocked)
        self.requests: list[Any] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # the name of the RPC
        self.requests.append(request)
        return super().RegisterResource(request)


class Azure(mocks.Mocks):
    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == SERVER:
            state |= {"fullyQualifiedDomainName": "contoso-test.postgres.database.azure.com", "name": "contoso-test"}
        return f"/id/{args.name}", state

    def call(self, args: Any) -> dict[str, Any]:
        return {}


def run(change: dict[str, str | None] | None = None, secret: tuple[str, ...] = ("administratorPassword",)) -> Recorder:
    """The program as `pulumi up` runs it, with the stack's configuration as Pulumi hands it over."""
    values = {key: value for key, value in (STACK | (change or {})).items() if value is not None}
    recorder = Recorder(Azure())

    def program() -> None:
        set_mocks(Azure(), project="elastic-cluster", stack="test", monitor=recorder)
        set_all_config(
            {f"elastic-cluster:{key}": value for key, value in values.items()},
            [f"elastic-cluster:{key}" for key in secret],
        )

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def whole() -> None:
            runpy.run_path(str(ROOT / "infra"), run_name="__main__")

        whole()

    contextvars.Context().run(program)
    return recorder


def of_type(recorder: Recorder, kind: str) -> list[Any]:
    return [request for request in recorder.requests if request.type == kind]


def inputs(request: Any) -> dict[str, Any]:
    return json_format.MessageToDict(request.object)


@pytest.fixture(scope="module")
def recorded() -> Recorder:
    return run()


def test_the_server_is_the_cluster_that_the_stack_file_declares(recorded: Recorder) -> None:
    (server,) = of_type(recorded, SERVER)
    asked = inputs(server)
    assert asked["cluster"] == {"clusterSize": 4.0, "defaultDatabaseName": "citus"}
    assert (asked["serverName"], asked["location"], asked["version"]) == ("contoso-test", "northeurope", "17")
    assert asked["highAvailability"]["mode"] == "ZoneRedundant"
    assert asked["storage"] == {"autoGrow": "Disabled", "storageSizeGB": 128.0}
    assert "createMode" not in asked


def test_the_server_is_protected_and_what_azure_changes_itself_is_no_difference(recorded: Recorder) -> None:
    (server,) = of_type(recorded, SERVER)
    assert server.protect
    assert set(server.ignoreChanges) == {
        "availabilityZone",
        "highAvailability.standbyAvailabilityZone",
        "storage.type",
        "storage.tier",
        "storage.iops",
    }


def test_the_password_is_secret_wherever_it_goes(recorded: Recorder) -> None:
    (server,) = of_type(recorded, SERVER)
    assert SECRET.items() <= inputs(server)["administratorLoginPassword"].items()
    for request in recorded.requests:
        if request.type != SERVER:
            assert "hunter2-Secret" not in str(request)


def test_parameters_are_set_one_after_the_other_with_pgbouncer_first(recorded: Recorder) -> None:
    asked = of_type(recorded, CONFIGURATION)
    names = [inputs(request)["configurationName"] for request in asked]
    assert names[0] == "pgbouncer.enabled"
    assert inputs(asked[names.index("pgbouncer.max_prepared_statements")])["value"] == "300"
    assert inputs(asked[names.index("jit")])["value"] == "off"
    chain = [
        request
        for request in recorded.requests
        if request.type in {SERVER, CONFIGURATION} or "Firewall" in request.type
    ]
    for before, after in pairwise(chain):
        assert any(before.name in urn for urn in after.dependencies), after.name
    assert all(request.retainOnDelete for request in asked)


def test_every_resource_hangs_below_the_component_and_has_a_name_of_its_own(recorded: Recorder) -> None:
    names = [(request.type, request.name) for request in recorded.requests]
    assert len(set(names)) == len(names)
    for request in recorded.requests:
        if request.type.startswith("azure-native:"):
            assert "elastic-cluster:index:ElasticCluster" in request.parent


def test_a_private_cluster_has_an_endpoint_and_no_public_access() -> None:
    subnet = "/subscriptions/s/resourceGroups/n/providers/Microsoft.Network/virtualNetworks/v/subnets/db"
    network = {"publicAccess": False, "privateEndpoint": {"subnetId": subnet, "privateDnsZoneId": "/zone"}}
    recorded = run({"network": json.dumps(network)})
    (server,) = of_type(recorded, SERVER)
    assert inputs(server)["network"] == {"publicNetworkAccess": "Disabled"}
    (endpoint,) = of_type(recorded, "azure-native:network:PrivateEndpoint")
    assert inputs(endpoint)["subnet"] == {"id": subnet}
    assert len(of_type(recorded, "azure-native:network:PrivateDnsZoneGroup")) == 1
    assert of_type(recorded, "azure-native:dbforpostgresql:FirewallRule") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": "21"}, "elastic-cluster:nodes"),
        ({"location": None}, "elastic-cluster:location"),
        ({"compute": json.dumps({"sku": "Standard_B2s", "tier": "Burstable"})}, "PgBouncer is not available"),
        ({"storage": json.dumps({"autoGrow": True})}, "cannot grow their storage"),
    ],
)
def test_what_azure_would_refuse_late_is_refused_before_any_resource(change: dict[str, str | None], said: str) -> None:
    with pytest.raises(pulumi.RunError, match=said):
        run(change)


def test_the_password_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"administratorPassword": json.dumps({"env": "CLUSTER_PASSWORD"})}
    monkeypatch.delenv("CLUSTER_PASSWORD", raising=False)
    with pytest.raises(pulumi.RunError, match="CLUSTER_PASSWORD is not set"):
        run(source, secret=())
    monkeypatch.setenv("CLUSTER_PASSWORD", "from-the-environment")
    (server,) = of_type(run(source, secret=()), SERVER)
    assert SECRET.items() <= inputs(server)["administratorLoginPassword"].items()


def test_connection_settings_name_every_port_and_no_password() -> None:
    from infra.cluster import connections
    from infra.settings import ClusterSpec

    spec = ClusterSpec(name="contoso", resource_group="rg", location="x", database="citus")
    ports = {name: value["port"] for name, value in connections(spec, "host").items()}
    assert ports == {"direct": 5432, "pooled": 6432, "balanced": 7432, "balanced_pooled": 8432}
    assert "password" not in json.dumps(connections(spec, "host"))
