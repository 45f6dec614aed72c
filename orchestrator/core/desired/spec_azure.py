"""Desired state that only Azure needs: who may log in, where logs go, when somebody is told. Part of `spec`.

Keys that elastic clusters will never have are named here too, so that they are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.names import region_name
from orchestrator.core.desired.services import Model, Name

Guid = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
Percent = Annotated[int, Field(ge=1, le=100)]

# What people write who know flexible servers without clusters, and why it does not work here.
NOT_ON_CLUSTERS: Mapping[str, str] = {
    "databases": "an elastic cluster has exactly one database; name it in elastic-cluster:database",
    "delegatedSubnetId": "elastic clusters have no VNet injection; use privateEndpoint",
    "privateDnsZoneArmResourceId": "elastic clusters have no VNet injection; use privateEndpoint.privateDnsZoneId",
}


class EntraAdministrator(Model):
    """A user, a group or an application (servicePrincipal) that administers the cluster."""

    object_id: Guid
    name: Annotated[Name, Field(description="Its name in Entra, which is also its role's name in the database.")]
    type: Literal["user", "group", "servicePrincipal"] = "user"


class Entra(Model):
    """Login with Microsoft Entra."""

    tenant_id: Guid
    administrators: Annotated[tuple[EntraAdministrator, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Entra:
        ids = [administrator.object_id.lower() for administrator in self.administrators]
        if len(set(ids)) != len(ids):
            raise ValueError("two administrators have the same objectId; remove one of them")
        return self


class Authentication(Model):
    """Password, Microsoft Entra, or both. Without passwords the server has no administratorLogin."""

    password: bool = True
    entra: Entra | None = None

    @model_validator(mode="after")
    def _some_way_in(self) -> Authentication:
        if not self.password and self.entra is None:
            raise ValueError("nobody could log in; set password: true or name an Entra administrator")
        return self


class Diagnostics(Model):
    """Where the server's logs and metrics are sent."""

    workspace_id: Annotated[str, StringConstraints(pattern=r"(?i)^/subscriptions/.+/workspaces/[^/]+$")] = Field(
        description="Resource ID of a Log Analytics workspace."
    )
    logs: tuple[Annotated[str, Field(min_length=1)], ...] = ("PostgreSQLLogs", "PostgreSQLFlexPGBouncer")
    metrics: bool = True


class Alerts(Model):
    """Thresholds of metric alerts; null makes none. Azure has these metrics for the server, not for each node."""

    action_group_ids: tuple[Annotated[str, StringConstraints(pattern=r"(?i)^/subscriptions/.+/actionGroups/.+$")], ...]
    cpu_percent: Percent | None = 85
    storage_percent: Percent | None = 80
    active_connections: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="No default: what is many depends on the size and on PgBouncer."
    )
    replication_lag_mb: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Of asynchronous replicas; the standbys of high availability are synchronous."
    )


def geo_redundant_backup_problem(location: str) -> str | None:
    """Why backups of this region cannot be kept in its pair; None where they can or where nothing is known."""
    known = limit("backup.regions_without_pair")
    if region_name(location) not in known.values:
        return None
    return (
        f"backup.geoRedundant: {location} has no paired region to keep copies in; set it to false "
        f"({known.source}, as of {known.as_of})"
    )
