"""Whether a rebalance is worth it, said plainly: by the bytes of the fullest node, before and as predicted.

`by_disk_size` balances bytes plus a base cost for every shard group, so its result can be worse in bytes; what would
help instead is predicted as well, never asserted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from orchestrator.core.observed.pins import Pin
from orchestrator.core.observed.state import Node, NodeLoad, ShardGroup, Strategy, node_loads, skew
from orchestrator.core.planning.placement import after, predict
from orchestrator.core.planning.plan import Plan, explain_no_moves
from orchestrator.core.size import size

Kind: TypeAlias = Literal["improves", "no effect", "worse in bytes", "unknown"]
MB = 2**20
# Less than this share of the fullest node's bytes is not worth calling a difference.
NOTICEABLE = 0.01
# Advice is for differences that are worth another look.
WORTH_ADVICE = 0.05
# Above this number of shard groups alternatives are predicted only where the verdict is not good.
MANY = 20_000


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to rebalance that was predicted: how to get it, and what the fullest node then holds."""

    how: str
    moves: int
    moved_bytes: int
    fullest_bytes: int
    skew: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    reason: str
    fullest_before: int | None
    fullest_after: int | None
    alternative: Alternative | None = None


def judge(
    plan: Plan,
    groups: Sequence[ShardGroup],
    strategy: Strategy,
    strategies: Sequence[Strategy],
    admin: str,
    pins: Sequence[Pin] = (),
) -> Verdict:
    """`admin` is the role that the settings of an alternative are for."""
    before, now = _fullest(plan.before), _fullest(plan.after)
    if before is None or now is None:
        unknown = sum(group.bytes is None for group in groups)
        return Verdict("unknown", f"the size of {unknown} of {len(groups)} shard groups cannot be read", before, now)
    nodes = [load.node for load in plan.after]
    kind, reason = _kind(plan, groups, strategy, nodes, before, now, pins)
    better = None
    if groups and (kind != "improves" or len(groups) <= MANY):
        better = _best(groups, nodes, list(_candidates(strategy, strategies, admin)), min(before, now), pins)
    return Verdict(kind, reason, before, now, better)


def _kind(
    plan: Plan,
    groups: Sequence[ShardGroup],
    strategy: Strategy,
    nodes: Sequence[Node],
    before: int,
    now: int,
    pins: Sequence[Pin],
) -> tuple[Kind, str]:
    if not plan.moves:
        largest = _too_large(groups, nodes, now)
        explained = explain_no_moves(groups, strategy, predict(groups, nodes, strategy, pins=pins), nodes)
        return "no effect", f"{explained} {largest}".strip()
    if before == 0:
        most = max(load.shard_groups for load in plan.before), max(load.shard_groups for load in plan.after)
        if most[1] < most[0]:
            return "improves", f"the fullest node goes from {most[0]} to {most[1]} shard groups; none holds data yet"
        return "no effect", f"no shard group holds data yet, and the fullest node keeps {most[1]} of them"
    change = now / before - 1
    words = f"the fullest node goes from {size(before)} to {size(now)} ({change:+.0%})"
    if change > NOTICEABLE:
        counts = f"counts every shard group as {size(strategy.base_cost)} more than it holds and balances that"
        because = f": {strategy.name} {counts if strategy.by_size else 'does not look at bytes'}"
        return "worse in bytes", words + because
    if change < -NOTICEABLE:
        return "improves", words
    return "no effect", f"the fullest node stays at {size(now)}. {_too_large(groups, nodes, now)}".strip()


def _too_large(groups: Sequence[ShardGroup], nodes: Sequence[Node], fullest: int) -> str:
    """A sentence where one shard group alone is more than a node's fair share: no number of nodes splits it."""
    if not groups or not fullest:
        return ""
    largest = max(groups, key=lambda group: group.bytes or 0)
    fair = sum(group.bytes or 0 for group in groups) / max(1, sum(node.should_have_shards for node in nodes))
    if (largest.bytes or 0) <= fair:
        return ""
    return (
        f"{group_name(largest)} alone is {size(largest.bytes)}, more than a node's fair share of {size(int(fair))}, "
        "and a shard group moves as a whole."
    )


def group_name(group: ShardGroup) -> str:
    return group.schema or (group.tables[0] if group.tables else f"shard group {group.shard_id}")


def _best(
    groups: Sequence[ShardGroup],
    nodes: Sequence[Node],
    candidates: Sequence[tuple[str, Strategy]],
    to_beat: int,
    pins: Sequence[Pin],
) -> Alternative | None:
    """The candidate that leaves the least on the fullest node, where that is clearly less than what is to beat."""
    found: list[Alternative] = []
    for how, candidate in candidates:
        moves = predict(groups, nodes, candidate, pins=pins).moves
        loads = node_loads(tuple(nodes), after(groups, moves))
        moved = sum(move.bytes or 0 for move in moves)
        found.append(Alternative(how, len(moves), moved, _fullest(loads) or 0, skew(loads)))
    best = min(found, key=lambda option: option.fullest_bytes, default=None)
    return best if best is not None and best.fullest_bytes < to_beat * (1 - WORTH_ADVICE) else None


def _candidates(strategy: Strategy, strategies: Sequence[Strategy], admin: str) -> Iterator[tuple[str, Strategy]]:
    """First what needs an option only, then a setting, then a strategy of one's own: of equal ones the first wins."""
    for other in strategies:
        if other.name != strategy.name:
            yield f"--strategy {other.name}", other
    by_size = next((s for s in (strategy, *strategies) if s.by_size), None)
    if by_size is None:
        return
    option = "" if by_size.name == strategy.name else f"--strategy {by_size.name} and "
    setting = f"ALTER ROLE {admin} SET citus.rebalancer_by_disk_size_base_cost = '1MB'"
    if by_size.base_cost > MB:
        yield f"{option}{setting}", replace(by_size, base_cost=MB)
    tight = replace(by_size, threshold=0.02, improvement_threshold=0.1)
    own = "a strategy made with citus_add_rebalance_strategy: threshold 0.02, improvement_threshold 0.1"
    yield own, tight
    if by_size.base_cost > MB:
        yield f"{own}; and {setting}", replace(tight, base_cost=MB)


def fewest_nodes(
    groups: Sequence[ShardGroup],
    counts: Sequence[tuple[int, Sequence[Node]]],
    strategy: Strategy,
    most_bytes: float,
    pins: Sequence[Pin] = (),
) -> tuple[int, int] | None:
    """The first of the node counts whose fullest node stays within `most_bytes`, and the bytes it then holds."""
    total = sum(group.bytes or 0 for group in groups)
    for count, nodes in counts:
        if total > most_bytes * count:
            continue
        moves = predict(groups, nodes, strategy, pins=pins).moves
        fullest = _fullest(node_loads(tuple(nodes), after(groups, moves)))
        if fullest is not None and fullest <= most_bytes:
            return count, fullest
    return None


def _fullest(loads: Sequence[NodeLoad]) -> int | None:
    sizes = [load.bytes for load in loads]
    known = [number for number in sizes if number is not None]
    return max(known, default=0) if len(known) == len(sizes) else None
