"""The private way to the cluster: an endpoint in a subnet, and the DNS zone in which the server's name leads there."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import network, privatedns

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.desired.spec_server import PrivateEndpoint

# Source: "Private Link for Azure Database for PostgreSQL": zone and sub-resource of flexible servers.
ZONE = "privatelink.postgres.database.azure.com"
SUB_RESOURCE = "postgresqlServer"


def private_endpoint(
    cluster: pulumi.Resource, spec: ClusterSpec, group: pulumi.Input[str], server_id: pulumi.Input[str]
) -> None:
    wanted = spec.network.private_endpoint
    if wanted is None:
        return
    endpoint = network.PrivateEndpoint(
        "endpoint",
        private_endpoint_name=f"{spec.name}-endpoint",
        resource_group_name=group,
        location=spec.location,
        # A plain mapping: SubnetArgs would add policies of its own to a subnet that is not ours.
        subnet={"id": wanted.subnet_id},
        private_link_service_connections=[
            network.PrivateLinkServiceConnectionArgs(
                name=spec.name, private_link_service_id=server_id, group_ids=[SUB_RESOURCE]
            )
        ],
        tags=spec.tags,
        opts=pulumi.ResourceOptions(parent=cluster),
    )
    zone, link = _zone(cluster, spec, wanted, group)
    network.PrivateDnsZoneGroup(
        "endpoint-dns",
        resource_group_name=group,
        private_endpoint_name=endpoint.name,
        private_dns_zone_group_name="default",
        private_dns_zone_configs=[network.PrivateDnsZoneConfigArgs(name="postgres", private_dns_zone_id=zone)],
        opts=pulumi.ResourceOptions(parent=cluster, depends_on=link),
    )


def _zone(
    cluster: pulumi.Resource, spec: ClusterSpec, wanted: PrivateEndpoint, group: pulumi.Input[str]
) -> tuple[pulumi.Input[str], list[pulumi.Resource]]:
    """ID of the zone, and what has to be there before the endpoint is entered in it."""
    if wanted.private_dns_zone_id is not None:
        return wanted.private_dns_zone_id, []
    zone = privatedns.PrivateZone(
        "dns-zone",
        private_zone_name=ZONE,
        resource_group_name=group,
        location="Global",
        tags=spec.tags,
        opts=pulumi.ResourceOptions(parent=cluster),
    )
    link = privatedns.VirtualNetworkLink(
        "dns-link",
        virtual_network_link_name=spec.name,
        private_zone_name=zone.name,
        resource_group_name=group,
        location="Global",
        registration_enabled=False,
        virtual_network={"id": wanted.subnet_id.rpartition("/subnets/")[0]},
        tags=spec.tags,
        opts=pulumi.ResourceOptions(parent=cluster),
    )
    return zone.id, [link]
