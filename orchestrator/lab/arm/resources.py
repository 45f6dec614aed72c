"""The server resource as Azure keeps and shows it: how a request body becomes state, and state a GET body.

Shapes, texts and server-filled fields follow recorded traffic of a real elastic cluster (azure-cli's recording
test_elastic_clusters_mgmt, 2026-04-22); what no recording shows is marked `assumed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.desired.limits import limit
from orchestrator.lab.arm.catalog import PREMIUM_SSD, display_name
from orchestrator.lab.arm.protocol import SERVER_TYPE, ArmFault, Json, OperationFault, merge

# Write-only or computed by Azure: never kept from a request, so never shown, logged or saved.
_UNKEPT = (
    "administratorLoginPassword", "createMode", "state", "fullyQualifiedDomainName", "minorVersion",
    "replicaCapacity", "privateEndpointConnections", "sourceServerResourceId", "pointInTimeUTC",
)  # fmt: skip
# What PATCH can change (ServerForPatch of the SDK): not the location, not the administrator's login.
_PATCHABLE = ("sku", "tags", "identity", "properties")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The lab's server as it is to look like when it is first seen. `host` is what GET calls its domain name.

    `parameters` are those that only Azure knows, PgBouncer's for example: the lab's own pooler does not follow them.
    """

    subscription_id: str
    resource_group: str
    name: str
    location: str = "northeurope"
    host: str = ""
    version: str = "17"
    admin_login: str = "clusteradmin"
    database: str = "postgres"
    sku: str = "Standard_D2ds_v5"
    tier: str = "GeneralPurpose"
    storage_gb: int = 128
    ha_mode: str = "Disabled"
    backup_days: int = 7
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ServerRecord:
    """One server. `properties` is what GET shows, without the state, which follows from `power` and operations."""

    subscription_id: str
    resource_group: str
    name: str
    location: str
    created_at: str
    sku: Json
    properties: Json
    tags: dict[str, str] = field(default_factory=dict)
    identity: Json = field(default_factory=dict)
    power: str = "Ready"
    firewall_rules: dict[str, Json] = field(default_factory=dict)
    administrators: dict[str, Json] = field(default_factory=dict)
    parameter_sources: dict[str, str] = field(default_factory=dict)
    static_parameters: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return server_key(self.subscription_id, self.resource_group, self.name)

    @property
    def resource_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/{SERVER_TYPE}/{self.name}"
        )

    @property
    def nodes(self) -> int:
        return int(self.properties["cluster"]["clusterSize"])


def server_key(subscription_id: str, resource_group: str, name: str) -> str:
    return "/".join((subscription_id, resource_group, name)).lower()


def new_record(facts: ServerFacts, nodes: int, created_at: str) -> ServerRecord:
    properties: Json = {
        "dataEncryption": {"type": "SystemManaged"},
        "cluster": {"clusterSize": nodes, "defaultDatabaseName": facts.database},
        "replica": {"role": "Primary", "replicationState": "Active"},
        "storage": _storage({"storageSizeGB": facts.storage_gb}),
        "network": {"publicNetworkAccess": "Enabled"},
        "privateEndpointConnections": [],
        "authConfig": {"activeDirectoryAuth": "Disabled", "passwordAuth": "Enabled"},
        "fullyQualifiedDomainName": facts.host or f"{facts.name}.postgres.database.azure.com",
        "version": facts.version,
        "administratorLogin": facts.admin_login,
        "availabilityZone": "1",
        "backup": {"backupRetentionDays": facts.backup_days, "geoRedundantBackup": "Disabled"},
        "highAvailability": {"mode": facts.ha_mode},
        "maintenanceWindow": {"customWindow": "Disabled", "dayOfWeek": 0, "startHour": 0, "startMinute": 0},
        "replicationRole": "Primary",
    }
    return ServerRecord(
        facts.subscription_id, facts.resource_group, facts.name, display_name(facts.location), created_at,
        {"name": facts.sku, "tier": facts.tier}, properties, dict(facts.tags),
        parameter_sources=dict.fromkeys(facts.parameters, "user-override"), static_parameters=dict(facts.parameters),
    )  # fmt: skip


