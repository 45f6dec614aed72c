"""Desired state: what one stack file says about a cluster and its services.

The Pulumi program and the orchestrator read the same keys through these types. Keys live under `config:` in the
stack file as `elastic-cluster:<key>`; see `NAMESPACE`. Models are frozen; unknown keys are errors.
Rules of Azure that may change are in `limits.json`, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.names import check_parameter
from orchestrator.core.desired.services import FilePath, Model, Name, ServiceSpec, ServiceTemplate
from orchestrator.core.desired.spec_azure import Alerts, Authentication, Diagnostics, geo_redundant_backup_problem

NAMESPACE = "elastic-cluster"
RESERVED_LOGINS = frozenset({"azure_superuser", "azure_pg_admin", "admin", "administrator", "root", "guest", "public"})

ClusterName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
T = TypeVar("T")
IpV4 = Annotated[str, StringConstraints(pattern=r"^(\d{1,3}\.){3}\d{1,3}$")]


class Compute(Model):
    """Compute size; every node has the same."""

    sku: Annotated[str, Field(examples=["Standard_D4ds_v5"], min_length=1)] = "Standard_D2ds_v5"
    tier: Annotated[str, Field(json_schema_extra={"enum": list(limit("compute.tiers").values)})] = "GeneralPurpose"

    @field_validator("tier")
    @classmethod
    def _known_tier(cls, value: str) -> str:
        return _one_of("compute.tiers", value)


class Storage(Model):
    """Storage of each node. Elastic clusters cannot grow it by themselves and no storage can shrink."""

    size_gb: Annotated[int, Field(json_schema_extra={"enum": list(limit("storage.size_gb").values)})] = 128
    iops: Annotated[int, Field(ge=100)] | None = None
    type: Literal["Premium_LRS", "PremiumV2_LRS"] | None = None
    auto_grow: Literal[False] = False

    @field_validator("size_gb")
    @classmethod
    def _known_size(cls, value: int) -> int:
        return _one_of("storage.size_gb", value)

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
        return _in_range("backup.retention_days", value, "days")


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


class SecretSource(Model):
    """Where a password comes from: an environment variable or a file, or a Pulumi secret.

    Only Pulumi can decrypt `secure`; the orchestrator then takes ORCHESTRATOR_ADMIN_PASSWORD.
    With `generate`, `pulumi up` makes the file, with mode 0600, where it is missing.
    """

    secure: str | None = None
    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: FilePath | None = None
    generate: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        if self.generate and self.file is None:
            raise ValueError("generate needs the file that the password is kept in; add file")
        if sum(source is not None for source in (self.env, self.file, self.secure)) != 1:
            raise ValueError("name exactly one of env and file, or keep a Pulumi secret (secure)")
        return self


class DatabaseLogin(Model):
    """How the orchestrator itself logs in to the database: with the administrator's password or as an Entra principal.

    `role` is the principal's name as Azure made it a role: a user principal name, a group's or an application's name.
    """

    method: Literal["password", "entra"] = "password"
    role: Name | None = None

    @model_validator(mode="after")
    def _role_of_entra(self) -> DatabaseLogin:
        if self.method == "entra" and self.role is None:
            raise ValueError("role is missing: name the Entra administrator of the server that logs in")
        if self.method == "password" and self.role is not None:
            raise ValueError("role goes with method: entra; the password's role is administratorLogin")
        return self


class Ports(Model):
    """TCP ports of the cluster. A port that is absent is not offered."""

    direct: Annotated[int, Field(ge=1, le=65535)]
    pooled: Annotated[int, Field(ge=1, le=65535)] | None = None
    balanced: Annotated[int, Field(ge=1, le=65535)] | None = None
    balanced_pooled: Annotated[int, Field(ge=1, le=65535)] | None = None


class Endpoint(Model):
    """Where the cluster answers, when that is not Azure's public endpoint: the lab, a tunnel, a private name."""

    host: Annotated[str, Field(min_length=1)]
    ports: Ports
    arm: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = None
    engine: Literal["docker", "native", "embedded"] | None = None
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="verify-full",
        description="verify-full: the server proves its name with a certificate the system trusts.",
    )


