"""What Azure Resource Manager answers, as readings: the SDK's models and bare JSON end here. Asks nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.core.desired.names import region_name
from orchestrator.core.errors import ArmBusy
from orchestrator.core.observed.server import OperationReading, OperationStatus, Parameter, ServerReading

if TYPE_CHECKING:
    from azure.mgmt.postgresqlflexibleservers.models import ConfigurationProperties, Server

_STATUSES: dict[str, OperationStatus] = {"succeeded": "Succeeded", "failed": "Failed", "canceled": "Canceled"}


def server_reading(server: Server) -> ServerReading | None:
    """None for a server that is no elastic cluster."""
    properties, sku = server.properties, server.sku
    if properties is None or properties.cluster is None:
        return None
    availability, storage = properties.high_availability, properties.storage
    return ServerReading(
        name=server.name or "",
        state=str(_value(properties.state)),
        nodes=properties.cluster.cluster_size or 0,
        version=str(_value(properties.version)),
        sku=sku.name if sku else "",
        tier=str(_value(sku.tier)) if sku else "",
        # Azure takes `northeurope` and answers `North Europe`: one form, so that both compare equal.
        location=region_name(server.location),
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


def _public(network: Any) -> bool | None:
    """None where ARM does not say."""
    said = _value(network.public_network_access) if network else None
    return None if said is None else str(said) == "Enabled"


def _value(member: Any) -> Any:
    """The SDK's enums are str subclasses whose str() is not their value."""
    return getattr(member, "value", member)


def parameter(properties: ConfigurationProperties) -> Parameter:
    return Parameter(
        value=properties.value or "",
        default=properties.default_value or "",
        source=properties.source or "",
        read_only=bool(properties.is_read_only),
        dynamic=bool(properties.is_dynamic_config),
        pending_restart=bool(properties.is_config_pending_restart),
    )


def operation_reading(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> OperationReading:
    """Only three words end an operation; every other one is a way of saying that it goes on."""
    said = str(body.get("status") or ("InProgress" if status == 202 else "Succeeded"))
    error = _part(body, "error")
    return OperationReading(
        _STATUSES.get(said.lower(), "InProgress"),
        str(error.get("code") or ""),
        str(error.get("message") or ""),
        retry_after(headers),
    )


def json_body(response: Any, doing: str) -> Mapping[str, Any]:
    """{} without a body. Raises ArmBusy for one that is no JSON object: whatever it meant, ask again."""
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    raise garbled(doing, response.status_code)


def error_of(response: Any, doing: str) -> tuple[str, str]:
    """Code and text of ARM's error envelope; of the HTTP status where a gateway answered in a form of its own."""
    try:
        error = _part(json_body(response, doing), "error")
    except ArmBusy:
        error = {}
    return str(error.get("code") or response.status_code), str(error.get("message") or response.reason)


def garbled(doing: str, status: int | None) -> ArmBusy:
    return ArmBusy(doing, "GarbledAnswer", "the body of the answer is not the JSON that ARM sends", status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; ARM never sends the date form."""
    try:
        return float(headers.get("Retry-After") or "")
    except ValueError:
        return None


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, dict) else {}
