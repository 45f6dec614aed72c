"""Where Azure and the database differ from the stack file: pure, and told object by object with what mends it.

What the stack file does not name is nobody's business here, with two exceptions, because they open doors: firewall
rules, and grants on a service's schema. Where the data lies is no drift: that is what `plan` and `preview` are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.desired.names import region_name
from orchestrator.core.desired.parameters import declared_parameters
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.observed.server import FirewallRuleReading, Parameter, ServerReading
from orchestrator.core.observed.state import ClusterState, Role, Schema, ServicesState, Table
from orchestrator.core.planning.plan_services import Migrations, finds_schema, pending

APPLY = "orchestrator apply"
PULUMI = "pulumi up"
SCALE_OUT = "orchestrator scale-out"
_ON = frozenset({"on", "true", "yes", "1"})
_OFF = frozenset({"off", "false", "no", "0"})


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. `mend` is the command or statement that brings the cluster back to the stack file."""

    object: str
    declared: str
    found: str
    mend: str


@dataclass(frozen=True, slots=True)
class AzureReading:
    """What only Azure knows beside the server: the declared parameters, and every firewall rule."""

    parameters: Mapping[str, Parameter]
    firewall_rules: Sequence[FirewallRuleReading]


def find_drift(spec: ClusterSpec, state: ClusterState, azure: AzureReading | None) -> tuple[Drift, ...]:
    """Every difference but those of services, Azure's first; empty when both sides are as declared."""
    found: list[Drift] = []
    if state.server is not None:
        found += _server(spec, state.server)
    found += _nodes(spec, state)
    if azure is not None:
        found += _parameters(spec, azure.parameters, state.kept_settings)
        found += _firewall(spec, azure.firewall_rules)
    return tuple(found)


def service_drift(services: Sequence[ServiceSpec], migrations: Migrations, state: ServicesState) -> Iterator[Drift]:
    for service in services:
        yield from _service(service, migrations, state)


def _server(spec: ClusterSpec, server: ServerReading) -> Iterator[Drift]:
    pairs = (
        ("compute.sku", spec.compute.sku, server.sku),
        ("compute.tier", spec.compute.tier, server.tier),
        ("storage.sizeGb", str(spec.storage.size_gb), str(server.storage_gb)),
        ("highAvailability", spec.high_availability, server.ha_mode or "Disabled"),
        ("backup.retentionDays", str(spec.backup.retention_days), _text(server.backup_days)),
        ("network.publicAccess", _switch(spec.network.public_access), _switch(server.public_access)),
    )
    for key, declared, found in pairs:
        if found and found.lower() != declared.lower():
            yield Drift(f"server {server.name}: {key}", declared, found, PULUMI)
    fixed = (
        ("location", region_name(spec.location), server.location),
        ("database", spec.database, server.database),
        ("postgresVersion", spec.postgres_version, server.version),
        ("administratorLogin", spec.administrator_login if spec.authentication.password else "", server.admin_login),
    )
    for key, declared, found in fixed:
        if declared and found and declared != found:
            yield Drift(f"server {server.name}: {key}", declared, found, f"fixed at creation: write {found} there")
    if server.nodes != spec.nodes:
        yield Drift(f"server {server.name}: nodes", str(spec.nodes), str(server.nodes), _mend_nodes(spec, server.nodes))


def _mend_nodes(spec: ClusterSpec, have: int) -> str:
    return SCALE_OUT if have < spec.nodes else f"a cluster cannot lose nodes: write nodes: {have} in the stack file"


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _switch(value: bool | None) -> str:
    return "" if value is None else "on" if value else "off"