class ClusterSpec(Model):
    """One elastic cluster and its services, as one stack file declares them."""

    name: Annotated[ClusterName, Field(description="Server name: 3 to 63 lowercase letters, digits, hyphens.")]
    resource_group: Annotated[str, Field(min_length=1, max_length=90)]
    create_resource_group: bool = Field(default=False, description="`pulumi up` makes it; else it must exist.")
    subscription_id: str | None = Field(default=None, description="Defaults to AZURE_SUBSCRIPTION_ID.")
    location: Annotated[str, Field(min_length=1, examples=["northeurope"])]
    nodes: Annotated[
        int,
        Field(json_schema_extra={"minimum": limit("cluster.nodes").minimum, "maximum": limit("cluster.nodes").maximum}),
    ] = 2
    scaling: Literal["pulumi", "arm"] | None = Field(
        default=None,
        description="Who changes the node count. Default: pulumi where Pulumi's state holds the cluster, else arm.",
    )
    postgres_version: Annotated[str, Field(json_schema_extra={"enum": list(limit("postgres.versions").values)})] = "17"
    compute: Compute = Compute()
    storage: Storage = Storage()
    high_availability: Literal["Disabled", "SameZone", "ZoneRedundant"] = "Disabled"
    backup: Backup = Backup()
    maintenance_window: MaintenanceWindow | None = None
    database: Annotated[Identifier, Field(description="The cluster's only user database; fixed at creation.")] = (
        "postgres"
    )
    authentication: Authentication = Authentication()
    administrator_login: Identifier = "clusteradmin"
    administrator_password: SecretSource = SecretSource(env="ORCHESTRATOR_ADMIN_PASSWORD")
    database_login: DatabaseLogin = DatabaseLogin()
    pgbouncer: PgBouncer = PgBouncer()
    network: Network = Network()
    server_parameters: dict[str, str] = Field(
        default_factory=dict, description="PostgreSQL and Citus server parameters."
    )
    diagnostics: Diagnostics | None = None
    alerts: Alerts | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    endpoint: Endpoint | None = None
    prices: FilePath | None = Field(
        default=None, description="Price file for previews, relative to the stack file; see `orchestrator prices`."
    )
    services: tuple[ServiceSpec, ...] = ()
    service_templates: tuple[ServiceTemplate, ...] = Field(
        default=(), description="Services that are alike but for their names, like tenants: one for every key."
    )

    @field_validator("nodes")
    @classmethod
    def _known_nodes(cls, value: int) -> int:
        return _in_range("cluster.nodes", value, "nodes")

    @field_validator("postgres_version", mode="before")
    @classmethod
    def _version_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("postgres_version")
    @classmethod
    def _known_version(cls, value: str) -> str:
        return _one_of("postgres.versions", value)

    @field_validator("administrator_login")
    @classmethod
    def _free_login(cls, value: str) -> str:
        if value in RESERVED_LOGINS or value.startswith("pg_"):
            raise ValueError(f"{value} is reserved by Azure; choose another name")
        return value

    @field_validator("server_parameters", mode="before")
    @classmethod
    def _parameters_as_text(cls, value: object) -> object:
        """YAML reads `on` as true and `2` as a number; the server's own spelling is text."""
        if not isinstance(value, dict):
            return value
        return {key: _parameter_text(item) for key, item in value.items()}

    @field_validator("server_parameters")
    @classmethod
    def _parameters_of_a_server(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            check_parameter(name, text)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ClusterSpec:
        pooled = limit("pgbouncer.tiers")
        if self.pgbouncer.enabled and self.compute.tier not in pooled.values:
            raise ValueError(
                f"PgBouncer is not available in tier {self.compute.tier} ({pooled.source}, {pooled.as_of}); "
                "set pgbouncer.enabled: false or choose a larger tier"
            )
        self._check_logins()
        geo = geo_redundant_backup_problem(self.location) if self.backup.geo_redundant else None
        if geo is not None:
            raise ValueError(geo)
        check_names(self.services, self.administrator_login)
        return self

    def _check_logins(self) -> None:
        entra, login = self.authentication.entra, self.database_login
        if not self.authentication.password and login.method == "password":
            raise ValueError("databaseLogin: the server takes no passwords; set method: entra and its role")
        names = {administrator.name for administrator in entra.administrators} if entra else set()
        if names and login.method == "entra" and login.role not in names:
            raise ValueError(
                f"databaseLogin.role: {login.role} is no administrator in authentication.entra; "
                f"known: {', '.join(sorted(names))}"
            )


def _parameter_text(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def _one_of(name: str, value: T) -> T:
    known = limit(name)
    if value not in known.values:
        choices = ", ".join(str(item) for item in known.values)
        raise ValueError(f"{value} is not one of {choices} ({known.source}, as of {known.as_of})")
    return value


def _in_range(name: str, value: int, unit: str) -> int:
    known = limit(name)
    if not known.minimum <= value <= known.maximum:
        raise ValueError(
            f"{value} is outside {known.minimum} to {known.maximum} {unit} ({known.source}, as of {known.as_of})"
        )
    return value


def check_names(services: Sequence[ServiceSpec], administrator_login: str) -> None:
    """Raises ValueError where two services would share a name, a role or a schema, or one the administrator's role."""
    _unique("services", [service.name for service in services], "name")
    _unique("services", [service.role_name for service in services], "role")
    _unique("services", [service.schema_name for service in services], "schema")
    for service in services:
        if service.role_name == administrator_login:
            raise ValueError(f"service {service.name} cannot use the administrator's role {administrator_login}")


def _unique(what: str, values: list[str], field: str) -> None:
    doubled = sorted(value for value, count in Counter(values).items() if count > 1)
    if doubled:
        raise ValueError(f"two {what} have the same {field}: {', '.join(doubled)}")
