"""`pulumi up`: read the stack, declare the cluster, export where it answers."""

from pathlib import Path

import pulumi

from infra.cluster import ElasticCluster
from infra.settings import read

settings = read(root=Path(__file__).parent.parent)
cluster = ElasticCluster(settings.spec.name, settings)
pulumi.export("host", cluster.host)
pulumi.export("resourceId", cluster.resource_id)
pulumi.export("connections", cluster.connections)