def _nodes(spec: ClusterSpec, state: ClusterState) -> Iterator[Drift]:
    if state.server is None and len(state.nodes) != spec.nodes:
        yield Drift("cluster: nodes", str(spec.nodes), str(len(state.nodes)), _mend_nodes(spec, len(state.nodes)))
    for node in state.nodes:
        name, place = f"node {node.node_id} ({node.host}:{node.port})", f"'{node.host}', {node.port}"
        if not node.active:
            yield Drift(name, "active", "not active", f"SELECT citus_activate_node({place})")
        elif not node.metadata_synced:
            yield Drift(name, "has the metadata", "has not", f"SELECT start_metadata_sync_to_node({place})")
        if not node.should_have_shards:
            statement = f"SELECT citus_set_node_property({place}, 'shouldhaveshards', true)"
            yield Drift(name, "may hold shards", "may not", statement)


def _parameters(spec: ClusterSpec, found: Mapping[str, Parameter], kept_settings: Mapping[str, str]) -> Iterator[Drift]:
    for name, declared in declared_parameters(spec).items():
        parameter = found.get(name)
        if parameter is None:
            yield Drift(f"parameter {name}", declared, "not offered by this server", "remove it from the stack file")
        # A run that was cut off has raised it; the next run of the same command puts it back.
        elif name in kept_settings and not _same(parameter.value, declared):
            yield Drift(f"parameter {name}", declared, f"{parameter.value}, raised for a rebalance", "run it again")
        elif not _same(parameter.value, declared):
            yield Drift(f"parameter {name}", declared, parameter.value or "nothing", PULUMI)
        elif parameter.pending_restart:
            yield Drift(f"parameter {name}", declared, "set, but the server was not restarted", "restart the server")


def _same(one: str, other: str) -> bool:
    """`on` and `true` are one value to PostgreSQL, and Azure answers whichever it was given."""
    left, right = one.strip().lower(), other.strip().lower()
    return left == right or any(left in words and right in words for words in (_ON, _OFF))


def _firewall(spec: ClusterSpec, rules: Sequence[FirewallRuleReading]) -> Iterator[Drift]:
    declared = {rule.name.lower(): rule for rule in spec.network.firewall_rules}
    found = {rule.name.lower(): rule for rule in rules}
    for key, rule in declared.items():
        wanted, have = f"{rule.start_ip} to {rule.end_ip or rule.start_ip}", found.get(key)
        if have is None:
            yield Drift(f"firewall rule {rule.name}", wanted, "missing", PULUMI)
        elif (have.start_ip, have.end_ip) != (rule.start_ip, rule.end_ip or rule.start_ip):
            yield Drift(f"firewall rule {rule.name}", wanted, f"{have.start_ip} to {have.end_ip}", PULUMI)
    for key, extra in found.items():
        if key not in declared:
            opens = f"{extra.start_ip} to {extra.end_ip}"
            mend = "delete it on Azure, or declare it in network.firewallRules"
            yield Drift(f"firewall rule {extra.name}", "none", opens, mend)


def _service(service: ServiceSpec, migrations: Migrations, state: ServicesState) -> Iterator[Drift]:
    yield from _role(service, state.roles.get(service.role_name))
    schema = state.schemas.get(service.schema_name)
    if schema is None:
        yield Drift(f"schema {service.schema_name}", f"owned by {service.role_name}", "missing", APPLY)
    else:
        yield from _schema(service, schema)
        yield from _grants(service, schema)
    for migration in pending(service, migrations, state):
        yield Drift(f"migration {migration.name} of {service.name}", "ran", "did not run", APPLY)
    texts = {migration.name: migration.sha256 for migration in migrations.get(service.name, ())}
    for applied in state.migrations.get(service.name, ()):
        if texts.get(applied.name, applied.sha256) != applied.sha256:
            mend = "put the text that ran back, and write the change into a new migration"
            yield Drift(f"migration {applied.name} of {service.name}", "as it ran", "changed since", mend)


