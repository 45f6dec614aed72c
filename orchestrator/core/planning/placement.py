"""Which moves Citus' rebalancer will choose, also for nodes that do not exist yet.

A model of the algorithm of Citus 13.2 in our own words, checked against recorded answers of the real one
(tests/data/rebalance-cases.json). Arithmetic is in single precision, as in Citus: ties and thresholds depend on it.

Citus knows no pins. With them the same algorithm balances the rest around what stays: a pinned group counts on its node
and is never taken from it, and a node that a tenant has for itself is emptied of others and given nothing.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.core.observed.pins import Pin
from orchestrator.core.observed.state import Node, ShardGroup, Strategy

_FLOAT4 = struct.Struct("f")
_pack, _unpack = _FLOAT4.pack, _FLOAT4.unpack


def _f4(value: float) -> float:
    """The nearest single-precision number."""
    rounded: float = _unpack(_pack(value))[0]
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


@dataclass(slots=True, eq=False)
class _Node:
    """`cost` is that of all its groups, `pinned` that of those among them which stay; `groups` are the others."""

    node_id: int
    allowed: bool
    cost: float = 0.0
    pinned: float = 0.0
    # (cost, -shard id), ascending: the most expensive is last, of equal cost the one with the lowest shard id.
    groups: list[tuple[float, int]] = field(default_factory=list)

    @property
    def place(self) -> tuple[float, int]:
        """Where the node stands among the others: emptiest first, of equal cost the one with the lowest id."""
        return self.cost, self.node_id

    def take(self, group: tuple[float, int]) -> None:
        insort(self.groups, group)
        self.cost = _f4(self.cost + group[0])

    def give(self, index: int) -> tuple[float, int]:
        group = self.groups.pop(index)
        self.cost = _f4(self.cost - group[0])
        return group


def predict(
    groups: Sequence[ShardGroup],
    nodes: Sequence[Node],
    strategy: Strategy,
    *,
    drain_only: bool = False,
    pins: Sequence[Pin] = (),
) -> Prediction:
    """The moves that `citus_rebalance_start()` would plan. Unknown sizes count as empty.

    With pins first those that bring pinned groups to their nodes, then the plan for the others.
    Raises ValueError when a group is on a node that is not among `nodes`.
    """
    moves = list(homeward(groups, nodes, pins)) if pins else []
    groups = after(groups, moves)
    held = frozenset(held_pins(groups, nodes, pins)) if pins else frozenset()
    nodes = _open(nodes, {pin.node_id for pin in pins if pin.alone and pin.shard_id in held})
    ignored = 0
    for pool in _pools(groups, sum(node.should_have_shards for node in nodes)):
        found, left_out = _balance(pool, nodes, strategy, drain_only, held)
        moves += found
        ignored += left_out
    return Prediction(tuple(moves), ignored)


def held_pins(groups: Sequence[ShardGroup], nodes: Sequence[Node], pins: Sequence[Pin]) -> dict[int, Pin]:
    """By shard id, the pins that can be kept: there is such a group, and the node may hold it."""
    able = {node.node_id for node in nodes if node.should_have_shards}
    there = {group.shard_id for group in groups}
    return {
        pin.shard_id: pin for pin in pins if pin.shard_id is not None and pin.shard_id in there and pin.node_id in able
    }


def homeward(groups: Sequence[ShardGroup], nodes: Sequence[Node], pins: Sequence[Pin]) -> tuple[Move, ...]:
    """The moves that bring pinned groups to their nodes."""
    held = held_pins(groups, nodes, pins)
    return tuple(
        Move(group.shard_id, group.node_id, pin.node_id, group.bytes)
        for group in groups
        if (pin := held.get(group.shard_id)) is not None and pin.node_id != group.node_id
    )


def _open(nodes: Sequence[Node], taken: Collection[int]) -> Sequence[Node]:
    """Nodes that a tenant has for itself take no others; where that would leave none, they all do."""
    if not taken or all(node.node_id in taken for node in nodes if node.should_have_shards):
        return nodes
    return [replace(node, should_have_shards=False) if node.node_id in taken else node for node in nodes]


def _pools(groups: Sequence[ShardGroup], eligible: int) -> list[list[ShardGroup]]:
    """Colocation groups with as many shard groups as nodes or more stand alone and come first; the rest is one pool."""
    by_colocation: dict[int, list[ShardGroup]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.shard_id):
        by_colocation[group.colocation_id].append(group)
    alone = [members for _, members in sorted(by_colocation.items()) if len(members) >= eligible]
    together = [group for members in by_colocation.values() if len(members) < eligible for group in members]
    return alone + ([sorted(together, key=lambda group: group.shard_id)] if together else [])


def _balance(
    pool: Sequence[ShardGroup], nodes: Sequence[Node], strategy: Strategy, drain_only: bool, held: Collection[int]
) -> tuple[list[Move], int]:
    fills = _filled(pool, nodes, strategy, held)
    allowed = [fill for fill in fills.values() if fill.allowed]
    if not allowed:
        return [], 0
    steps = list(_drain(fills.values(), allowed))
    ignored = 0
    if not drain_only:
        average = _average(fills.values(), allowed)
        lower = _f4(_f4(1 - _f4(strategy.threshold)) * average)
        upper = _f4(_f4(1 + _f4(strategy.threshold)) * average)
        bounds = _Bounds(lower, upper, _f4(strategy.improvement_threshold))
        order = sorted(allowed, key=lambda fill: fill.place)
        step, ignored = _next_move(order, bounds)
        while step is not None:
            steps.append(step)
            step, more = _next_move(order, bounds)
            ignored += more
    sizes = {group.shard_id: group.bytes for group in pool}
    return [Move(shard_id, source, target, sizes[shard_id]) for shard_id, source, target in steps], ignored


def _average(fills: Iterable[_Node], allowed: Sequence[_Node]) -> float:
    """What each node should hold. One whose pinned groups alone are more takes no share: nothing can be done there."""
    total = 0.0
    for fill in fills:
        total = _f4(total + fill.cost)
    sharing = len(allowed)
    for fill in sorted(allowed, key=lambda fill: -fill.pinned):
        if sharing == 1 or fill.pinned <= _f4(total / sharing):
            break
        total, sharing = _f4(total - fill.pinned), sharing - 1
    return _f4(total / sharing)


def _filled(
    pool: Sequence[ShardGroup], nodes: Sequence[Node], strategy: Strategy, held: Collection[int]
) -> dict[int, _Node]:
    """The nodes with the groups of this pool, which are summed in the order of their shard ids, as in Citus.

    What is pinned to a node that takes no others is of no account.
    """
    fills = {node.node_id: _Node(node.node_id, node.should_have_shards) for node in nodes}
    for group in pool:
        fill = fills.get(group.node_id)
        if fill is None:
            raise ValueError(f"shard group {group.shard_id} is on node {group.node_id}, which is not in the cluster")
        cost = _cost(group, strategy)
        if group.shard_id not in held:
            fill.groups.append((cost, -group.shard_id))
        elif fill.allowed:
            fill.pinned = _f4(fill.pinned + cost)
        else:
            continue
        fill.cost = _f4(fill.cost + cost)
    for fill in fills.values():
        fill.groups.sort()
    return fills


def _cost(group: ShardGroup, strategy: Strategy) -> float:
    return _f4(_f4(group.bytes or 0) + _f4(strategy.base_cost)) if strategy.by_size else 1.0


def _drain(fills: Iterable[_Node], allowed: Sequence[_Node]) -> Iterable[tuple[int, int, int]]:
    """Groups on nodes that may not hold shards leave first, the most expensive first, each to the emptiest node."""
    by_id = {fill.node_id: fill for fill in fills}
    stranded = sorted(
        (-cost, -negative_id, fill.node_id)
        for fill in by_id.values()
        if not fill.allowed
        for cost, negative_id in fill.groups
    )
    for _, shard_id, node_id in stranded:
        # Each node's own share of this order is its list from the back.
        target = min(allowed, key=lambda fill: fill.place)
        target.take(by_id[node_id].give(-1))
        yield shard_id, node_id, target.node_id


def _next_move(order: list[_Node], bounds: _Bounds) -> tuple[tuple[int, int, int] | None, int]:
    """The next move, and how many were left out on the way to it for bringing too little. Keeps `order` sorted."""
    ignored = 0
    for source in reversed(order):
        if source.cost <= bounds.lower:
            break
        for target in order:
            if target.cost >= bounds.upper or (target.cost >= bounds.lower and source.cost <= bounds.upper):
                break
            index, left_out = _choose(source, target, bounds.improvement)
            ignored += left_out
            if index is not None:
                group = source.give(index)
                target.take(group)
                for node in (source, target):
                    order.remove(node)
                    insort(order, node, key=lambda fill: fill.place)
                return (-group[1], source.node_id, target.node_id), ignored
    return None, ignored


def _choose(source: _Node, target: _Node, improvement: float) -> tuple[int | None, int]:
    """Which of the source's groups Citus takes, and how many more expensive ones it leaves out for bringing too little.

    It walks from the most expensive down to the first worth taking. What is gained only shrinks with the cost of what
    is moved, also when rounded: so the list falls into three runs (take, too little, no help) and their ends can be
    searched for.
    """

    def worth(group: tuple[float, int]) -> int:
        return _worth(source.cost, target.cost, group[0], improvement)

    groups = source.groups
    if groups and worth(groups[-1]) == TAKE:
        return len(groups) - 1, 0
    taken = bisect_left(groups, TOO_LITTLE, key=worth)
    helping = bisect_left(groups, NO_HELP, lo=taken, key=worth)
    return (taken - 1 if taken else None), helping - taken


TAKE, TOO_LITTLE, NO_HELP = 0, 1, 2


def _worth(source: float, target: float, cost: float, improvement_threshold: float) -> int:
    """TAKE, NO_HELP, or TOO_LITTLE where it helps but Citus says "Ignoring move"."""
    source_after, target_after = _f4(source - cost), _f4(target + cost)
    if target_after <= source_after:
        return TAKE
    if target_after > source or (target_after == source and source_after <= target):
        return NO_HELP
    improvement = max(_f4(source - target_after), _f4(source_after - target))
    added = min(_f4(target_after - target), _f4(source - source_after))
    # Nothing is added where the group is lost in the rounding of a node's sum: then any improvement is enough.
    enough = improvement > 0 if added == 0 else _f4(improvement / added) >= improvement_threshold
    return TAKE if enough else TOO_LITTLE


def after(groups: Sequence[ShardGroup], moves: Sequence[Move]) -> tuple[ShardGroup, ...]:
    """The placement once all moves are done."""
    where = {move.shard_id: move.target for move in moves}
    return tuple(
        replace(group, node_id=where[group.shard_id]) if group.shard_id in where else group for group in groups
    )


def with_future_nodes(nodes: Sequence[Node], count: int) -> tuple[Node, ...]:
    """The nodes with those that Azure will add: Citus numbers them onwards from the highest node id."""
    highest_id = max((node.node_id for node in nodes), default=0)
    highest_group = max((node.group_id for node in nodes), default=-1)
    new = range(1, count - len(nodes) + 1)
    return tuple(nodes) + tuple(Node(highest_id + i, highest_group + i, "new", 0, True, True, True) for i in new)