def record_of(subscription_id: str, resource_group: str, name: str, body: Json, created_at: str) -> ServerRecord:
    """The server that a PUT creates, before the rest of its body is applied. Raises what ARM refuses at once."""
    properties, sku, location = body.get("properties"), body.get("sku"), body.get("location")
    if not isinstance(location, str) or not location:
        raise ArmFault(400, "LocationRequired", "The location property is required for this definition.")
    if not isinstance(properties, dict) or not isinstance(properties.get("cluster"), dict):
        text = "The lab creates elastic clusters only: properties.cluster is missing."
        raise ArmFault(400, "NotSupportedByLab", text)
    if not isinstance(sku, dict):
        raise _malformed("sku", "an object")
    asked_gb = (properties.get("storage") or {}).get("storageSizeGB")
    facts = ServerFacts(
        subscription_id, resource_group, name, location=location,
        version=str(properties.get("version", "17")),
        admin_login=str(properties.get("administratorLogin", "")),
        database=properties["cluster"].get("defaultDatabaseName") or "postgres",
        sku=str(sku.get("name", "")), tier=str(sku.get("tier", "")),
        storage_gb=asked_gb if asked_gb in PREMIUM_SSD else min(PREMIUM_SSD),
    )  # fmt: skip
    record = new_record(facts, 0, created_at)
    record.power = "Provisioning"
    return record


def show(record: ServerRecord, state: str) -> Json:
    """The body of GET. An elastic cluster shows neither minorVersion nor replicaCapacity nor the state of its HA."""
    shown: Json = {
        "sku": dict(record.sku),
        "systemData": {"createdAt": record.created_at},
        "properties": {**record.properties, "state": state},
        "location": record.location,
    }
    if record.tags:
        shown["tags"] = dict(record.tags)
    if record.identity:
        shown["identity"] = dict(record.identity)
    return {**shown, "id": record.resource_id, "name": record.name, "type": SERVER_TYPE}


def accept(record: ServerRecord, body: Json, *, full: bool) -> Json:
    """The part of a PUT (`full`) or PATCH body that counts, without secrets. Raises what ARM refuses at once."""
    properties = body.get("properties", {})
    if not isinstance(properties, dict):
        raise _malformed("properties", "an object")
    size = (properties.get("cluster") or {}).get("clusterSize")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise _malformed("properties.cluster.clusterSize", "an integer")
    if full:
        _same_location(record, body)
    kept = {name: body[name] for name in _PATCHABLE if body.get(name) is not None}
    kept["properties"] = {
        name: value for name, value in properties.items() if name not in _UNKEPT and value is not None
    }
    if not full:
        kept["properties"].pop("administratorLogin", None)
    elif "tags" not in kept:
        kept["tags"] = {}
    kept["full"] = full
    return kept


