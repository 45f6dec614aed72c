"""Verdicts: improves, no effect and why, worse in bytes and what would help."""

from __future__ import annotations

from orchestrator.core.observed.state import ClusterState
from orchestrator.core.outlook.verdict import Verdict, fewest_nodes, judge
from orchestrator.core.planning.placement import with_future_nodes
from orchestrator.core.planning.plan import Wanted, make_plan
from tests.core.observed import BY_COUNT, BY_SIZE, GB, MB, cluster, spec


def verdict(state: ClusterState, nodes: int, strategy: str | None = None) -> Verdict:
    plan = make_plan(spec(nodes), state, Wanted(strategy=strategy))
    return judge(plan, state.shard_groups, state.strategy(strategy), state.strategies, "clusteradmin")


def test_doubling_the_nodes_of_an_even_cluster_improves_it() -> None:
    found = verdict(cluster([(i % 2 + 1, GB) for i in range(16)]), 4)
    assert found.kind == "improves"
    assert (found.fullest_before, found.fullest_after) == (8 * GB, 4 * GB)
    assert found.alternative is None


def test_balancing_the_base_cost_can_be_worse_in_bytes_and_the_better_way_is_predicted() -> None:
    """Node 2 has the bytes, node 1 the numbers: 100 MB for each group outweighs what they hold."""
    placed = [(1, 1 * MB)] * 12 + [(1, 30 * MB)] * 4 + [(2, 60 * MB)] * 4
    found = verdict(cluster(placed), 2)
    assert found.kind == "worse in bytes"
    assert "counts every shard group as 100 MB more" in found.reason
    assert found.alternative is not None
    assert found.alternative.fullest_bytes < (found.fullest_before or 0)
    assert "clusteradmin" in found.alternative.how


def test_by_number_does_not_look_at_bytes() -> None:
    found = verdict(cluster([(1, 3 * GB)] + [(1, MB)] * 8 + [(2, 5 * GB)] * 2), 2, "by_shard_count")
    assert found.kind == "worse in bytes"
    assert "does not look at bytes" in found.reason


def test_one_giant_shard_group_has_no_effect_and_is_named() -> None:
    found = verdict(cluster([(1, 500 * GB), (2, MB), (2, MB)]), 8)
    assert found.kind == "no effect"
    assert "tenant0 alone is 500 GB" in found.reason
    assert "moves as a whole" in found.reason


def test_the_tutorials_three_services_have_no_effect_because_of_the_threshold() -> None:
    found = verdict(cluster([(1, 32 * 1024), (2, 144 * 1024), (2, 32 * 1024)]), 2)
    assert found.kind == "no effect"
    assert "improvement_threshold" in found.reason


def test_an_even_cluster_has_no_effect_because_of_the_base_cost() -> None:
    found = verdict(cluster([(i % 2 + 1, (i + 1) * 1000) for i in range(10)]), 2)
    assert found.kind == "no effect"
    assert "base_cost" in found.reason


def test_without_data_the_number_of_groups_decides() -> None:
    assert verdict(cluster([(i % 2 + 1, 0) for i in range(16)]), 4).kind == "improves"


def test_an_empty_cluster_has_no_effect() -> None:
    found = verdict(cluster([]), 4)
    assert found.kind == "no effect"
    assert "no distributed schema" in found.reason


def test_unknown_sizes_are_not_judged() -> None:
    found = verdict(cluster([(1, None), (2, MB)]), 4)
    assert found.kind == "unknown"
    assert "1 of 2 shard groups" in found.reason


def test_the_smallest_number_of_nodes_under_a_limit() -> None:
    state = cluster([(i % 2 + 1, GB) for i in range(24)])
    counts = [(count, with_future_nodes(state.nodes, count)) for count in range(2, 21)]
    assert fewest_nodes(state.shard_groups, counts, BY_SIZE, 12 * GB) == (2, 12 * GB)
    found = fewest_nodes(state.shard_groups, counts, BY_SIZE, 4.5 * GB)
    assert found is not None
    count, fullest = found
    assert fullest <= 4.5 * GB
    assert all(24 * GB / fewer > 4.5 * GB or fewer >= count - 1 for fewer in range(2, count))
    assert fewest_nodes(state.shard_groups, counts, BY_COUNT, GB / 2) is None
