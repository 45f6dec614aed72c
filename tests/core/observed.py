"""Clusters as they are observed, for the tests of previews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.observed.state import ClusterState, Node, ShardGroup, Strategy
from orchestrator.core.observed.timing import RunTiming

MB, GB = 2**20, 2**30
BY_SIZE = Strategy("by_disk_size", True, 100 * MB, 0.1, 0.5, True)
BY_COUNT = Strategy("by_shard_count", False)


def spec(nodes: int = 4, **changes: Any) -> ClusterSpec:
    values = {
        "name": "contoso",
        "resourceGroup": "rg",
        "location": "westus2",
        "nodes": nodes,
        "compute": {"sku": "Standard_D4ds_v5", "tier": "GeneralPurpose"},
        "database": "citus",
    }
    return ClusterSpec.model_validate(values | changes)


def server(nodes: int = 2) -> ServerReading:
    return ServerReading(
        "contoso", "Ready", nodes, "17", "Standard_D4ds_v5", "GeneralPurpose", "westus2", "contoso.postgres.example",
        "clusteradmin", "citus", "Disabled", 128, "/subscriptions/secret-subscription/contoso",
    )  # fmt: skip


def cluster(placed: Sequence[tuple[int, int | None]], nodes: int = 2, **changes: Any) -> ClusterState:
    """`placed` are pairs of node id (from 1) and bytes; each is a tenant of its own."""
    rows = tuple(Node(i + 1, i, "10.7.0.254", 7000 + i, True, True, True) for i in range(nodes))
    groups = tuple(
        ShardGroup(100 + i, i + 1, at, size, (f"tenant{i}.t",), f"tenant{i}") for i, (at, size) in enumerate(placed)
    )
    values = {
        "server": server(nodes),
        "citus_version": "Citus 13.2.2",
        "server_version": 170000,
        "nodes": rows,
        "shard_groups": groups,
        "strategies": (BY_SIZE, BY_COUNT),
    }
    return ClusterState(**values | changes)


def timing(**changes: Any) -> RunTiming:
    values = {
        "transfer_mode": "auto",
        "nodes_before": 2,
        "nodes_after": 4,
        "shard_groups": 10,
        "moves": 5,
        "moved_bytes": 50 * MB,
        "at_once": 4,
        "per_node": 2,
        "resize_seconds": 300.0,
        "join_seconds": 0.2,
        "settings_seconds": 30.0,
        "lead_seconds": 1.0,
        "moves_seconds": 20.0,
        "fixed_seconds": 5.0,
        "seconds_per_byte": None,
        "estimated_seconds": 400.0,
        "seconds": 360.0,
    }
    return RunTiming(**values | changes)
