"""What preflight says of the balance that can be reached: pure, from sizes and the predicted moves.

`by_disk_size` counts every shard group as its bytes plus a base cost, 100 MB by default, and a group moves as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from orchestrator.core.checks.preflight import Facts, Finding
from orchestrator.core.observed.state import ShardGroup, Strategy, node_loads
from orchestrator.core.planning.placement import after, predict
from orchestrator.core.size import size


def balance_findings(facts: Facts) -> Iterator[Finding]:
    """A group that is larger than a node's share, or a base cost that hides the bytes of all the others."""
    state = facts.state
    strategy = next((one for one in state.strategies if one.is_default and one.by_size), None)
    sizes = [group.bytes for group in state.shard_groups if group.bytes is not None]
    open_nodes = sum(node.should_have_shards for node in state.nodes)
    if strategy is None or open_nodes < 2 or not sizes or len(sizes) < len(state.shard_groups):
        return
    share = sum(sizes) / open_nodes
    largest = max(state.shard_groups, key=lambda group: group.bytes or 0)
    if (largest.bytes or 0) > max(share, strategy.base_cost):
        yield _outlier(largest, share, median(sizes))
    elif median(sizes) < strategy.base_cost:
        yield from _hidden_bytes(facts, strategy, share, median(sizes))


def _outlier(largest: ShardGroup, share: float, middle: float) -> Finding:
    name = largest.schema or next(iter(largest.tables), f"shard group {largest.shard_id}")
    return Finding(
        "outlier", "warns", f"{name} ({size(largest.bytes)}; the median shard group has {size(int(middle))})",
        f"it is more than a node's share of {size(int(share))} and moves as a whole: its node stays the fullest, "
        "whatever is moved and however many nodes are added",
        "shard its tables by row, or split it into several schemas; --strategy by_shard_count evens out the number of "
        "the others",
    )  # fmt: skip


def _hidden_bytes(facts: Facts, strategy: Strategy, share: float, middle: float) -> Iterator[Finding]:
    """Only where it matters: predicted moves leave a node above the average by more than base cost and threshold."""
    state = facts.state
    moves = predict(state.shard_groups, state.nodes, strategy, pins=state.pins).moves
    fullest = max(load.bytes or 0 for load in node_loads(state.nodes, after(state.shard_groups, moves)))
    if fullest - share <= max(strategy.base_cost, share * strategy.threshold):
        return
    yield Finding(
        "base cost", "informs", f"the median of {len(state.shard_groups)} shard groups ({size(int(middle))})",
        f"{strategy.name} counts each group as {size(strategy.base_cost)} more than it has, so it evens out their "
        f"number and not their bytes: after a rebalance the fullest node holds {size(fullest)}, and the average is "
        f"{size(int(share))}",
        "ALTER ROLE the administrator SET citus.rebalancer_by_disk_size_base_cost = '1MB'; `orchestrator preview` "
        "predicts what that does",
    )  # fmt: skip
