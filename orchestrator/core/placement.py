"""Which moves Citus' rebalancer will choose, also for nodes that do not exist yet.

A model of the algorithm of Citus 13.2 in our own words, checked against recorded answers of the real one
(tests/data/rebalance-cases.json). Arithmetic is in single precision, as in Citus: ties and thresholds depend on it.
"""

from __future__ import annotations

import struct
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.core.state import Node, ShardGroup, Strategy

_FLOAT4 = struct.Struct("f")


def _f4(value: float) -> float:
    """The nearest single-precision number."""
    rounded: float = _FLOAT4.unpack(_FLOAT4.pack(value))[0]
    return rounded


@dataclass(frozen=True, slots=True)
class Move:
    """One shard group from one node to another. `bytes` is None when its size is unknown."""

    shard_id: int
    source: int
    target: int
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Moves in Citus' order, and the number of moves it considers and leaves out for bringing too little."""

    moves: tuple[Move, ...]
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Below `lower` a node gives nothing, at `upper` it takes nothing; `improvement` is the least worthwhile gain."""

    lower: float
    upper: float
    improvement: float


@dataclass(slots=True)
class _Node:
    node_id: int
    allowed: bool
    cost: float = 0.0
    # (-cost, shard id): from the most to the least expensive, equal cost by lower shard id.
    groups: list[tuple[float, int]] = field(default_factory=list)

    def take(self, cost: float, shard_id: int) -> None:
        insort(self.groups, (-cost, shard_id))
        self.cost = _f4(self.cost + cost)

    def give(self, cost: float, shard_id: int) -> None:
        self.groups.remove((-cost, shard_id))
        self.cost = _f4(self.cost - cost)


def predict(
    groups: Sequence[ShardGroup], nodes: Sequence[Node], strategy: Strategy, *, drain_only: bool = False
) -> Prediction:
    """The moves that `citus_rebalance_start()` would plan. Unknown sizes count as empty.

    Raises ValueError when a group is on a node that is not among `nodes`.
    """
    moves: list[Move] = []
    ignored = 0
    for pool in _pools(groups, sum(node.should_have_shards for node in nodes)):
        found, left_out = _balance(pool, nodes, strategy, drain_only)
        moves += found
        ignored += left_out
    return Prediction(tuple(moves), ignored)


def _pools(groups: Sequence[ShardGroup], eligible: int) -> list[list[ShardGroup]]:
    """Colocation groups with as many shard groups as nodes or more stand alone and come first; the rest is one pool."""
    by_colocation: dict[int, list[ShardGroup]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.shard_id):
        by_colocation[group.colocation_id].append(group)
    alone = [members for _, members in sorted(by_colocation.items()) if len(members) >= eligible]
    together = [group for members in by_colocation.values() if len(members) < eligible for group in members]
    return alone + ([sorted(together, key=lambda group: group.shard_id)] if together else [])


def _balance(
    pool: Sequence[ShardGroup], nodes: Sequence[Node], strategy: Strategy, drain_only: bool
) -> tuple[list[Move], int]:
    fills = {node.node_id: _Node(node.node_id, node.should_have_shards) for node in nodes}
    sizes = {group.shard_id: group.bytes for group in pool}
    for group in pool:
        if group.node_id not in fills:
            raise ValueError(f"shard group {group.shard_id} is on node {group.node_id}, which is not in the cluster")
        fills[group.node_id].take(_cost(group, strategy), group.shard_id)
    allowed = [fill for fill in fills.values() if fill.allowed]
    if not allowed:
        return [], 0
    steps = list(_drain(fills.values(), allowed))
    ignored = 0
    if not drain_only:
        total = 0.0
        for fill in fills.values():
            total = _f4(total + fill.cost)
        average = _f4(total / len(allowed))
        lower = _f4(_f4(1 - _f4(strategy.threshold)) * average)
        upper = _f4(_f4(1 + _f4(strategy.threshold)) * average)
        bounds = _Bounds(lower, upper, _f4(strategy.improvement_threshold))
        step, ignored = _next_move(allowed, bounds)
        while step is not None:
            steps.append(step)
            step, more = _next_move(allowed, bounds)
            ignored += more
    return [Move(shard_id, source, target, sizes[shard_id]) for shard_id, source, target in steps], ignored


def _cost(group: ShardGroup, strategy: Strategy) -> float:
    return _f4(_f4(group.bytes or 0) + _f4(strategy.base_cost)) if strategy.by_size else 1.0


def _drain(fills: Iterable[_Node], allowed: Sequence[_Node]) -> Iterable[tuple[int, int, int]]:
    """Groups on nodes that may not hold shards leave first, the most expensive first, each to the emptiest node."""
    stranded = sorted((*group, fill.node_id) for fill in fills if not fill.allowed for group in fill.groups)
    by_id = {fill.node_id: fill for fill in fills}
    for negative_cost, shard_id, node_id in stranded:
        target = min(allowed, key=lambda fill: (fill.cost, fill.node_id))
        by_id[node_id].give(-negative_cost, shard_id)
        target.take(-negative_cost, shard_id)
        yield shard_id, node_id, target.node_id


def _next_move(nodes: Sequence[_Node], bounds: _Bounds) -> tuple[tuple[int, int, int] | None, int]:
    """The next move, and how many were left out on the way to it for bringing too little."""
    ignored = 0
    targets = sorted(nodes, key=lambda fill: (fill.cost, fill.node_id))
    for source in reversed(targets):
        if source.cost <= bounds.lower:
            break
        for target in targets:
            if target.cost >= bounds.upper or (target.cost >= bounds.lower and source.cost <= bounds.upper):
                break
            for negative_cost, shard_id in source.groups:
                verdict = _worth(source.cost, target.cost, -negative_cost, bounds.improvement)
                if verdict is None:
                    ignored += 1
                elif verdict:
                    source.give(-negative_cost, shard_id)
                    target.take(-negative_cost, shard_id)
                    return (shard_id, source.node_id, target.node_id), ignored
    return None, ignored


def _worth(source: float, target: float, cost: float, improvement_threshold: float) -> bool | None:
    """True: take the move. False: it would not help. None: it helps too little and Citus says "Ignoring move"."""
    source_after, target_after = _f4(source - cost), _f4(target + cost)
    if target_after <= source_after:
        return True
    if target_after > source or (target_after == source and source_after <= target):
        return False
    improvement = max(_f4(source - target_after), _f4(source_after - target))
    added = min(_f4(target_after - target), _f4(source - source_after))
    return True if _f4(improvement / added) >= improvement_threshold else None


def after(groups: Sequence[ShardGroup], moves: Sequence[Move]) -> tuple[ShardGroup, ...]:
    """The placement once all moves are done."""
    where = {move.shard_id: move.target for move in moves}
    return tuple(replace(group, node_id=where.get(group.shard_id, group.node_id)) for group in groups)


def with_future_nodes(nodes: Sequence[Node], count: int) -> tuple[Node, ...]:
    """The nodes with those that Azure will add: Citus numbers them onwards from the highest node id."""
    highest_id = max((node.node_id for node in nodes), default=0)
    highest_group = max((node.group_id for node in nodes), default=-1)
    new = range(1, count - len(nodes) + 1)
    return tuple(nodes) + tuple(Node(highest_id + i, highest_group + i, "new", 0, True, True, True) for i in new)
