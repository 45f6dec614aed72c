"""The scale-out that has not happened yet, for one node count or several: moves, worth, time, cost, connections.

It rests on the same plan as the run itself; nothing is decided here a second time. A preview of a snapshot is the
preview of the cluster when it was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.names import region_name
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.desired.spec_server import Compute, PgBouncer, Storage
from orchestrator.core.errors import Refused, ScaleInRefused
from orchestrator.core.moves.cost import Defaults
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.outlook.connections import Budget, Pools, budget
from orchestrator.core.outlook.estimate import Estimate, estimate
from orchestrator.core.outlook.pricing import CostChange, PriceList, Shape, cost_change
from orchestrator.core.outlook.verdict import Verdict, fewest_nodes, group_name, judge
from orchestrator.core.planning.pinning import KNOWN
from orchestrator.core.planning.placement import with_future_nodes
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.core.size import size

GB = 2**30
# Citus refuses a move that would leave less than this share of the target's disk free.
FREE_AFTER_MOVE = 0.10
# How the plan's remark on who makes the moves begins.
WAY = "Moves: "


@dataclass(frozen=True, slots=True)
class Option:
    """One node count. `budget` and `budget_before` are None where the compute size's connections are not known."""

    nodes: int
    plan: Plan
    verdict: Verdict
    estimate: Estimate
    cost: CostChange
    budget: Budget | None
    budget_before: Budget | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The smallest node count whose fullest node stays under the target, or None and why there is none."""

    target_percent: float
    nodes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """`replacements` are declared values that only a new server can have; `refused` says which counts cannot be."""

    strategy: str
    transfer_mode: str
    nodes_now: int
    shard_groups: int
    simulated: bool
    options: tuple[Option, ...]
    refused: tuple[str, ...]
    recommendation: Recommendation | None
    replacements: tuple[str, ...]


def make_preview(
    spec: ClusterSpec,
    state: ClusterState,
    wanted: Wanted,
    counts: Sequence[int],
    prices: PriceList,
    defaults: Defaults,
    target_percent: float | None = None,
    backup_gb: float = 0.0,
) -> Preview:
    """`backup_gb` is what the backups of all nodes take. Raises Refused when none of the node counts is possible."""
    options: list[Option] = []
    refused: list[Refused] = []
    for count in dict.fromkeys(counts):
        try:
            declared = spec.model_copy(update={"nodes": count})
            options.append(_option(declared, state, wanted, prices, defaults, backup_gb))
        except ScaleInRefused as error:
            refused.append(error)
    if not options:
        raise refused[0]
    strategy = state.strategy(wanted.strategy)
    return Preview(
        strategy=strategy.name,
        transfer_mode=wanted.transfer_mode,
        nodes_now=len(state.nodes),
        shard_groups=len(state.shard_groups),
        simulated=state.simulated,
        options=tuple(options),
        refused=tuple(str(error) for error in refused),
        recommendation=None if target_percent is None else recommend(spec, state, wanted, target_percent),
        replacements=replacements(spec, state.server),
    )


def _option(
    spec: ClusterSpec, state: ClusterState, wanted: Wanted, prices: PriceList, defaults: Defaults, backup_gb: float
) -> Option:
    plan = make_plan(spec, state, wanted)
    strategy = state.strategy(wanted.strategy)
    before, now = replace(shape_now(spec, state), backup_gb=backup_gb), len(state.nodes)
    pools = Pools(len(spec.services), spec.pgbouncer.default_pool_size) if _pooled(spec) else None
    connections = [
        budget(nodes, now, spec.compute.sku, spec.compute.tier, spec.server_parameters, pools)
        for nodes in (now, spec.nodes)
    ]
    return Option(
        nodes=spec.nodes,
        plan=plan,
        verdict=judge(plan, state.shard_groups, strategy, state.strategies, spec.administrator_login, state.pins),
        estimate=estimate(plan, state, defaults),
        cost=cost_change(before, replace(shape_wanted(spec), backup_gb=backup_gb), prices),
        budget_before=connections[0],
        budget=connections[1],
        warnings=(*_warnings(spec, state, plan, strategy.name), *_notes(plan)),
    )


def _pooled(spec: ClusterSpec) -> bool:
    return spec.pgbouncer.enabled and bool(spec.services)


def shape_wanted(spec: ClusterSpec) -> Shape:
    standby = spec.high_availability != "Disabled"
    return Shape(
        spec.nodes, spec.compute.sku, region_name(spec.location), spec.storage.size_gb, spec.storage.iops, standby
    )


def shape_now(spec: ClusterSpec, state: ClusterState) -> Shape:
    """As Azure reads; as declared where Azure was not asked. IOPS are not read, so they count as declared."""
    server = state.server
    if server is None:
        declared = shape_wanted(spec)
        return Shape(
            len(state.nodes), declared.sku, declared.location, declared.storage_gb, declared.iops, declared.standby
        )
    standby = server.ha_mode not in {"Disabled", ""}
    return Shape(server.nodes, server.sku, server.location, server.storage_gb, spec.storage.iops, standby)


def _notes(plan: Plan) -> tuple[str, ...]:
    """What the plan remarks; why there are no moves is the verdict's to say, and who moves is no warning."""
    return tuple(note for note in plan.notes if not note.startswith(("No moves available", WAY)))


