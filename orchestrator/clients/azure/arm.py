"""The one module that speaks to Azure Resource Manager, through Azure's own SDK. Its errors and objects end here.

Every method asks once and never waits: the SDK's retries and its polling thread are off, because one driver outside
owns all waiting. What deserves waiting is raised as ArmBusy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.clients.azure.arm_answers import error_of, json_body, operation_reading, parameter, server_reading
from orchestrator.clients.azure.arm_errors import NotElasticCluster, Place, refusal, translated
from orchestrator.core.checks.drill import Failover
from orchestrator.core.observed.server import (
    FirewallRuleReading,
    Operation,
    OperationReading,
    Parameter,
    ServerReading,
)

if TYPE_CHECKING:
    from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient

AZURE = "https://management.azure.com"


class ArmClient:
    """One server of one resource group. `base_url` None is public Azure; http is for a lab on this machine only."""

    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        server_name: str,
        base_url: str | None = None,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
    ) -> None:
        self.endpoint = (base_url or AZURE).rstrip("/")
        self._place = Place(self.endpoint, subscription_id, resource_group, server_name)
        self._server = resource_group, server_name
        self._sdk = _connect(subscription_id, base_url, connect_timeout, read_timeout)

    def close(self) -> None:
        self._sdk.close()

    def __enter__(self) -> ArmClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read_server(self) -> ServerReading:
        with self._errors("Reading the server"):
            reading = server_reading(self._sdk.servers.get(*self._server))
        if reading is None:
            raise NotElasticCluster(self._place)
        return reading

    def start_resize(self, nodes: int) -> Operation:
        """Ask for `nodes` nodes. That Azure accepts it says nothing yet: limits are checked by the operation."""
        accepted = _Accepted()
        with self._errors(f"Asking for {nodes} nodes"):
            self._sdk.servers.begin_update(
                *self._server,
                {"properties": {"cluster": {"clusterSize": nodes}}},
                polling=False,
                raw_response_hook=accepted,
            )
        return Operation(accepted.url, "resize")

    def read_operation(self, operation: Operation) -> OperationReading:
        """One poll. An operation that ARM no longer knows is `Unknown`: read the server to learn what came of it."""
        doing = "Following the operation"
        if not self._is_mine(operation.url):
            return OperationReading("Unknown")
        response = self._get(operation.url, doing)
        if response.status_code == 404:
            return OperationReading("Unknown")
        return operation_reading(response.status_code, self._body(response, doing), response.headers)

    def read_json(self, path: str, doing: str) -> Mapping[str, Any]:
        """What ARM has at a path below the server, where Azure's SDK for PostgreSQL knows nothing of it."""
        server = (
            f"/subscriptions/{self._place.subscription_id}/resourceGroups/{self._place.resource_group}"
            f"/providers/Microsoft.DBforPostgreSQL/flexibleServers/{self._place.server_name}/"
        )
        return self._body(self._get(self.endpoint + server + path, doing), doing)

    def _get(self, url: str, doing: str) -> Any:
        from azure.core.rest import HttpRequest

        with self._errors(doing):
            response = self._sdk.send_request(HttpRequest("GET", url, headers={"Accept": "application/json"}))
            response.read()
        return response

    def _body(self, response: Any, doing: str) -> Mapping[str, Any]:
        """Raises what ARM's refusal means."""
        if response.status_code >= 400:
            code, text = error_of(response, doing)
            raise refusal(self._place, doing, response.status_code, code, text, response.headers)
        return json_body(response, doing)

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return translated(self._place, doing)

    def _is_mine(self, url: str) -> bool:
        """The login goes along with every request: never to an address that is not this endpoint's."""
        return url.startswith("/") or urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

    def read_parameters(self, names: Collection[str]) -> dict[str, Parameter]:
        """The parameters of these names that the server has.

        Azure has several hundred, so each is asked for; where one is missing (404) the list decides.
        """
        from azure.core.exceptions import HttpResponseError

        with self._errors("Reading server parameters"):
            try:
                found = [self._sdk.configurations.get(*self._server, name) for name in names]
            except HttpResponseError as error:
                if error.status_code != 404:
                    raise
                found = list(self._sdk.configurations.list_by_server(*self._server))
        wanted = {name.lower(): name for name in names}
        return {
            wanted[configuration.name.lower()]: parameter(configuration.properties)
            for configuration in found
            if configuration.name and configuration.name.lower() in wanted and configuration.properties
        }

    def read_firewall_rules(self) -> tuple[FirewallRuleReading, ...]:
        with self._errors("Reading the firewall rules"):
            rules = list(self._sdk.firewall_rules.list_by_server(*self._server))
        return tuple(
            FirewallRuleReading(rule.name or "", rule.properties.start_ip_address, rule.properties.end_ip_address)
            for rule in rules
            if rule.properties
        )

    def start_set_parameter(self, name: str, value: str, *, source: str = "user-override") -> Operation:
        """Set one parameter. Resetting it is: its default as `value`, and `system-default` as `source`."""
        accepted = _Accepted()
        with self._errors(f"Setting {name} to {value}"):
            self._sdk.configurations.begin_put(
                *self._server,
                name,
                {"properties": {"value": value, "source": source}},
                polling=False,
                raw_response_hook=accepted,
            )
        return Operation(accepted.url, "set-parameter")

    def start_restart(self, failover: Failover | None = None) -> Operation:
        """Every node of the cluster. With `failover` the standbys take over, which needs high availability."""
        from azure.mgmt.postgresqlflexibleservers.models import RestartParameter

        accepted = _Accepted()
        modes = {"planned": "PlannedFailover", "forced": "ForcedFailover"}
        wanted = RestartParameter(restart_with_failover=True, failover_mode=modes[failover]) if failover else None
        with self._errors(f"Asking for a {failover} failover" if failover else "Asking for a restart"):
            self._sdk.servers.begin_restart(*self._server, wanted, polling=False, raw_response_hook=accepted)
        return Operation(accepted.url, "restart")


class _Accepted:
    """Catches the address of the operation from the reply, so that no polling thread of the SDK is needed."""

    url = ""

    def __call__(self, response: Any) -> None:
        headers = response.http_response.headers
        self.url = headers.get("Azure-AsyncOperation") or headers.get("Location") or ""


def _connect(
    subscription_id: str, base_url: str | None, connect_timeout: float, read_timeout: float
) -> PostgreSQLManagementClient:
    from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient

    from orchestrator.clients.azure import credentials

    options: dict[str, Any] = {
        "connection_timeout": connect_timeout,
        "read_timeout": read_timeout,
        "retry_total": 0,
    }
    if base_url is not None:
        base_url = base_url.rstrip("/")
        options["credential_scopes"] = [f"{base_url}/.default"]
    if credentials.is_lab(base_url):
        options["authentication_policy"] = credentials.FixedBearer()
        options["use_env_settings"] = False  # a proxy of the environment cannot reach this machine's loopback
        return PostgreSQLManagementClient(credentials.NoCredential(), subscription_id, base_url, **options)
    return PostgreSQLManagementClient(credentials.azure_credential(), subscription_id, base_url, **options)
