"""One elastic cluster: the server and all that belongs to it, changed one after the other.

Resources are named after their part, never after the cluster: a renamed cluster is then a replacement, which protect
refuses, and not a second server beside the first.
"""

from __future__ import annotations

import pulumi
from pulumi_azure_native import dbforpostgresql as postgresql

from infra.settings import Settings
from orchestrator.core.desired.limits import standard_ports
from orchestrator.core.desired.parameters import declared_parameters
from orchestrator.core.desired.spec import ClusterSpec

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# What Azure fills in, or changes itself after a failover. Wire names: the SDK passes nested paths on as they are.
AZURES_OWN = ["availabilityZone", "highAvailability.standbyAvailabilityZone", "storage.tier"]


class ElasticCluster(pulumi.ComponentResource):
    """`host` and `resource_id` are outputs, `connections` the settings for each port, without the password."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("elastic-cluster:index:ElasticCluster", name, None, opts)
        spec = settings.spec
        group = _resource_group(self, spec)
        self.server = _server(self, spec, group, settings.password)
        self._one_after_the_other(spec, group)
        if spec.network.private_endpoint is not None:
            from infra.network import private_endpoint

            private_endpoint(self, spec, group, self.server.id)
        if spec.diagnostics is not None or spec.alerts is not None:
            from infra.monitoring import monitor_server

            monitor_server(self, spec, group, self.server.id)
        self.host = self.server.fully_qualified_domain_name
        self.resource_id = self.server.id
        self.connections = self.host.apply(lambda host: connections(spec, host or ""))
        self.register_outputs({"host": self.host, "resourceId": self.resource_id, "connections": self.connections})

    def _one_after_the_other(self, spec: ClusterSpec, group: pulumi.Input[str]) -> None:
        """Azure answers ServerIsBusy to a change of a server that is being changed."""
        last: pulumi.Resource = self.server
        below = {"resource_group_name": group, "server_name": self.server.name}
        for rule in spec.network.firewall_rules:
            last = postgresql.FirewallRule(
                f"firewall-{rule.name}",
                **below,
                firewall_rule_name=rule.name,
                start_ip_address=rule.start_ip,
                end_ip_address=rule.end_ip or rule.start_ip,
                opts=self._after(last),
            )
        for administrator in spec.authentication.entra.administrators if spec.authentication.entra else ():
            last = postgresql.AdministratorsMicrosoftEntra(
                f"entra-{administrator.object_id}",
                **below,
                object_id=administrator.object_id,
                principal_name=administrator.name,
                principal_type=administrator.type,
                tenant_id=spec.authentication.entra.tenant_id if spec.authentication.entra else None,
                opts=self._after(last),
            )
        for parameter, value in declared_parameters(spec).items():
            last = postgresql.Configuration(
                f"parameter-{parameter}",
                **below,
                configuration_name=parameter,
                value=value,
                source="user-override",
                # Deleting a parameter would reset it first, on a server that is about to go: it is left alone.
                opts=self._after(last, retain_on_delete=True),
            )

    def _after(self, last: pulumi.Resource, *, retain_on_delete: bool = False) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self, depends_on=[last], retain_on_delete=retain_on_delete, deleted_with=self.server
        )


def connections(spec: ClusterSpec, host: str) -> dict[str, dict[str, str | int]]:
    """Connection settings by port, without user and password: every service has its own."""
    ports = standard_ports()
    offered = ["direct", "balanced", *(("pooled", "balanced_pooled") if spec.pgbouncer.enabled else ())]
    return {
        name: {"host": host, "port": ports[name], "dbname": spec.database, "sslmode": "verify-full"} for name in offered
    }


def _resource_group(cluster: ElasticCluster, spec: ClusterSpec) -> pulumi.Input[str]:
    """The group's name; as an output where the group is made here, so that the rest waits for it."""
    if not spec.create_resource_group:
        return spec.resource_group
    from pulumi_azure_native import resources

    return resources.ResourceGroup(
        "group",
        resource_group_name=spec.resource_group,
        location=spec.location,
        tags=spec.tags,
        # Deleting a group deletes all that is in it.
        opts=pulumi.ResourceOptions(parent=cluster, protect=True),
    ).name


def _server(
    cluster: ElasticCluster, spec: ClusterSpec, group: pulumi.Input[str], password: pulumi.Output[str] | None
) -> postgresql.Server:
    window = spec.maintenance_window
    return postgresql.Server(
        "server",
        server_name=spec.name,
        resource_group_name=group,
        location=spec.location,
        version=spec.postgres_version,
        sku=postgresql.SkuArgs(name=spec.compute.sku, tier=spec.compute.tier),
        administrator_login=spec.administrator_login if password is not None else None,
        administrator_login_password=password,
        auth_config=_logins(spec),
        cluster=postgresql.ClusterArgs(cluster_size=spec.nodes, default_database_name=spec.database),
        storage=_storage(spec),
        high_availability=postgresql.HighAvailabilityArgs(mode=spec.high_availability),
        backup=postgresql.BackupArgs(
            backup_retention_days=spec.backup.retention_days,
            geo_redundant_backup="Enabled" if spec.backup.geo_redundant else "Disabled",
        ),
        maintenance_window=None
        if window is None
        else postgresql.MaintenanceWindowArgs(
            custom_window="Enabled",
            day_of_week=DAYS.index(window.day_of_week),
            start_hour=window.start_hour,
            start_minute=window.start_minute,
        ),
        network=postgresql.NetworkArgs(public_network_access="Enabled" if spec.network.public_access else "Disabled"),
        tags=spec.tags,
        # protect also refuses every change that would replace the server: location, name, administrator, zone.
        opts=pulumi.ResourceOptions(parent=cluster, protect=True, ignore_changes=_azures_own(spec)),
    )


def _logins(spec: ClusterSpec) -> postgresql.AuthConfigArgs:
    entra = spec.authentication.entra
    return postgresql.AuthConfigArgs(
        password_auth="Enabled" if spec.authentication.password else "Disabled",
        active_directory_auth="Disabled" if entra is None else "Enabled",
        tenant_id=None if entra is None else entra.tenant_id,
    )


def _storage(spec: ClusterSpec) -> postgresql.StorageArgs:
    storage = postgresql.StorageArgs(storage_size_gb=spec.storage.size_gb, auto_grow="Disabled")
    if spec.storage.iops is not None:
        storage.iops = spec.storage.iops
    if spec.storage.type is not None:
        storage.type = spec.storage.type
    return storage


def _azures_own(spec: ClusterSpec) -> list[str]:
    own = list(AZURES_OWN)
    if spec.storage.iops is None:
        own.append("storage.iops")
    if spec.storage.type is None:
        own.append("storage.type")
    if not spec.authentication.password:
        # A server that was made with a login keeps it; leaving it out would read as a change that replaces.
        own += ["administratorLogin", "administratorLoginPassword"]
    return own