def way_of(plan: Plan) -> str:
    """Who makes the moves, and why; empty where there is nothing to choose."""
    return next((note for note in plan.notes if note.startswith(WAY)), "")


def _warnings(spec: ClusterSpec, state: ClusterState, plan: Plan, strategy: str) -> list[str]:
    warnings = []
    if state.simulated:
        warnings.append("Placement is simulated: one PostgreSQL server plays all nodes.")
    if strategy not in KNOWN:
        warnings.append(f"Strategy {strategy} is not one of Citus' own: its moves are predicted as if by number.")
    empty = [load for load in plan.after if load.shard_groups == 0 and load.node.should_have_shards]
    if empty and state.shard_groups:
        few = f"there are {len(state.shard_groups)} shard groups" if len(state.shard_groups) < len(plan.after) else ""
        because = few or "too little data to be worth moving by this strategy"
        warnings.append(f"{len(empty)} of {len(plan.after)} nodes stay empty: {because}.")
    capacity = spec.storage.size_gb * GB
    full = [load for load in plan.after if (load.bytes or 0) > capacity * (1 - FREE_AFTER_MOVE)]
    if full:
        nodes = "1 node" if len(full) == 1 else f"{len(full)} nodes"
        warnings.append(
            f"{nodes} would hold more than {1 - FREE_AFTER_MOVE:.0%} of their {spec.storage.size_gb} GB: "
            "Citus refuses moves to a node that has less than 10 % free afterwards."
        )
    largest = max((move for move in plan.moves), key=lambda move: move.bytes or 0, default=None)
    if largest is not None and (largest.bytes or 0) > GB:
        group = next(group for group in state.shard_groups if group.shard_id == largest.shard_id)
        warnings.append(
            f"The largest move is {group_name(group)} with {size(largest.bytes)}; until it is cleaned up "
            "it takes that space on both nodes."
        )
    return warnings


def recommend(spec: ClusterSpec, state: ClusterState, wanted: Wanted, percent: float) -> Recommendation:
    """The smallest number of nodes, from today's on, whose fullest node holds at most `percent` of its storage."""
    maximum = limit("cluster.nodes").maximum
    unknown = sum(group.bytes is None for group in state.shard_groups)
    if unknown:
        return Recommendation(percent, None, f"the size of {unknown} shard groups cannot be read")
    most = spec.storage.size_gb * GB * percent / 100
    of = f"{percent:g} % of {spec.storage.size_gb} GB"
    counts = [(count, with_future_nodes(state.nodes, count)) for count in range(max(2, len(state.nodes)), maximum + 1)]
    found = fewest_nodes(state.shard_groups, counts, state.strategy(wanted.strategy), most, state.pins)
    if found is not None:
        return Recommendation(percent, found[0], f"rebalanced, its fullest node holds {size(found[1])}, within {of}")
    largest = max(state.shard_groups, key=lambda group: group.bytes or 0)
    if (largest.bytes or 0) > most:
        reason = f"{group_name(largest)} alone is {size(largest.bytes)}, more than {of}; choose larger storage"
    else:
        reason = f"also with {maximum} nodes the fullest one holds more than {of}; choose larger storage"
    return Recommendation(percent, None, reason)


def replacements(spec: ClusterSpec, server: ServerReading | None) -> tuple[str, ...]:
    """Declared values that an existing server cannot take on: Azure makes a new, empty one for each of them."""
    if server is None:
        return ()
    pairs = (
        ("name", server.name, spec.name),
        ("location", server.location, region_name(spec.location)),
        ("database", server.database, spec.database),
        ("administratorLogin", server.admin_login, spec.administrator_login),
        ("postgresVersion", server.version, spec.postgres_version),
    )
    return tuple(f"{key}: {was} -> {will}" for key, was, will in pairs if was and was != will)


def spec_of(server: ServerReading) -> ClusterSpec:
    """The server as it is, declared: for a snapshot that comes without a stack file."""
    return ClusterSpec(
        name=server.name,
        resource_group="unknown",
        location=server.location,
        nodes=server.nodes,
        postgres_version=server.version,
        compute=Compute(sku=server.sku, tier=server.tier),
        storage=Storage(size_gb=server.storage_gb),
        high_availability="Disabled" if server.ha_mode in {"Disabled", ""} else "ZoneRedundant",
        database=server.database,
        administrator_login=server.admin_login,
        pgbouncer=PgBouncer(enabled=server.tier != "Burstable"),
    )
