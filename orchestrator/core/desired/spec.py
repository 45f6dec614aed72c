"""Desired state: what one stack file says about a cluster and its services.

The Pulumi program and the orchestrator read the same keys through these types. Keys live under `config:` in the
stack file as `elastic-cluster:<key>`; see `NAMESPACE`. Models are frozen; unknown keys are errors.
Rules of Azure that may change are in `limits.json`, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from orchestrator.core.desired.limits import in_range, limit, one_of
from orchestrator.core.desired.names import check_parameter
from orchestrator.core.desired.services import FilePath, Model, ServiceSpec, ServiceTemplate
from orchestrator.core.desired.spec_access import DatabaseLogin, Endpoint, SecretSource
from orchestrator.core.desired.spec_azure import Alerts, Authentication, Diagnostics, geo_redundant_backup_problem
from orchestrator.core.desired.spec_server import Backup, Compute, MaintenanceWindow, Network, PgBouncer, Storage

NAMESPACE = "elastic-cluster"
RESERVED_LOGINS = frozenset({"azure_superuser", "azure_pg_admin", "admin", "administrator", "root", "guest", "public"})

ClusterName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]


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
    services: Annotated[Sequence[ServiceSpec], AfterValidator(tuple)] = ()
    service_templates: tuple[ServiceTemplate, ...] = Field(
        default=(), description="Services that are alike but for their names, like tenants: one for every key."
    )

    @field_validator("nodes")
    @classmethod
    def _known_nodes(cls, value: int) -> int:
        return in_range("cluster.nodes", value, "nodes")

    @field_validator("postgres_version", mode="before")
    @classmethod
    def _version_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("postgres_version")
    @classmethod
    def _known_version(cls, value: str) -> str:
        return one_of("postgres.versions", value)

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


def check_names(services: Iterable[ServiceSpec], administrator_login: str) -> None:
    """Raises ValueError where two services would share a name, a role or a schema, or one the administrator's role."""
    seen: dict[str, set[str]] = {"name": set(), "role": set(), "schema": set()}
    twice: dict[str, set[str]] = {field: set() for field in seen}
    administrators = []
    for service in services:
        for field, value in (("name", service.name), ("role", service.role_name), ("schema", service.schema_name)):
            (twice if value in seen[field] else seen)[field].add(value)
        if service.role_name == administrator_login:
            administrators.append(service.name)
    for field, values in twice.items():
        if values:
            raise ValueError(f"two services have the same {field}: {', '.join(sorted(values))}")
    if administrators:
        raise ValueError(f"service {administrators[0]} cannot use the administrator's role {administrator_login}")
