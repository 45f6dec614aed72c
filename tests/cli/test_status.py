"""What `status` says of services, told from the tables of the shard groups."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.cluster.verbs import status_json
from orchestrator.cli.stack.stackfile import StackFile, parse
from orchestrator.core.observed.state import ShardGroup
from tests.core.observed import MB, cluster

TEXT = """\
config:
  elastic-cluster:name: orders
  elastic-cluster:resourceGroup: rg-orders
  elastic-cluster:location: northeurope
  elastic-cluster:services:
    - {name: user}
    - {name: user_2}
    - {name: a.b}
    - {name: idle}
"""


def test_each_service_has_the_groups_with_tables_of_its_schema_and_no_others() -> None:
    groups = (
        ShardGroup(1, 1, 1, MB, ("user.person", "user.address"), "user"),
        ShardGroup(2, 2, 2, 2 * MB, ("user_2.person",), "user_2"),
        ShardGroup(3, 3, 1, None, ("a.b.item",)),
        ShardGroup(4, 3, 2, 4 * MB, ("a.b.item",)),
    )
    state = cluster((), shard_groups=groups)
    file = StackFile("dev", Path("stacks/Pulumi.dev.yaml"), TEXT, parse(TEXT, "Pulumi.dev.yaml"))
    found = {
        service["name"]: (service["shard_groups"], service["bytes"], service["node_ids"], service["state"])
        for service in status_json(file, state)["services"]
    }
    assert found == {
        "user": (1, MB, [1], "distributed"),
        "user_2": (1, 2 * MB, [2], "distributed"),
        "a.b": (2, None, [1, 2], "distributed"),
        "idle": (0, 0, [], "no distributed tables"),
    }
