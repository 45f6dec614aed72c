"""`pulumi up`: read the stack, refuse what cannot be, declare the cluster, export where it answers."""

from pathlib import Path

import pulumi

from infra.cluster import ElasticCluster
from infra.existing import refuse_impossible
from infra.settings import read

settings = read(root=Path(__file__).parent.parent)
refuse_impossible(settings.spec)
cluster = ElasticCluster("cluster", settings)
pulumi.export("host", cluster.host)
pulumi.export("resourceId", cluster.resource_id)
pulumi.export("connections", cluster.connections)
