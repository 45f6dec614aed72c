"""Direct moves: which mode, which together, what after a failure; and which of the two ways to move is chosen."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.moves.cost import AZURE, LAB
from orchestrator.core.moves.moving import (
    DirectMove,
    MoveResult,
    Outcome,
    after_failure,
    direct_moves,
    mode_for,
    next_moves,
    next_room,
    write_pause,
)
from orchestrator.core.moves.ways import Moves, choose
from orchestrator.core.observed.state import ShardGroup
from orchestrator.core.planning.placement import Move
from orchestrator.core.planning.plan import Wanted, make_plan
from orchestrator.core.planning.steps import MoveShards, RaiseExecutors, RebalanceShards
from tests.workflow.simulator import Simulator
from tests.workflow.test_apply import spec

KB, MB, GB = 2**10, 2**20, 2**30


def group(shard_id: int, size: int | None, tables: int = 1) -> ShardGroup:
    return ShardGroup(shard_id, shard_id, 1, size, tuple(f"s{shard_id}.t{i}" for i in range(tables)), f"s{shard_id}")


def plan_of(ends: list[tuple[int, int]]) -> list[DirectMove]:
    return [
        DirectMove(number, 100 + number, source, target, MB, "block_writes", f"s{number}", 0.5)
        for number, (source, target) in enumerate(ends)
    ]


pairs = st.tuples(st.integers(1, 6), st.integers(1, 6)).filter(lambda pair: pair[0] != pair[1])


@settings(max_examples=200, deadline=None)
@given(st.lists(pairs, max_size=40), st.integers(1, 8), st.integers(1, 3), st.randoms(use_true_random=False))
def test_property_no_node_takes_part_in_more_moves_than_allowed_and_all_end(
    ends: list[tuple[int, int]], at_once: int, per_node: int, chance: random.Random
) -> None:
    """Moves end in any order; at every moment the limits hold, and nothing is left waiting for ever."""
    waiting, running = plan_of(ends), []
    chance.shuffle(waiting)
    ended: list[DirectMove] = []
    while waiting or running:
        for move in next_moves(waiting, running, at_once, per_node):
            waiting.remove(move)
            running.append(move)
        busy = Counter(node for move in running for node in (move.source, move.target))
        assert len(running) <= at_once
        assert max(busy.values()) <= per_node
        ended.append(running.pop(chance.randrange(len(running))))
    assert sorted(move.number for move in ended) == list(range(len(ends)))


@settings(max_examples=200, deadline=None)
@given(st.lists(pairs, max_size=40), st.integers(1, 8), st.integers(1, 3), st.randoms(use_true_random=False))
def test_property_a_node_gives_before_it_takes(
    ends: list[tuple[int, int]], at_once: int, per_node: int, chance: random.Random
) -> None:
    """A move to a node starts only when every move that is planned earlier and leaves that node has ended."""
    plan = plan_of(ends)
    waiting, running = sorted(plan, key=lambda _: chance.random()), []
    over: set[int] = set()
    while waiting or running:
        for move in next_moves(waiting, running, at_once, per_node):
            assert all(other.number in over for other in plan[: move.number] if other.source == move.target)
            waiting.remove(move)
            running.append(move)
        over.add(running.pop(chance.randrange(len(running))).number)


def test_two_moves_of_one_group_keep_their_order() -> None:
    first, second = plan_of([(1, 2), (2, 3)])
    second = replace(second, shard_id=first.shard_id)
    assert next_moves([second, first], [], 4, 4) == (first,)
    assert next_moves([second], [first], 4, 4) == ()
    assert next_moves([second], [], 4, 4) == (second,)


def test_a_move_that_waits_to_be_tried_again_lets_others_pass() -> None:
    first, second = plan_of([(1, 2), (1, 2)])
    assert next_moves([first, second], [], 1, 1, {first.shard_id}) == (second,)


@pytest.mark.parametrize(
    ("size", "tables", "wished", "mode"),
    [
        (40 * KB, 1, "auto", "block_writes"),
        (GB, 1, "auto", "auto"),
        (40 * KB, 40, "auto", "auto"),
        (None, 1, "auto", "auto"),
        (40 * KB, 1, "force_logical", "force_logical"),
        (GB, 1, "block_writes", "block_writes"),
    ],
)
def test_the_mode_follows_the_wish_and_for_auto_the_expected_pause(
    size: int | None, tables: int, wished: str, mode: str
) -> None:
    assert mode_for(group(1, size, tables), wished, 0.5) == mode  # type: ignore[arg-type]


def test_a_part_of_a_row_sharded_table_is_not_copied_blocked_by_itself() -> None:
    """Its lock would hold the whole table."""
    part = replace(group(1, 40 * KB), schema=None)
    assert mode_for(part, "auto", 0.5) == "auto"


@given(st.integers(0, 10 * GB), st.integers(1, 100), st.floats(0.05, 20))
def test_property_no_group_is_copied_blocked_when_writes_would_wait_too_long(
    size: int, tables: int, max_pause: float
) -> None:
    if mode_for(group(1, size, tables), "auto", max_pause) == "block_writes":
        assert (write_pause(size, tables) or 0) <= max_pause


def test_large_groups_start_first_and_who_asks_for_block_writes_gets_no_ceiling() -> None:
    moves = [Move(101, 1, 2), Move(102, 1, 3), Move(103, 1, 2)]
    groups = [group(101, 40 * KB), group(102, GB), group(103, MB)]
    made = direct_moves(moves, groups, "auto", 0.5)
    assert [(move.shard_id, move.mode, move.number) for move in made] == [
        (102, "auto", 1),
        (103, "block_writes", 2),
        (101, "block_writes", 0),
    ]
    assert {move.max_pause for move in made} == {0.5}
    assert {move.max_pause for move in direct_moves(moves, groups, "block_writes", 0.5)} == {None}


def test_what_stays_slow_is_copied_logically_and_what_is_refused_is_not_tried_again() -> None:
    (move,) = plan_of([(1, 2)])
    slow = MoveResult(100, "slow", 0.5)
    again = [after_failure(move, slow, tries) for tries in (1, 2, 3, 4)]
    assert [retry.move.mode for retry in again if retry] == ["block_writes", "block_writes", "block_writes", "auto"]
    assert after_failure(move, MoveResult(100, "refused", 0.1, "must be owner of table t"), 1) is None


@pytest.mark.parametrize("outcome", ["blocked", "busy", "lost"])
def test_passing_trouble_is_tried_again_for_about_a_minute(outcome: Outcome) -> None:
    (move,) = plan_of([(1, 2)])
    pauses, tries = 0.0, 1
    while retry := after_failure(move, MoveResult(100, outcome, 0.1), tries):
        pauses += retry.seconds
        tries += 1
        assert tries < 20
    assert 40 < pauses < 120


def test_busy_nodes_get_fewer_moves_at_once_until_moves_end_in_time_again() -> None:
    room, well = next_room(8, 5, True, 8)
    assert (room, well) == (4, 0)
    assert next_room(1, 0, True, 8) == (1, 0)
    seen = []
    for _ in range(100):
        room, well = next_room(room, well, False, 8)
        seen.append(room)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (4, 8)


def chosen(asked: Moves, sizes: list[int], mode: str = "auto", *, settings_needed: bool = True) -> tuple[str, str]:
    groups = [group(100 + i, size) for i, size in enumerate(sizes)]
    moves = [Move(100 + i, 1 + i % 2, 3 + i % 2, size) for i, size in enumerate(sizes)]
    choice = choose(
        moves,
        groups,
        asked=asked,
        mode=mode,  # type: ignore[arg-type]
        max_pause=0.5,
        executors=(4, 2),
        settings=settings_needed,
        runs=(),
        defaults=AZURE,
    )
    return choice.way, choice.why


def test_many_tiny_groups_are_moved_directly_and_the_plan_says_why() -> None:
    way, why = chosen("auto", [40 * KB] * 412 + [GB] * 8)
    assert way == "direct"
    assert why.startswith("Moves: direct, because 412 of 420 shard groups are small enough to be copied with writes to")


def test_a_few_large_groups_stay_with_the_job_which_goes_on_by_itself() -> None:
    way, why = chosen("auto", [50 * GB] * 8, settings_needed=False)
    assert way == "job"
    assert "goes on by itself" in why


@pytest.mark.parametrize("asked", ["job", "direct"])
def test_the_user_decides_over_the_estimate(asked: Moves) -> None:
    assert chosen(asked, [40 * KB] * 100)[0] == asked
    assert chosen(asked, [50 * GB] * 8)[0] == asked


def test_direct_moves_need_no_server_parameters() -> None:
    world = Simulator.of(2, [(1, MB)] * 12)
    state = replace(world.observe(), server=world.read_server())
    direct = make_plan(spec(2), state, Wanted(moves="direct")).steps
    job = make_plan(spec(2), state, Wanted(moves="job")).steps
    assert any(isinstance(step, MoveShards) for step in direct)
    assert not any(isinstance(step, RaiseExecutors | RebalanceShards) for step in direct)
    assert any(isinstance(step, RaiseExecutors) for step in job)
    assert LAB.moves.keys() == AZURE.moves.keys()
