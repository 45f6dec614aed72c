"""Server parameters as ARM shows and sets them: those of the cluster, and a few of Azure's own around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.lab.arm.protocol import SERVER_TYPE, ArmFault, Json, OperationFault
from orchestrator.lab.arm.resources import ServerRecord

USER, DEFAULT = "user-override", "system-default"
Values = Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class AzureParameter:
    """A parameter that exists in Azure, not in PostgreSQL (or is a constant of PostgreSQL's build)."""

    default: str
    kind: str
    allowed: str
    description: str
    read_only: bool = False


# PgBouncer's defaults: "PgBouncer in Azure Database for PostgreSQL", 2026-04-06.
AZURE_PARAMETERS: dict[str, AzureParameter] = {
    "block_size": AzureParameter("8192", "Integer", "8192", "Shows the size of a disk block.", read_only=True),
    "metrics.collector_database_activity": AzureParameter("off", "Boolean", "on,off", "Enables enhanced metrics."),
    "metrics.pgbouncer_diagnostics": AzureParameter("off", "Boolean", "on,off", "Enables PgBouncer metrics."),
    "pgbouncer.enabled": AzureParameter("false", "Boolean", "true,false", "Denotes if pgBouncer service is enabled."),
    "pgbouncer.default_pool_size": AzureParameter("50", "Integer", "1-4950", "Server connections per pool."),
    "pgbouncer.max_client_conn": AzureParameter("5000", "Integer", "1-50000", "Maximum number of client connections."),
    "pgbouncer.max_prepared_statements": AzureParameter("0", "Integer", "0-5000", "Prepared statements; 0 is off."),
    "pgbouncer.min_pool_size": AzureParameter("0", "Integer", "0-4950", "Server connections kept open."),
    "pgbouncer.pool_mode": AzureParameter(
        "transaction", "Enumeration", "session,transaction,statement", "When a server connection can be reused."
    ),
    "pgbouncer.query_wait_timeout": AzureParameter("120", "Integer", "0-86400", "Seconds a query may wait."),
    "pgbouncer.server_idle_timeout": AzureParameter("600", "Integer", "0-86400", "Seconds until a drop."),
}  # fmt: skip


def read_all(record: ServerRecord, values: Values) -> dict[str, Json]:
    """Every configuration that is visible, as resources by name."""
    entries = {name: _of_cluster(record, name, *pair) for name, pair in values.items()}
    for name, known in AZURE_PARAMETERS.items():
        if name not in entries and _visible(record, name):
            entries[name] = _of_azure(record, name, known)
    return {name: _resource(record, name, entries[name]) for name in sorted(entries)}


def find(record: ServerRecord, values: Values, name: str) -> Json:
    for known, resource in read_all(record, values).items():
        if known.lower() == name.lower():
            return resource
    version = record.properties["version"]
    text = f"The configuration '{name}' does not exist for {record.name} server version {version}."
    raise ArmFault(404, "ConfigurationNotExists", text)


def accept(resource: Json, record: ServerRecord, body: Json, *, full: bool) -> Json:
    """The change that a PUT (`full`) or PATCH asks for. Raises what ARM refuses at once."""
    name = resource["name"]
    if resource["properties"]["isReadOnly"]:
        version = record.properties["version"]
        text = f"The configuration(s) '{name}' is(are) read-only for {record.name} server version {version}."
        raise ArmFault(400, "ConfigurationReadOnly", text)
    asked = body.get("properties") or {}
    source = asked.get("source") if full else asked.get("source", USER)
    return {
        "name": name,
        "value": asked.get("value"),
        "source": source,
        "default": resource["properties"]["defaultValue"],
    }


def validate(change: Json) -> None:
    """What Azure checks only after it has said 202. Raises OperationFault."""
    # PUT needs both value and source; without one the operation fails with an unfilled text
    # (pulumi-azure-native #898, azure-rest-api-specs #30143).
    if change["value"] is None or change["source"] not in (USER, DEFAULT):
        raise OperationFault("OperationFailed", "{0}")
    name, value = change["name"], str(change["value"])
    known = AZURE_PARAMETERS.get(name)
    if known is not None and not _allowed(known, value):
        raise invalid_value(name, value, f"Allowed values: {known.allowed}")


def invalid_value(name: str, value: str, reason: str) -> OperationFault:
    text = f"The value '{value}' for configuration '{name}' is not valid. {reason.rstrip('.')}."
    return OperationFault("InvalidConfigurationValue", text)


def change_record(record: ServerRecord, change: Json) -> None:
    name, value = change["name"], str(change["value"])
    if name in AZURE_PARAMETERS:
        record.static_parameters[name] = value
    record.parameter_sources[name] = DEFAULT if change["source"] == DEFAULT and value == change["default"] else USER


def _visible(record: ServerRecord, name: str) -> bool:
    """Azure hides PgBouncer's settings until it is enabled (its own documentation, 2026-03-04)."""
    if not name.startswith("pgbouncer.") or name == "pgbouncer.enabled":
        return True
    return record.static_parameters.get("pgbouncer.enabled", "false").lower() in ("true", "on")


def _allowed(known: AzureParameter, value: str) -> bool:
    if known.kind == "Integer":
        low, _, high = known.allowed.partition("-")
        return value.isdigit() and int(low) <= int(value) <= int(high or low)
    if known.kind == "Boolean":
        return value.lower() in ("on", "off", "true", "false")
    return value.lower() in known.allowed.split(",")


def _of_cluster(record: ServerRecord, name: str, value: str, default: str) -> Json:
    kind, allowed = "String", ""
    if default.lower() in ("on", "off"):
        kind, allowed = "Boolean", "on,off"
    elif default.lstrip("-").isdigit():
        kind = "Integer"
    return _properties(record, name, value, AzureParameter(default, kind, allowed, ""))


def _of_azure(record: ServerRecord, name: str, known: AzureParameter) -> Json:
    return _properties(record, name, record.static_parameters.get(name, known.default), known)


def _properties(record: ServerRecord, name: str, value: str, known: AzureParameter) -> Json:
    source = USER if value != known.default else record.parameter_sources.get(name, DEFAULT)
    return {
        "value": value, "description": known.description, "defaultValue": known.default, "dataType": known.kind,
        "allowedValues": known.allowed, "source": source, "isDynamicConfig": True, "isReadOnly": known.read_only,
        "isConfigPendingRestart": False,
    }  # fmt: skip


def _resource(record: ServerRecord, name: str, properties: Json) -> Json:
    return {
        "properties": properties, "id": f"{record.resource_id}/configurations/{name}", "name": name,
        "type": f"{SERVER_TYPE}/configurations",
    }  # fmt: skip