def _role(service: ServiceSpec, role: Role | None) -> Iterator[Drift]:
    name = f"role {service.role_name}"
    if role is None:
        yield Drift(name, "can log in", "missing", APPLY)
        return
    if not role.can_login:
        yield Drift(name, "can log in", "NOLOGIN", APPLY)
    if role.logs_in is False:
        yield Drift(name, "the password that the stack file names", "another password", APPLY)
    if role.superuser:
        yield Drift(name, "no superuser", "superuser", f'ALTER ROLE "{role.name}" NOSUPERUSER')
    if role.connection_limit != service.connection_limit:
        limits = _limit(service.connection_limit), _limit(role.connection_limit)
        yield Drift(f"{name}: connection limit", *limits, APPLY)
    if not role.admin_is_member:
        yield Drift(name, "the administrator is a member", "it is not", APPLY)
    if not finds_schema(role.search_path, service):
        found = role.search_path or "PostgreSQL's default"
        yield Drift(f"{name}: search_path", f"begins with {service.schema_name}", found, APPLY)


def _limit(connections: int) -> str:
    return "none" if connections < 0 else str(connections)


def _schema(service: ServiceSpec, schema: Schema) -> Iterator[Drift]:
    name = f"schema {schema.name}"
    if schema.owner != service.role_name:
        yield Drift(f"{name}: owner", service.role_name, schema.owner, APPLY)
    quoted = '"' + schema.name + '"'
    if service.sharding == "schema" and schema.colocation_id is None:
        yield Drift(name, "distributed as a schema", "not distributed", APPLY)
    if service.sharding == "row" and schema.colocation_id is not None:
        mend = f"SELECT citus_schema_undistribute('{quoted}')"
        yield Drift(name, "distributed row by row", "distributed as a schema", mend)
    for table in schema.tables.values():
        full = f"table {schema.name}.{table.name}"
        if table.owner != service.role_name:
            yield Drift(f"{full}: owner", service.role_name, table.owner, APPLY)
        if service.sharding == "row" and schema.colocation_id is None:
            yield from _distribution(service, table, full)


def _distribution(service: ServiceSpec, table: Table, full: str) -> Iterator[Drift]:
    column = service.distribution_column or ""
    if table.name in service.reference_tables:
        declared, right = "a reference table", table.kind == "reference"
    elif column in table.columns:
        declared = f"distributed by {column}"
        right = table.kind == "distributed" and table.distribution_column == column
    else:
        return
    if right:
        return
    found = f"distributed by {table.distribution_column}" if table.kind == "distributed" else f"a {table.kind} table"
    place = f'\'"{service.schema_name}"."{table.name}"\''
    yield Drift(
        full, declared, found, APPLY if table.kind == "local" else f"SELECT undistribute_table({place}), {APPLY}"
    )


def _grants(service: ServiceSpec, schema: Schema) -> Iterator[Drift]:
    wanted: dict[str, set[str]] = {}
    for grant in service.grants:
        if grant.role != service.role_name:
            wanted.setdefault(grant.role, set()).update(grant.privileges)
    held = {f"tables that {schema.name} will have": schema.default_grants}
    held |= {f"table {schema.name}.{table.name}": table.grants for table in schema.tables.values()}
    for role in sorted(wanted):
        if role not in schema.usage:
            yield Drift(f"schema {schema.name}: {role}", "USAGE", "no right", APPLY)
    for role in sorted(schema.usage - set(wanted) - {service.role_name, schema.owner}):
        yield Drift(f"schema {schema.name}: {role}", "no right", "USAGE", f"REVOKE, or declare it in {service.name}")
    for place, grants in held.items():
        # The owner has every right, whoever that is now.
        roles = set(wanted) | set(grants) - {service.role_name, schema.owner}
        for role in sorted(roles):
            yield from _rights(service, f"{place}: {role}", wanted.get(role, set()), grants.get(role, frozenset()))


def _rights(service: ServiceSpec, place: str, wanted: set[str], held: frozenset[str]) -> Iterator[Drift]:
    if not wanted <= held:
        yield Drift(place, ", ".join(sorted(wanted)), ", ".join(sorted(held)) or "no right", APPLY)
    elif held - wanted:
        declared = ", ".join(sorted(wanted)) or "no right"
        yield Drift(place, declared, ", ".join(sorted(held)), f"REVOKE, or declare it in grants of {service.name}")
