"""The Pulumi program run through Pulumi's mocks, with a monitor that records the raw requests.

Mocks know no schema and no replacement: this shows what the program asks for, not what Azure answers.
"""

from __future__ import annotations

import contextvars
import json
import runpy
from collections.abc import Mapping
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
FIREWALL = "azure-native:dbforpostgresql:FirewallRule"
ADMINISTRATOR = "azure-native:dbforpostgresql:AdministratorsMicrosoftEntra"
CONFIGURATION = "azure-native:dbforpostgresql:Configuration"
PASSWORD = "hunter2-Secret"
SERVER_ID = "/subscriptions/s/resourceGroups/rg-test/providers/Microsoft.DBforPostgreSQL/flexibleServers/contoso-test"
STACK: dict[str, Any] = {
    "name": "contoso-test",
    "resourceGroup": "rg-test",
    "location": "northeurope",
    "nodes": 4,
    "database": "citus",
    "administratorPassword": PASSWORD,
    "highAvailability": "ZoneRedundant",
    "pgbouncer": {"maxPreparedStatements": 300},
    "serverParameters": {"work_mem": "8MB", "jit": False},
    "network": {"firewallRules": [{"name": "office", "startIp": "203.0.113.10"}]},
    "services": [{"name": "user_service"}],
}
# What Azure says of the server that an earlier deployment made.
EXISTING = {
    "name": "contoso-test",
    "location": "North Europe",
    "administratorLogin": "clusteradmin",
    "version": "17",
    "cluster": {"clusterSize": 4, "defaultDatabaseName": "citus"},
    "storage": {"storageSizeGB": 128},
}


class Recorder(mocks.MockMonitor):
    """Keeps every raw request to register a resource: options and secretness never reach ordinary mocks."""

    def __init__(self, mocked: Any) -> None:
        super().__init__(mocked)
        self.requests: list[Any] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # the name of the RPC
        self.requests.append(request)
        return super().RegisterResource(request)

    def of_type(self, kind: str) -> list[Any]:
        return [request for request in self.requests if request.type == kind]

    def azure(self) -> list[Any]:
        return [request for request in self.requests if request.type.startswith("azure-native:")]

    def the(self, kind: str) -> dict[str, Any]:
        """The inputs of the only resource of that type."""
        (request,) = self.of_type(kind)
        return inputs(request)


class Azure(mocks.Mocks):
    """`existing`: the server of the stack's last deployment as Azure shows it now, or Azure's error.

    None before the first deployment.
    """

    def __init__(self, existing: Mapping[str, Any] | str | None = None, made: str = SERVER_ID) -> None:
        self._existing, self._made = existing, made

    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == SERVER:
            state |= {"fullyQualifiedDomainName": "contoso-test.postgres.database.azure.com", "name": "contoso-test"}
        if args.typ.endswith("ResourceGroup"):
            state |= {"name": args.inputs["resourceGroupName"]}
        return f"/id/{args.name}", state

    def call(self, args: Any) -> Any:
        if args.token == "pulumi:pulumi:readStackOutputs":
            return {} if self._existing is None else {"outputs": {"resourceId": self._made}}
        if isinstance(self._existing, str):
            return {}, [("", self._existing)]
        return dict(self._existing or {})


def run(
    change: Mapping[str, Any] | None = None,
    azure: Azure | None = None,
    secret: tuple[str, ...] = ("administratorPassword",),
    preview: bool = False,
) -> Recorder:
    """The program as `pulumi up` runs it, with the stack's configuration as Pulumi hands it over; None drops a key."""
    values = {key: value for key, value in (STACK | dict(change or {})).items() if value is not None}
    mocked = azure or Azure()
    recorder = Recorder(mocked)

    def program() -> None:
        set_mocks(mocked, project="elastic-cluster", stack="test", monitor=recorder, preview=preview)
        set_all_config(
            {
                f"elastic-cluster:{key}": value if isinstance(value, str) else json.dumps(value)
                for key, value in values.items()
            },
            [f"elastic-cluster:{key}" for key in secret],
        )

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def whole() -> None:
            runpy.run_path(str(ROOT / "infra"), run_name="__main__")

        whole()

    contextvars.Context().run(program)
    return recorder


def inputs(request: Any) -> dict[str, Any]:
    return json_format.MessageToDict(request.object)


def refused(change: Mapping[str, Any], azure: Azure | None = None, secret: tuple[str, ...] = ()) -> str:
    """What the program says when it refuses; fails when it does not, or when it has declared a resource."""
    recorders: list[Recorder] = []
    with pytest.raises(pulumi.RunError) as error:
        recorders.append(run(change, azure, secret))
    assert recorders == []
    return str(error.value)
