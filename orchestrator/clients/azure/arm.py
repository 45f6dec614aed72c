"""The one module that speaks to Azure Resource Manager, through Azure's own SDK. Its errors and objects end here.

Every method asks once and never waits: the SDK's retries and its polling thread are off, because one driver outside
owns all waiting. What deserves waiting is raised as ArmBusy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.core.checks.drill import Failover
from orchestrator.core.errors import ArmBusy, ArmError, ClusterUnreachable, Refused
from orchestrator.core.observed.server import (
    FirewallRuleReading,
    Operation,
    OperationReading,
    OperationStatus,
    Parameter,
    ServerReading,
)

if TYPE_CHECKING:
    from azure.mgmt.postgresqlflexibleservers import PostgreSQLManagementClient
    from azure.mgmt.postgresqlflexibleservers.models import ConfigurationProperties, Server

AZURE = "https://management.azure.com"
# A server answers ServerIsBusy while another operation runs on it; older ones ServerBusy. Both come as 409.
_BUSY_CODES = frozenset({"ServerIsBusy", "ServerBusy", "TooManyRequests"})
_BUSY_STATUSES = frozenset({429, 500, 502, 503, 504})
_ABSENT_CODES = frozenset({"ResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound", "ServerNotFound"})
_STATUSES: dict[str, OperationStatus] = {"succeeded": "Succeeded", "failed": "Failed", "canceled": "Canceled"}


class ServerNotFound(Refused):
    def __init__(self, server: str, resource_group: str, subscription_id: str, text: str) -> None:
        super().__init__(
            f"There is no server {server!r} in resource group {resource_group!r} of subscription {subscription_id}: "
            f"{text.rstrip('.')}. Check these three in the stack file, or create the cluster first."
        )


class NotElasticCluster(Refused):
    def __init__(self, server: str, resource_group: str) -> None:
        super().__init__(
            f"Server {server!r} in resource group {resource_group!r} is a single flexible server, not an elastic "
            "cluster, and cannot become one. Create an elastic cluster and move the data there."
        )


class AzureLoginRefused(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} does not accept this login: {reason.rstrip('.')}. Run `az login`, or set AZURE_CLIENT_ID, "
            "AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
        )


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
        self.subscription_id, self.resource_group, self.server_name = subscription_id, resource_group, server_name
        self.endpoint = (base_url or AZURE).rstrip("/")
        self._sdk = _connect(subscription_id, base_url, connect_timeout, read_timeout)

    def close(self) -> None:
        self._sdk.close()

    def __enter__(self) -> ArmClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read_server(self) -> ServerReading:
        with self._errors("Reading the server"):
            server = self._sdk.servers.get(self.resource_group, self.server_name)
        return self._reading(server)

    def start_resize(self, nodes: int) -> Operation:
        """Ask for `nodes` nodes. That Azure accepts it says nothing yet: limits are checked by the operation."""
        accepted = _Accepted()
        with self._errors(f"Asking for {nodes} nodes"):
            self._sdk.servers.begin_update(
                self.resource_group,
                self.server_name,
                {"properties": {"cluster": {"clusterSize": nodes}}},
                polling=False,
                raw_response_hook=accepted,
            )
        return Operation(accepted.url, "resize")

    def read_operation(self, operation: Operation) -> OperationReading:
        """One poll. An operation that ARM no longer knows is `Unknown`: read the server to learn what came of it."""
        from azure.core.rest import HttpRequest

        if not self._is_mine(operation.url):
            return OperationReading("Unknown")
        with self._errors("Following the operation"):
            response = self._sdk.send_request(HttpRequest("GET", operation.url, headers={"Accept": "application/json"}))
            response.read()
        if response.status_code == 404:
            return OperationReading("Unknown")
        if response.status_code >= 400:
            error = _error(response)
            code, text = str(error.get("code") or response.status_code), str(error.get("message") or response.reason)
            raise self._refusal("Following the operation", response.status_code, code, text, response.headers)
        return _operation_reading(response.status_code, _json(response), response.headers)

    def read_json(self, path: str, doing: str) -> Mapping[str, Any]:
        """What ARM has at a path below the server, where Azure's SDK for PostgreSQL knows nothing of it."""
        from azure.core.rest import HttpRequest

        server = (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.DBforPostgreSQL/flexibleServers/{self.server_name}/"
        )
        with self._errors(doing):
            response = self._sdk.send_request(HttpRequest("GET", self.endpoint + server + path))
            response.read()
        if response.status_code >= 400:
            error = _error(response)
            code, text = str(error.get("code") or response.status_code), str(error.get("message") or response.reason)
            raise self._refusal(doing, response.status_code, code, text, response.headers)
        return _json(response)

    def _is_mine(self, url: str) -> bool:
        """The login goes along with every request: never to an address that is not this endpoint's."""
        return url.startswith("/") or urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

    def read_parameters(self, names: Collection[str]) -> dict[str, Parameter]:
        """The parameters of these names that the server has.

        Azure has several hundred, so each is asked for; where one is missing (404) the list decides.
        """
        from azure.core.exceptions import HttpResponseError

        server = self.resource_group, self.server_name
        with self._errors("Reading server parameters"):
            try:
                found = [self._sdk.configurations.get(*server, name) for name in names]
            except HttpResponseError as error:
                if error.status_code != 404:
                    raise
                found = list(self._sdk.configurations.list_by_server(*server))
        wanted = {name.lower(): name for name in names}
        return {
            wanted[configuration.name.lower()]: _parameter(configuration.properties)
            for configuration in found
            if configuration.name and configuration.name.lower() in wanted and configuration.properties
        }

    def read_firewall_rules(self) -> tuple[FirewallRuleReading, ...]:
        with self._errors("Reading the firewall rules"):
            rules = list(self._sdk.firewall_rules.list_by_server(self.resource_group, self.server_name))
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
                self.resource_group,
                self.server_name,
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
            self._sdk.servers.begin_restart(
                self.resource_group, self.server_name, wanted, polling=False, raw_response_hook=accepted
            )
        return Operation(accepted.url, "restart")

    def _reading(self, server: Server) -> ServerReading:
        properties, sku = server.properties, server.sku
        if properties is None or properties.cluster is None:
            raise NotElasticCluster(self.server_name, self.resource_group)
        availability, storage = properties.high_availability, properties.storage
        return ServerReading(
            name=server.name or self.server_name,
            state=str(_value(properties.state)),
            nodes=properties.cluster.cluster_size or 0,
            version=str(_value(properties.version)),
            sku=sku.name if sku else "",
            tier=str(_value(sku.tier)) if sku else "",
            # Azure takes `northeurope` and answers `North Europe`: one form, so that both compare equal.
            location=server.location.replace(" ", "").lower(),
            host=properties.fully_qualified_domain_name or "",
            admin_login=properties.administrator_login or "",
            database=properties.cluster.default_database_name or "postgres",
            ha_mode=str(_value(availability.mode) or "Disabled") if availability else "Disabled",
            ha_state=str(_value(availability.state) or "") if availability else "",
            storage_gb=(storage.storage_size_gb or 0) if storage else 0,
            resource_id=server.id or "",
            backup_days=properties.backup.backup_retention_days if properties.backup else None,
            public_access=_public(properties.network),
        )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn the SDK's exceptions into this project's. Order counts: all of them are AzureErrors."""
        from azure.core import exceptions as sdk

        try:
            yield
        except sdk.ClientAuthenticationError as error:
            raise AzureLoginRefused(self.endpoint, _first_line(error.message)) from error
        except sdk.DecodeError as error:
            raise _garbled(doing, error.status_code) from error
        except sdk.HttpResponseError as error:
            code = (error.error.code if error.error else None) or str(error.status_code)
            text = (error.error.message if error.error else None) or error.message
            headers = getattr(error.response, "headers", {})
            raise self._refusal(doing, error.status_code or 0, code, text, headers) from error
        except sdk.ServiceRequestError as error:
            fix = "Is the lab up? See `orchestrator lab status`." if _is_http(self.endpoint) else "Check the network."
            raise ClusterUnreachable(self.endpoint, _first_line(error.message), fix) from error
        except sdk.AzureError as error:
            # No answer, or half of one: the request may have taken effect. Read the server, then decide again.
            raise ArmBusy(doing, "NoAnswer", _first_line(error.message)) from error

    def _refusal(self, doing: str, status: int, code: str, text: str, headers: Mapping[str, str]) -> Exception:
        """By code before status: a busy server is a 409 like any conflict, and a failed operation can come as a 200."""
        if code in _BUSY_CODES or status in _BUSY_STATUSES:
            return ArmBusy(doing, code, text, status=status, retry_after=_retry_after(headers))
        if status == 401:
            return AzureLoginRefused(self.endpoint, text)
        if code in _ABSENT_CODES:
            return ServerNotFound(self.server_name, self.resource_group, self.subscription_id, text)
        fix = ""
        if status == 403:
            fix = f"This login needs the role Contributor on resource group {self.resource_group!r}."
        return ArmError(doing, code, text, status=status, fix=fix)


def _public(network: Any) -> bool | None:
    """None where ARM does not say."""
    said = _value(network.public_network_access) if network else None
    return None if said is None else str(said) == "Enabled"


def _parameter(properties: ConfigurationProperties) -> Parameter:
    return Parameter(
        value=properties.value or "",
        default=properties.default_value or "",
        source=properties.source or "",
        read_only=bool(properties.is_read_only),
        dynamic=bool(properties.is_dynamic_config),
        pending_restart=bool(properties.is_config_pending_restart),
    )


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


def _operation_reading(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> OperationReading:
    """Only three words end an operation; every other one is a way of saying that it goes on."""
    said = str(body.get("status") or ("InProgress" if status == 202 else "Succeeded"))
    error = _part(body, "error")
    return OperationReading(
        _STATUSES.get(said.lower(), "InProgress"),
        str(error.get("code") or ""),
        str(error.get("message") or ""),
        _retry_after(headers),
    )


def _json(response: Any) -> Mapping[str, Any]:
    """{} without a body. Raises ArmBusy for one that is no JSON object: whatever it meant, ask again."""
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    raise _garbled("Following the operation", response.status_code)


def _error(response: Any) -> Mapping[str, Any]:
    """ARM's error envelope; {} where a gateway in between answered in its own form."""
    try:
        return _part(_json(response), "error")
    except ArmBusy:
        return {}


def _garbled(doing: str, status: int | None) -> ArmBusy:
    return ArmBusy(doing, "GarbledAnswer", "the body of the answer is not the JSON that ARM sends", status=status)


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; ARM never sends the date form."""
    try:
        return float(headers.get("Retry-After") or "")
    except ValueError:
        return None


def _value(member: Any) -> Any:
    """The SDK's enums are str subclasses whose str() is not their value."""
    return getattr(member, "value", member)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else "no reason given"


def _is_http(endpoint: str) -> bool:
    return endpoint.startswith("http://")
