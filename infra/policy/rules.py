"""What every elastic cluster must keep to, resource by resource: the limits are the program's own.

Pure functions over Pulumi's wire names, so that they can be tested without a policy engine. What a server was before
is not shown to policies: scale-in and replacement are refused by the program and by protect, which is demanded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.spec import RESERVED_LOGINS
from orchestrator.core.desired.spec_azure import NOT_ON_CLUSTERS, geo_redundant_backup_problem

_MODULE = "azure-native:dbforpostgresql:"
SERVER, DATABASE = f"{_MODULE}Server", f"{_MODULE}Database"
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """`properties` by wire name; what is not known yet is absent."""

    type: str
    properties: Values
    protect: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`problem` is a sentence about a resource that breaks the rule; None where it keeps to it."""

    name: str
    description: str
    problem: Callable[[Resource], str | None]


def problems(resource: Resource) -> Iterator[tuple[str, str]]:
    """Name of the rule and what is wrong."""
    for rule in RULES:
        said = rule.problem(resource)
        if said is not None:
            yield rule.name, said


def _is_cluster(resource: Resource) -> bool:
    return resource.type == SERVER and isinstance(resource.properties.get("cluster"), Mapping)


def _part(resource: Resource, name: str) -> Values:
    found = resource.properties.get(name)
    return found if isinstance(found, Mapping) else {}


def _protected(resource: Resource) -> str | None:
    if not _is_cluster(resource) or resource.protect:
        return None
    return (
        "The server is not protected: a change of name, location or login would replace it and its data. Set protect."
    )


def _nodes(resource: Resource) -> str | None:
    known, size = limit("cluster.nodes"), _part(resource, "cluster").get("clusterSize")
    if not _is_cluster(resource) or size is None or known.minimum <= size <= known.maximum:
        return None
    return f"cluster.clusterSize: {size:g} is outside {known.minimum} to {known.maximum} nodes ({known.source})."


def _version(resource: Resource) -> str | None:
    known, version = limit("postgres.versions"), resource.properties.get("version")
    if not _is_cluster(resource) or version is None or str(version) in known.values:
        return None
    return f"version: {version} is not one of {', '.join(map(str, known.values))} ({known.source})."


def _storage(resource: Resource) -> str | None:
    storage, known = _part(resource, "storage"), limit("storage.size_gb")
    if not _is_cluster(resource):
        return None
    if str(storage.get("autoGrow", "")).lower() == "enabled":
        return "storage.autoGrow: elastic clusters cannot grow their storage by themselves. Size it, and set Disabled."
    size = storage.get("storageSizeGB")
    if size is not None and size not in known.values:
        return f"storage.storageSizeGB: {size:g} is not one of {', '.join(map(str, known.values))} ({known.source})."
    return None


def _backup(resource: Resource) -> str | None:
    backup, location = _part(resource, "backup"), resource.properties.get("location")
    if not _is_cluster(resource):
        return None
    known, days = limit("backup.retention_days"), backup.get("backupRetentionDays")
    if days is not None and not known.minimum <= days <= known.maximum:
        return f"backup.backupRetentionDays: {days:g} is outside {known.minimum} to {known.maximum} ({known.source})."
    if backup.get("geoRedundantBackup") == "Enabled" and isinstance(location, str):
        return geo_redundant_backup_problem(location)
    return None


def _network(resource: Resource) -> str | None:
    if _is_cluster(resource) and _part(resource, "network").get("delegatedSubnetResourceId"):
        return f"network.delegatedSubnetResourceId: {NOT_ON_CLUSTERS['delegatedSubnetId']}."
    return None


def _login(resource: Resource) -> str | None:
    login = resource.properties.get("administratorLogin")
    if not _is_cluster(resource) or not isinstance(login, str):
        return None
    if login not in RESERVED_LOGINS and not login.startswith("pg_"):
        return None
    return f"administratorLogin: {login} is reserved by Azure; choose another name."


def _database(resource: Resource) -> str | None:
    if resource.type != DATABASE:
        return None
    return f"{NOT_ON_CLUSTERS['databases']}; remove this resource."


RULES = (
    Rule("protected", "The server of a cluster is protected.", _protected),
    Rule("node-count", "The number of nodes is one that Azure takes.", _nodes),
    Rule("version", "PostgreSQL's version is one that clusters have.", _version),
    Rule("storage", "Storage has a size that Azure takes, and does not grow by itself.", _storage),
    Rule("backup", "Backups are kept as long as, and where, Azure can keep them.", _backup),
    Rule("no-vnet-injection", "Clusters are reached publicly or through a private endpoint.", _network),
    Rule("login", "The administrator's name is not one of Azure's own.", _login),
    Rule("one-database", "A cluster has exactly one database.", _database),
)
