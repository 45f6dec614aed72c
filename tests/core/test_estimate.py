"""Estimates: the fixed cost of a move, its bytes, what runs at once, and what earlier runs teach."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.core.moves import cost as module
from orchestrator.core.moves.cost import AZURE, LAB, MoveCost, fit, makespan, move_cost
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.outlook.estimate import estimate
from orchestrator.core.planning.placement import Move
from orchestrator.core.planning.plan import Wanted, make_plan
from tests.core.observed import GB, MB, cluster, spec, timing


def moves(*pairs: tuple[int, int], size: int = 0) -> list[Move]:
    return [Move(i, source, target, size) for i, (source, target) in enumerate(pairs)]


def total(state: ClusterState, nodes: int = 4, **wanted: object) -> float:
    plan = make_plan(spec(nodes), state, Wanted(**wanted))  # type: ignore[arg-type]
    return estimate(plan, state, AZURE).seconds


ONE_SECOND = MoveCost(1.0, 0.0)


def test_one_after_the_other_takes_the_sum() -> None:
    assert makespan(moves((1, 3), (2, 4), (1, 4)), ONE_SECOND, (1, 1)) == 3


def test_a_node_takes_part_in_as_many_moves_as_the_setting_per_node_allows() -> None:
    fan_out = moves((1, 3), (1, 4), (1, 5), (1, 6))
    assert makespan(fan_out, ONE_SECOND, (8, 1)) == 4
    assert makespan(fan_out, ONE_SECOND, (8, 2)) == 2
    assert makespan(fan_out, ONE_SECOND, (8, 4)) == 1


def test_a_move_waits_for_those_that_leave_its_target_first() -> None:
    whale = Move(1, 1, 3, 100 * MB)
    onto_its_node, elsewhere = Move(2, 2, 1, 0), Move(3, 2, 4, 0)
    cost = MoveCost(1.0, 1 / MB)
    assert makespan([whale, onto_its_node, elsewhere], cost, (8, 8)) == 102
    assert makespan([onto_its_node, whale, elsewhere], cost, (8, 8)) == 101


def test_a_whale_is_the_least_that_a_rebalance_takes() -> None:
    tenants = [Move(1, 1, 3, 100 * MB), *moves((2, 4), (2, 4))]
    assert makespan(tenants, MoveCost(1.0, 1 / MB), (8, 8)) == 101


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(5, 8), st.integers(0, 50)), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_property_a_schedule_lies_between_its_bounds(
    drawn: list[tuple[int, int, int]], at_once: int, per_node: int
) -> None:
    given_moves = [Move(i, source, target, size * MB) for i, (source, target, size) in enumerate(drawn)]
    cost = MoveCost(1.0, 0.1 / MB)
    lengths = [cost.seconds(move.bytes) for move in given_moves]
    found = makespan(given_moves, cost, (at_once, per_node))
    assert max(lengths) - 1e-6 <= found <= sum(lengths) + 1e-6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCHEDULED", 0)
        assert makespan(given_moves, cost, (at_once, per_node)) <= found + 1e-6


def test_more_bytes_more_nodes_and_a_slower_mode_take_longer() -> None:
    small = cluster([(i % 2 + 1, MB) for i in range(20)])
    large = cluster([(i % 2 + 1, GB) for i in range(20)])
    assert total(small) < total(large)
    assert total(large, transfer_mode="block_writes") < total(large, transfer_mode="auto")
    assert total(large, parallel=1) > total(large, parallel=4)


def test_nothing_to_do_takes_no_time() -> None:
    state = cluster([(i % 2 + 1, MB) for i in range(4)])
    assert total(state, nodes=2) == 0


def test_earlier_runs_of_this_cluster_replace_the_defaults() -> None:
    placed = [(i % 2 + 1, MB) for i in range(20)]
    plan = make_plan(spec(4), cluster(placed), Wanted())
    by_default = estimate(plan, cluster(placed), LAB)
    known = cluster(placed, timings=(timing(resize_seconds=600.0, shard_groups=20, fixed_seconds=20.0),))
    learnt = estimate(plan, known, LAB)
    assert (by_default.runs, learnt.runs) == (0, 1)
    parts = {part.name: part.seconds for part in learnt.parts}
    assert parts["add nodes"] == pytest.approx(600.0)
    assert parts["move shard groups"] > 20.0
    assert learnt.high / learnt.seconds < by_default.high / by_default.seconds


def test_a_run_that_was_far_off_widens_the_band() -> None:
    placed = [(i % 2 + 1, MB) for i in range(20)]
    plan = make_plan(spec(4), cluster(placed), Wanted())
    steady = cluster(placed, timings=(timing(), timing()))
    erratic = cluster(placed, timings=(timing(), timing(seconds=900.0)))
    assert estimate(plan, erratic, AZURE).high > estimate(plan, steady, AZURE).high


def test_fixed_cost_and_throughput_are_found_in_moves_of_different_size() -> None:
    fixed, per_byte = fit([(size * MB, 2.0 + size / 50) for size in (0, 10, 100, 500)], MoveCost(4.0, 1 / (60 * MB)))
    assert fixed == pytest.approx(2.0)
    assert per_byte == pytest.approx(1 / (50 * MB))


def test_small_moves_tell_the_fixed_cost_only() -> None:
    fixed, per_byte = fit([(1000, 3.0), (2000, 5.0), (500, 4.0)], MoveCost(1.0, 1 / (60 * MB)))
    assert fixed == pytest.approx(4.0, abs=0.01)
    assert per_byte is None


def test_equal_large_moves_tell_the_throughput_only() -> None:
    fixed, per_byte = fit([(500 * MB, 12.0)] * 4, MoveCost(2.0, 1 / (60 * MB)))
    assert fixed is None
    assert per_byte == pytest.approx(10 / (500 * MB))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.floats(0, 1e5)), max_size=20))
@example([(0, 5e-324)])
def test_property_nothing_that_is_observed_gives_a_negative_cost(samples: list[tuple[int, float]]) -> None:
    fixed, per_byte = fit(samples, MoveCost(1.0, 1 / (60 * MB)))
    assert fixed is None or fixed >= -1e-6
    assert per_byte is None or per_byte > 0


def test_a_thousand_moves_more_take_longer_across_the_change_of_method() -> None:
    seconds = []
    for count in (900, 1000, 1100, 1200):
        pairs = [(i % 4 + 1, i % 4 + 5) for i in range(count)]
        seconds.append(makespan(moves(*pairs), ONE_SECOND, (8, 2)))
    assert all(earlier < later for earlier, later in pairwise(seconds))


def test_a_timing_without_a_part_says_nothing_about_it() -> None:
    placed = [(i % 2 + 1, MB) for i in range(20)]
    plan = make_plan(spec(4), cluster(placed), Wanted())
    bare = replace(
        timing(), resize_seconds=None, fixed_seconds=None, lead_seconds=None, settings_seconds=None, transfer_mode=""
    )
    with_bare = estimate(plan, cluster(placed, timings=(bare,)), AZURE)
    assert {part.name: part.seconds for part in with_bare.parts}["add nodes"] == pytest.approx(
        AZURE.resize + 2 * AZURE.sync_per_group * 20
    )


def test_on_one_machine_more_moves_at_once_take_longer_each_but_not_in_all() -> None:
    alone, crowded = (move_cost("auto", at_once, (timing(at_once=4),), LAB) for at_once in (4, 8))
    assert alone.fixed < crowded.fixed < 2 * alone.fixed
    assert crowded.per_byte == pytest.approx(2 * alone.per_byte)
    elsewhere = [move_cost("auto", at_once, (timing(at_once=4),), AZURE) for at_once in (4, 8)]
    assert elsewhere[0] == elsewhere[1]
