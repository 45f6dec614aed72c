"""Rebalancing around tenants that stay: what is promised of every plan, and what people are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.moves.runs import RecordedMove, UndoOf
from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.observed.state import Node, ShardGroup, Strategy, node_loads
from orchestrator.core.outlook.preview import make_preview
from orchestrator.core.planning.pinning import PinsForbid
from orchestrator.core.planning.placement import after, predict, with_future_nodes
from orchestrator.core.planning.plan import Wanted, make_plan
from orchestrator.core.planning.steps import MoveShards, RebalanceShards
from tests.core.observed import BY_COUNT, BY_SIZE, MB, cluster, spec
from tests.core.test_placement import group, node

# Nodes now, nodes later, sizes and places of the groups, and for some of them the node that they are pinned to.
CLUSTERS = st.tuples(
    st.integers(2, 6),
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 5)), max_size=40),
    st.dictionaries(st.integers(0, 39), st.tuples(st.integers(0, 11), st.booleans()), max_size=8),
)
Drawn = tuple[int, int, list[tuple[int, int]], dict[int, tuple[int, bool]]]


def drawn(made: Drawn) -> tuple[list[ShardGroup], tuple[Node, ...], tuple[Pin, ...]]:
    before, more, sizes, wished = made
    groups = [group(100 + i, where % before + 1, size) for i, (size, where) in enumerate(sizes)]
    nodes = with_future_nodes([node(i + 1) for i in range(before)], before + more)
    pins = tuple(
        Pin(Tenant(f"s{100 + i}"), at % len(nodes) + 1, alone, 100 + i)
        for i, (at, alone) in wished.items()
        if i < len(sizes)
    )
    return groups, nodes, pins


@settings(max_examples=200, deadline=None)
@given(CLUSTERS, st.sampled_from([BY_SIZE, BY_COUNT]))
def test_property_pinned_groups_end_on_their_nodes_and_never_move_again(made: Drawn, strategy: Strategy) -> None:
    groups, nodes, pins = drawn(made)
    moves = predict(groups, nodes, strategy, pins=pins).moves
    placed = {item.shard_id: item.node_id for item in after(groups, moves)}
    assert all(placed[pin.shard_id] == pin.node_id for pin in pins if pin.shard_id)
    home = {pin.shard_id for pin in pins}
    at_home = {
        item.shard_id for item in groups if (item.shard_id, item.node_id) in {(p.shard_id, p.node_id) for p in pins}
    }
    assert not at_home & {move.shard_id for move in moves}
    assert all(sum(move.shard_id == shard_id for move in moves) <= 1 for shard_id in home)


@settings(max_examples=200, deadline=None)
@given(CLUSTERS, st.sampled_from([BY_SIZE, BY_COUNT]))
def test_property_planning_again_after_the_moves_finds_none(made: Drawn, strategy: Strategy) -> None:
    groups, nodes, pins = drawn(made)
    placed = after(groups, predict(groups, nodes, strategy, pins=pins).moves)
    assert predict(placed, nodes, strategy, pins=pins).moves == ()


@settings(max_examples=200, deadline=None)
@given(CLUSTERS, st.sampled_from([BY_SIZE, BY_COUNT]))
def test_property_pins_that_hold_nothing_change_nothing(made: Drawn, strategy: Strategy) -> None:
    """Of tenants that are gone, that share their shard, or that were pinned to a node that is gone."""
    groups, nodes, pins = drawn(made)
    lost = [replace(pin, shard_id=None) for pin in pins]
    lost += [replace(pin, node_id=99) for pin in pins] + [Pin(Tenant("gone"), 1, True, 9999)]
    assert predict(groups, nodes, strategy, pins=lost) == predict(groups, nodes, strategy)


@settings(max_examples=200, deadline=None)
@given(CLUSTERS)
def test_property_others_are_as_even_by_number_as_pins_allow(made: Drawn) -> None:
    """No group that may move is on a node that holds two more than another node which may take it."""
    groups, nodes, pins = drawn(made)
    placed = after(groups, predict(groups, nodes, BY_COUNT, pins=pins).moves)
    closed = {pin.node_id for pin in pins if pin.alone}
    if len(closed) == len(nodes):
        closed = set()
    pinned = {pin.shard_id for pin in pins}
    loads = {
        load.node.node_id: load.shard_groups for load in node_loads(nodes, placed) if load.node.node_id not in closed
    }
    for item in placed:
        if item.shard_id not in pinned:
            assert item.node_id in loads, "on a node that a tenant has for itself"
            assert loads[item.node_id] - min(loads.values()) <= 1


@settings(max_examples=200, deadline=None)
@given(CLUSTERS)
def test_property_no_node_gets_fuller_than_the_fullest_was_or_than_its_pins_make_it(made: Drawn) -> None:
    """By bytes with the base cost, where nobody is alone: the moves of the others never make it worse."""
    groups, nodes, pins = drawn(made)
    pins = tuple(replace(pin, alone=False) for pin in pins)
    home = {pin.shard_id: pin.node_id for pin in pins}
    start = tuple(replace(item, node_id=home.get(item.shard_id, item.node_id)) for item in groups)
    placed = after(groups, predict(groups, nodes, BY_SIZE, pins=pins).moves)
    assert max(costs(placed, nodes).values()) <= max(costs(start, nodes).values()) * 1.00001


def costs(groups: tuple[ShardGroup, ...], nodes: tuple[Node, ...]) -> dict[int, int]:
    found = {item.node_id: 0 for item in nodes}
    for item in groups:
        found[item.node_id] += (item.bytes or 0) + 100 * MB
    return found


def test_a_pinned_giant_does_not_keep_the_others_from_being_spread() -> None:
    """It is far above the average, so all the others are below it: still they are evened out among themselves."""
    groups = [group(1, 1, 10_000 * MB)] + [group(10 + i, 2, MB) for i in range(6)]
    moves = predict(groups, [node(1), node(2), node(3)], BY_SIZE, pins=[Pin(Tenant("s1"), 1, False, 1)]).moves
    placed = after(groups, moves)
    assert [load.shard_groups for load in node_loads((node(1), node(2), node(3)), placed)] == [1, 3, 3]


def test_a_node_that_a_tenant_has_for_itself_is_emptied_of_the_others() -> None:
    groups = [group(1, 1, MB), *(group(10 + i, 1 + i % 3, MB) for i in range(6))]
    nodes = (node(1), node(2), node(3))
    placed = after(groups, predict(groups, nodes, BY_SIZE, pins=[Pin(Tenant("s1"), 1, True, 1)]).moves)
    assert [load.shard_groups for load in node_loads(nodes, placed)] == [1, 3, 3]


PINNED = Pin(Tenant("tenant0"), 1, shard_id=100)


def test_a_rebalance_with_pins_is_made_directly_and_says_why() -> None:
    state = cluster([(1, MB)] * 8, pins=(PINNED,))
    plan = make_plan(spec(2), state, Wanted(False, False, True, moves="auto"))
    assert any(isinstance(step, MoveShards) for step in plan.steps)
    assert 100 not in {move.shard_id for move in plan.moves}
    assert "Moves: direct, because 1 tenant is pinned, which Citus' own job does not know." in plan.notes
    assert "tenant0 is pinned and stays on its node (`orchestrator tenants`)." in plan.notes


def test_a_scale_out_leaves_pinned_tenants_where_they_are() -> None:
    """Without the pin Citus would take just this one: of equal groups the lowest shard id goes first."""
    state = cluster([(1, MB)] * 4, nodes=1)
    wanted = Wanted(True, False, True, moves="auto")
    assert 100 in {move.shard_id for move in make_plan(spec(2), state, wanted).moves}
    moved = {move.shard_id for move in make_plan(spec(2), replace(state, pins=(PINNED,)), wanted).moves}
    assert len(moved) == 2
    assert 100 not in moved


def test_citus_own_job_is_refused_because_it_would_move_what_is_pinned() -> None:
    state = cluster([(1, MB)] * 8, pins=(PINNED,))
    with pytest.raises(PinsForbid, match="tenant0 is pinned: Citus' own job does not know that") as refused:
        make_plan(spec(2), state, Wanted(False, False, True, moves="job"))
    assert "Leave out --moves job, or let go with `orchestrator isolate TENANT --release`." in str(refused.value)
    plan = make_plan(spec(2), replace(state, pins=()), Wanted(False, False, True, moves="job"))
    assert any(isinstance(step, RebalanceShards) for step in plan.steps)


def test_a_strategy_that_is_not_citus_own_cannot_be_planned_around_pins() -> None:
    own = Strategy("ours", False, 0, 0.1, 0.5)
    state = cluster([(1, MB)] * 8, pins=(PINNED,), strategies=(BY_SIZE, own))
    with pytest.raises(PinsForbid, match="strategy ours"):
        make_plan(spec(2), state, Wanted(False, False, True, strategy="ours", moves="auto"))


def test_a_pin_that_holds_nothing_is_told() -> None:
    state = cluster([(1, MB)] * 4, pins=(Pin(Tenant("42", "app.events", 7), 2),))
    plan = make_plan(spec(2), state, Wanted(False, False, True, moves="auto"))
    assert any(note.startswith("42 of app.events: the pin holds nothing") for note in plan.notes)


def test_an_undo_does_not_take_a_pinned_tenant_from_its_node() -> None:
    state = cluster([(1, MB), (1, MB)], pins=(PINNED,))
    moved = (RecordedMove(100, 2, 1, "tenant0"), RecordedMove(101, 2, 1, "tenant1"))
    plan = make_plan(spec(2), state, Wanted(False, False, True, undo=UndoOf(4, moved)))
    assert [(move.shard_id, move.target) for move in plan.moves] == [(101, 2)]
    assert "tenant0 is pinned and stays on its node (`orchestrator tenants`)." in plan.notes


def test_what_a_preview_would_do_better_respects_pins_too() -> None:
    from orchestrator.core.moves.cost import AZURE
    from orchestrator.core.outlook.pricing import PriceList

    giant = Pin(Tenant("tenant0"), 1, shard_id=100)
    state = cluster([(1, 4000 * MB), (1, MB), (2, MB)], pins=(giant,))
    preview = make_preview(
        spec(2),
        state,
        Wanted(True, False, True, moves="auto"),
        [2, 4],
        PriceList(1, "USD", {}),
        AZURE,
    )
    assert all(100 not in {move.shard_id for move in option.plan.moves} for option in preview.options)
    assert all(option.verdict.fullest_after == 4000 * MB for option in preview.options)
