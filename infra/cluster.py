"""One elastic cluster: the server, its parameters one after the other, and the way to reach it."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import dbforpostgresql as postgresql
from pulumi_azure_native import network

from infra.settings import Settings
from orchestrator.core.limits import standard_ports
from orchestrator.core.spec import ClusterSpec

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# What Azure fills in, or changes itself after a failover. Wire names: the SDK passes nested paths on as they are.
AZURES_OWN = ["availabilityZone", "highAvailability.standbyAvailabilityZone", "storage.type", "storage.tier"]


class ElasticCluster(pulumi.ComponentResource):
    """`host` and `resource_id` are outputs, `connections` the settings for each port, without the password."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("elastic-cluster:index:ElasticCluster", name, None, opts)
        spec = settings.spec
        self.server = _server(self, spec, settings.password)
        last: pulumi.Resource = self.server
        for rule in spec.network.firewall_rules:
            last = postgresql.FirewallRule(
                f"{name}-{rule.name}",
                resource_group_name=spec.resource_group,
                server_name=self.server.name,
                firewall_rule_name=rule.name,
                start_ip_address=rule.start_ip,
                end_ip_address=rule.end_ip or rule.start_ip,
                opts=self._child(last),
            )
        for parameter, value in parameters(spec).items():
            last = postgresql.Configuration(
                f"{name}-{parameter}",
                resource_group_name=spec.resource_group,
                server_name=self.server.name,
                configuration_name=parameter,
                value=value,
                source="user-override",
                opts=self._child(last, retain_on_delete=True),
            )
        if spec.network.private_endpoint is not None:
            _private_endpoint(self, name, spec)
        self.host = self.server.fully_qualified_domain_name
        self.resource_id = self.server.id
        self.connections = self.host.apply(lambda host: connections(spec, host or ""))
        self.register_outputs({"host": self.host, "resourceId": self.resource_id, "connections": self.connections})

    def _child(self, after: pulumi.Resource, *, retain_on_delete: bool = False) -> pulumi.ResourceOptions:
        """One change of the server at a time: Azure answers ServerIsBusy otherwise.

        Deleting a parameter would set it to its default first, on a server that is about to go: it is left alone.
        """
        return pulumi.ResourceOptions(
            parent=self, depends_on=[after], retain_on_delete=retain_on_delete, deleted_with=self.server
        )


def parameters(spec: ClusterSpec) -> dict[str, str]:
    """Server parameters in the order in which they are set: PgBouncer's exist only once it is enabled."""
    if not spec.pgbouncer.enabled:
        return dict(sorted(spec.server_parameters.items()))
    pooler = spec.pgbouncer
    return {
        "pgbouncer.enabled": "true",
        "pgbouncer.pool_mode": pooler.pool_mode,
        "pgbouncer.default_pool_size": str(pooler.default_pool_size),
        "pgbouncer.max_client_conn": str(pooler.max_client_conn),
        "pgbouncer.max_prepared_statements": str(pooler.max_prepared_statements),
        **dict(sorted(spec.server_parameters.items())),
    }


def connections(spec: ClusterSpec, host: str) -> dict[str, dict[str, str | int]]:
    """Connection settings by port, without user and password: every service has its own."""
    ports = standard_ports()
    offered = ["direct", "balanced", *(("pooled", "balanced_pooled") if spec.pgbouncer.enabled else ())]
    return {
        name: {"host": host, "port": ports[name], "dbname": spec.database, "sslmode": "require"} for name in offered
    }


def _server(cluster: ElasticCluster, spec: ClusterSpec, password: pulumi.Output[str]) -> postgresql.Server:
    storage = postgresql.StorageArgs(storage_size_gb=spec.storage.size_gb, auto_grow="Disabled")
    ignored = list(AZURES_OWN)
    if spec.storage.iops is not None:
        storage.iops = spec.storage.iops
    else:
        ignored.append("storage.iops")
    window = spec.maintenance_window
    return postgresql.Server(
        spec.name,
        server_name=spec.name,
        resource_group_name=spec.resource_group,
        location=spec.location,
        version=spec.postgres_version,
        sku=postgresql.SkuArgs(name=spec.compute.sku, tier=spec.compute.tier),
        administrator_login=spec.administrator_login,
        administrator_login_password=password,
        cluster=postgresql.ClusterArgs(cluster_size=spec.nodes, default_database_name=spec.database),
        storage=storage,
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
        opts=pulumi.ResourceOptions(parent=cluster, protect=True, ignore_changes=ignored),
    )


def _private_endpoint(cluster: ElasticCluster, name: str, spec: ClusterSpec) -> None:
    wanted = spec.network.private_endpoint
    if wanted is None:
        return
    endpoint = network.PrivateEndpoint(
        f"{name}-endpoint",
        resource_group_name=spec.resource_group,
        location=spec.location,
        # A plain mapping: SubnetArgs would add policies of its own to a subnet that is not ours.
        subnet={"id": wanted.subnet_id},
        private_link_service_connections=[
            network.PrivateLinkServiceConnectionArgs(
                name=name, private_link_service_id=cluster.server.id, group_ids=["postgresqlServer"]
            )
        ],
        opts=pulumi.ResourceOptions(parent=cluster),
    )
    if wanted.private_dns_zone_id is not None:
        network.PrivateDnsZoneGroup(
            f"{name}-dns",
            resource_group_name=spec.resource_group,
            private_endpoint_name=endpoint.name,
            private_dns_zone_configs=[
                network.PrivateDnsZoneConfigArgs(name="postgres", private_dns_zone_id=wanted.private_dns_zone_id)
            ],
            opts=pulumi.ResourceOptions(parent=endpoint),
        )
