"""Which tenant makes which node hot, and what a move would do about it. Pure.

The measure is processor time as citus_stat_tenants counts it, in seconds of this period and the last. It is counted on
the node that holds the tenant's shard, so it moves along with it; what the coordinator of a query spends is in none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.observed.pins import Tenant
from orchestrator.core.observed.state import Node, NodeLoad, ShardGroup, node_loads


@dataclass(frozen=True, slots=True)
class TenantHeat:
    """One tenant on one node: statements and seconds of processor time. `shard_id` is that of its shard group.

    `own` is whether the shard group holds nobody else; `bytes` are those of the group.
    """

    tenant: Tenant
    shard_id: int
    node_id: int
    queries: int
    cpu: float
    own: bool
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of tenants. `tracked` is citus.stat_tenants_track; `seconds` is its period.

    `sessions` are the clients' sessions that were at work on each node in that moment.
    """

    tracked: bool
    seconds: int
    tenants: tuple[TenantHeat, ...] = ()
    sessions: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class NodeHeat:
    """What one node does: seconds of processor time and statements of its tenants, beside what it holds."""

    load: NodeLoad
    cpu: float
    queries: int
    tenants: int

    @property
    def node_id(self) -> int:
        return self.load.node.node_id


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Seconds of processor time per node if the tenant went to `to`, and if its neighbours left its node instead."""

    to: int | None
    moved: Mapping[int, float]
    alone: Mapping[int, float]


def node_heats(
    nodes: Sequence[Node], groups: Sequence[ShardGroup], tenants: Sequence[TenantHeat]
) -> tuple[NodeHeat, ...]:
    found = []
    for load in node_loads(tuple(nodes), tuple(groups)):
        mine = [heat for heat in tenants if heat.node_id == load.node.node_id]
        found.append(NodeHeat(load, sum(heat.cpu for heat in mine), sum(heat.queries for heat in mine), len(mine)))
    return tuple(found)


def hottest(tenants: Sequence[TenantHeat]) -> tuple[TenantHeat, ...]:
    """By processor time, then by statements: both can be nothing in a quiet minute."""
    return tuple(sorted(tenants, key=lambda heat: (-heat.cpu, -heat.queries, heat.tenant.title)))


def emptiest(
    nodes: Sequence[Node], groups: Sequence[ShardGroup], others: Sequence[TenantHeat], at: int, counted: bool
) -> int | None:
    """The node where other tenants use the least processor time; where that is not counted, that with the fewest bytes.

    `groups` are those of the others too. Node `at`, where the tenant is, wins a tie. None where no node may hold data.
    """
    able = [node for node in nodes if node.should_have_shards]
    heats = node_heats(able, [group for group in groups if group.node_id in {node.node_id for node in able}], others)

    def place(heat: NodeHeat) -> tuple[float, bool, int, int, bool, int]:
        # To a tenth of a second: less is noise, and must not decide where gigabytes go.
        held = heat.load.bytes or 0, heat.load.shard_groups
        return round(heat.cpu, 1), counted and heat.node_id != at, *held, heat.node_id != at, heat.node_id

    best = min(heats, key=place, default=None)
    return best.node_id if best is not None else None


def what_if(
    nodes: Sequence[Node],
    groups: Sequence[ShardGroup],
    tenants: Sequence[TenantHeat],
    heat: TenantHeat,
    closed: Collection[int] = (),
) -> WhatIf:
    """`closed` nodes take nobody. A tenant that shares a shard would be split off, so it goes without the others."""
    others = [other for other in tenants if other.tenant != heat.tenant]
    rest = [group for group in groups if not (heat.own and group.shard_id == heat.shard_id)]
    able = [node for node in nodes if node.node_id not in closed]
    to = emptiest(able, rest, others, heat.node_id, counted=True)
    moved = {found.node_id: found.cpu for found in node_heats(nodes, rest, tenants)}
    alone = dict(moved)
    if to is not None and to != heat.node_id:
        moved[heat.node_id] -= heat.cpu
        moved[to] += heat.cpu
    elsewhere = [node.node_id for node in able if node.should_have_shards and node.node_id != heat.node_id]
    for other in hottest([other for other in others if other.node_id == heat.node_id]) if elsewhere else ():
        target = min(elsewhere, key=lambda node_id: (alone[node_id], node_id))
        alone[heat.node_id] -= other.cpu
        alone[target] += other.cpu
    return WhatIf(to if to != heat.node_id else None, moved, alone)