def validate(record: ServerRecord, change: Json) -> None:
    """What Azure checks only after it has said 202. Raises OperationFault."""
    properties = change["properties"]
    size = (properties.get("cluster") or {}).get("clusterSize")
    if size is not None and not 1 <= size <= limit("cluster.nodes").maximum:
        raise OperationFault("UnsupportedValue", f"Unsupported value {size} for parameter NumberOfNodes")
    storage = properties.get("storage") or {}
    if str(storage.get("autoGrow", "")).lower() == "enabled":
        raise OperationFault("ClusterStorageAutoGrowIsDisabled", "Cannot enable storage autogrow.")
    current = record.properties
    wanted_gb = storage.get("storageSizeGB", current["storage"]["storageSizeGB"])
    if wanted_gb not in limit("storage.size_gb").values:
        raise OperationFault(
            "UnsupportedValue", f"Unsupported value {wanted_gb} for parameter StorageSizeGB"
        )  # assumed
    if wanted_gb < current["storage"]["storageSizeGB"]:
        raise _fixed("storageSizeGB", "storage cannot shrink")
    if properties.get("version", current["version"]) != current["version"]:
        raise _fixed("version", "elastic clusters have no major version upgrade")
    if properties.get("administratorLogin", current["administratorLogin"]) != current["administratorLogin"]:
        raise _fixed("administratorLogin", "it is fixed at creation")
    database = (properties.get("cluster") or {}).get("defaultDatabaseName")
    if database not in (None, "", current["cluster"]["defaultDatabaseName"]):
        raise _fixed("defaultDatabaseName", "it is fixed at creation")
    tier = (change.get("sku") or {}).get("tier", record.sku["tier"])
    if tier not in limit("compute.tiers").values:
        raise OperationFault("UnsupportedValue", f"Unsupported value {tier} for parameter Tier")  # assumed


def wanted_nodes(record: ServerRecord, change: Json) -> int:
    """Azure accepts a smaller number and ignores it: the operation succeeds and the cluster keeps its nodes."""
    size = (change["properties"].get("cluster") or {}).get("clusterSize") or 0
    return max(record.nodes, int(size))


def change_record(record: ServerRecord, change: Json) -> None:
    """Make a validated change visible, the fields filled in that Azure fills in."""
    nodes = wanted_nodes(record, change)
    properties = merge(record.properties, change["properties"])
    properties["cluster"] = {**record.properties["cluster"], "clusterSize": nodes}
    resized = "storageSizeGB" in (change["properties"].get("storage") or {})
    properties["storage"] = _storage(properties["storage"], derive=resized)
    properties["highAvailability"].pop("state", None)
    properties["backup"].pop("earliestRestoreDate", None)
    if not properties.get("availabilityZone"):
        properties["availabilityZone"] = record.properties["availabilityZone"]
    properties["replica"] = dict(record.properties["replica"])
    record.properties = properties
    record.sku = merge(record.sku, change.get("sku") or {})
    if "tags" in change:
        record.tags = dict(change["tags"]) if change["full"] else merge(record.tags, change["tags"])
    if "identity" in change:
        record.identity = merge(record.identity, change["identity"])


def _storage(wanted: Mapping[str, Any], *, derive: bool = True) -> Json:
    """Azure answers an empty type, and the performance tier and IOPS that belong to the size."""
    size = int(wanted["storageSizeGB"])
    tier, iops = PREMIUM_SSD[size]
    keep = not derive and wanted.get("tier")
    return {
        "type": wanted.get("type") or "",
        "iops": wanted.get("iops", iops) if keep else iops,
        "tier": wanted["tier"] if keep else tier,
        "storageSizeGB": size,
        "autoGrow": wanted.get("autoGrow") or "Disabled",
    }


def _same_location(record: ServerRecord, body: Json) -> None:
    location = body.get("location")
    if not isinstance(location, str) or not location:
        raise ArmFault(400, "LocationRequired", "The location property is required for this definition.")
    if display_name(location) != record.location:
        raise ArmFault(
            409,
            "InvalidResourceLocation",
            f"The resource '{record.name}' already exists in location '{record.location}' in resource group "
            f"'{record.resource_group}'. A resource with the same name cannot be created in location '{location}'. "
            "Please select a new resource name.",
        )


def _malformed(name: str, kind: str) -> ArmFault:
    text = f"The request content was invalid and could not be deserialized: '{name}' must be {kind}."
    return ArmFault(400, "InvalidRequestContent", text)


def _fixed(name: str, reason: str) -> OperationFault:
    """Assumed code: no recording shows Azure refusing these."""
    return OperationFault("InvalidParameterValue", f"Invalid value given for parameter {name}: {reason}.")
