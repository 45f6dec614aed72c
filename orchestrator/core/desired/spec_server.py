"""Desired state of the server that carries the cluster: size, storage, backup, pooler, network. Part of `spec`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from orchestrator.core.desired.limits import in_range, limit, one_of
from orchestrator.core.desired.services import Model

IpV4 = Annotated[str, StringConstraints(pattern=r"^(\d{1,3}\.){3}\d{1,3}$")]


class Compute(Model):
    """Compute size; every node has the same."""

    sku: Annotated[str, Field(examples=["Standard_D4ds_v5"], min_length=1)] = "Standard_D2ds_v5"
    tier: Annotated[str, Field(json_schema_extra={"enum": list(limit("compute.tiers").values)})] = "GeneralPurpose"

    @field_validator("tier")
    @classmethod
    def _known_tier(cls, value: str) -> str:
        return one_of("compute.tiers", value)


class Storage(Model):
    """Storage of each node. Elastic clusters cannot grow it by themselves and no storage can shrink."""

    size_gb: Annotated[int, Field(json_schema_extra={"enum": list(limit("storage.size_gb").values)})] = 128
    iops: Annotated[int, Field(ge=100)] | None = None
    type: Literal["Premium_LRS", "PremiumV2_LRS"] | None = None
    auto_grow: Literal[False] = False

    @field_validator("size_gb")
    @classmethod
    def _known_size(cls, value: int) -> int:
        return one_of("storage.size_gb", value)

    @field_validator("auto_grow", mode="before")
    @classmethod
    def _no_auto_grow(cls, value: object) -> object:
        if value is True:
            raise ValueError(
                "elastic clusters cannot grow their storage by themselves; remove the key and size the storage"
            )
        return value


class Backup(Model):
    retention_days: int = 7
    geo_redundant: bool = False

    @field_validator("retention_days")
    @classmethod
    def _known_retention(cls, value: int) -> int:
        return in_range("backup.retention_days", value, "days")


class MaintenanceWindow(Model):
    """Start of Azure's own maintenance, in UTC."""

    day_of_week: Literal["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    start_hour: Annotated[int, Field(ge=0, le=23)] = 0
    start_minute: Annotated[int, Field(ge=0, le=59)] = 0


class PgBouncer(Model):
    """The built-in connection pooler (ports 6432 and 8432)."""

    enabled: bool = True
    pool_mode: Literal["transaction", "session", "statement"] = "transaction"
    default_pool_size: Annotated[int, Field(ge=1, le=4950)] = 50
    max_client_conn: Annotated[int, Field(ge=1, le=50000)] = 5000
    max_prepared_statements: Annotated[int, Field(ge=0, le=5000)] = Field(
        default=200,
        description="0 is Azure's default and breaks protocol-level prepared statements in transaction mode.",
    )


class FirewallRule(Model):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,80}$")]
    start_ip: IpV4
    end_ip: IpV4 | None = Field(default=None, description="Defaults to startIp.")


class PrivateEndpoint(Model):
    subnet_id: Annotated[str, StringConstraints(pattern=r"^/subscriptions/.+/subnets/.+$")]
    private_dns_zone_id: str | None = Field(
        default=None, description="An existing zone; without it one is made and linked to the subnet's network."
    )


class Network(Model):
    """Public access with firewall rules, or a private endpoint. VNet injection does not exist for elastic clusters."""

    public_access: bool = True
    firewall_rules: tuple[FirewallRule, ...] = ()
    private_endpoint: PrivateEndpoint | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Network:
        if self.firewall_rules and not self.public_access:
            raise ValueError("firewallRules only apply to public access; set publicAccess: true or remove them")
        if not self.public_access and self.private_endpoint is None:
            raise ValueError("nobody could reach the cluster; set publicAccess: true or add a privateEndpoint")
        return self
