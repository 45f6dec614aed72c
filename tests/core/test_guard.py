"""The load guard: from what the probe sees to how many moves may run; and the way back behind a run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.moves.guard import (
    BASELINE_FOR,
    DAY,
    LOOK_EVERY,
    UP_AFTER,
    Limits,
    Pace,
    Signals,
    first_pace,
    in_window,
    next_pace,
    p99,
    usual_p99,
)
from orchestrator.core.moves.runs import RecordedMove, UndoRefused, undo
from orchestrator.core.planning.placement import Move
from tests.workflow.simulator import Simulator

LIMIT = Limits(max_p99=20.0)


def watched(latency: dict[int, float], seconds: float, pace: Pace | None = None) -> list[tuple[float, Pace]]:
    """The pace every half second, with twenty looks a second; `latency` says from which second on it is what."""
    now, found, current = 0.0, [], pace or Pace()
    looks: list[tuple[float, float]] = []
    while now < seconds:
        now += 0.05
        looks.append((now, latency[max(at for at in latency if at <= now)]))
        if round(now / 0.05) % 10 == 0:
            current = next_pace(current, LIMIT, Signals(looks), now, under_way=False)
            found.append((now, current))
    return found


def test_a_quiet_cluster_is_moved_at_full_pace() -> None:
    assert {pace.share for _, pace in watched({0: 5.0}, 30)} == {1.0}


def test_watched_moves_begin_slowly_and_are_at_full_pace_after_two_quiet_spells() -> None:
    paces = watched({0: 5.0}, 30, first_pace(LIMIT, 0.0))
    assert [next(at for at, pace in paces if pace.share == share) for share in (0.5, 1.0)] == pytest.approx(
        [5, 10], abs=1
    )
    assert paces[0][1].share == 0.25
    assert first_pace(Limits(window=(0, 60)), 7.0) == Pace(1.0, 7.0, looked=7.0)


def test_a_step_of_load_is_answered_within_ten_seconds_by_slowing_down_and_pausing() -> None:
    paces = watched({0: 5.0, 20: 60.0}, 40)
    slowed = next(at for at, pace in paces if pace.state == "slowed")
    paused = next(at for at, pace in paces if pace.state == "paused")
    assert 20 < slowed < 22
    assert paused < 25
    assert paces[-1][1].state == "paused"
    assert paces[-1][1].reason == "the probe's p99 is 60.0 ms, the limit is 20 ms"


def test_when_the_load_is_over_moves_come_back_step_by_step() -> None:
    paces = watched({0: 60.0, 10: 5.0}, 200)
    shares = [pace.share for _, pace in paces]
    climbing = shares[shares.index(0.0) :]
    assert climbing == sorted(climbing)
    assert set(climbing) == {0.0, 0.25, 0.5, 1.0}
    assert paces[-1][1].reason == ""


def test_just_below_the_limit_nothing_speeds_up_again() -> None:
    """Otherwise it would swing to and fro."""
    assert {pace.share for _, pace in watched({0: 19.0}, 60, Pace(0.25, 0.0, "it was too much"))} == {0.25}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.floats(0.5, 30))
def test_property_moves_make_no_more_looks_slow_than_a_p99_allows(each: int, length: float) -> None:
    """Whatever one costs up to what is held against it, in a quarter of an hour of moves of the same kind."""
    now, pace, runs_until, slow = 0.0, first_pace(LIMIT, 0.0), 0.0, 0
    looks: list[tuple[float, float]] = []
    every = max(1, round(length / LOOK_EVERY / each))
    while now < 900:
        now += LOOK_EVERY
        under_way = pace.share > 0 or now < runs_until
        is_slow = under_way and len(looks) % every == 0
        slow += is_slow
        looks.append((now, 60.0 if is_slow else 5.0))
        if len(looks) % 10 == 0:
            pace = next_pace(pace, LIMIT, Signals(looks[-100:]), now, under_way)
            runs_until = now + length if pace.share > 0 else runs_until
    assert slow / len(looks) <= 0.01


def test_a_move_that_made_many_looks_slow_is_followed_by_a_rest_that_ends() -> None:
    looks = [(at * LOOK_EVERY, 60.0 if at % 4 == 0 else 5.0) for at in range(1200)]
    pace = first_pace(LIMIT, 0.0)
    for second in range(1, 61):
        pace = next_pace(pace, LIMIT, Signals([look for look in looks if second - 5 < look[0] < second]), second)
    assert pace.state == "paused"
    began = 60.0
    while pace.state == "paused":
        began += 0.5
        pace = next_pace(pace, LIMIT, Signals([(began, 5.0)]), began, under_way=False)
    assert 60 < began - 60 <= 180
    assert pace.reason.startswith("they made too many of the probe's looks slower than 20 ms and rest for ")


def test_what_is_slow_while_nothing_moves_is_not_held_against_the_moves() -> None:
    paces = watched({0: 60.0, 20: 5.0}, 40, Pace(0.0, 0.0, "the load is high"))
    assert next(at for at, pace in paces if pace.share > 0) < 32


def test_one_burst_does_not_raise_what_is_usual() -> None:
    calm = [(at * LOOK_EVERY, 2.0 if at % 50 else 3.0) for at in range(int(BASELINE_FOR / LOOK_EVERY))]
    burst = [(at, 80.0 if 11 < at < 14 else ms) for at, ms in calm]
    assert usual_p99(burst, BASELINE_FOR) == usual_p99(calm, BASELINE_FOR) == 3.0
    assert usual_p99([], 10.0) is None


def test_busy_processors_count_like_latency_and_unknown_ones_do_not() -> None:
    limits = Limits(max_cpu=70)
    assert next_pace(Pace(), limits, Signals(cpu=90.0), 10.0).state == "slowed"
    assert next_pace(Pace(), limits, Signals(cpu=None), 10.0).state == "going"


@given(st.integers(0, DAY - 1), st.integers(0, DAY - 1), st.integers(0, DAY - 1))
def test_property_a_window_and_its_complement_share_the_day(begins: int, ends: int, at: int) -> None:
    if begins != ends:
        assert in_window((begins, ends), at) != in_window((ends, begins), at)
    assert in_window((begins, ends), begins)


def test_a_window_may_pass_midnight_and_outside_it_nothing_runs() -> None:
    night = Limits(window=(22 * 3600, 5 * 3600))
    assert next_pace(Pace(), night, Signals(time_of_day=23 * 3600), 1.0).state == "going"
    assert next_pace(Pace(), night, Signals(time_of_day=4 * 3600), 1.0).state == "going"
    closed = next_pace(Pace(), night, Signals(time_of_day=20 * 3600), 1.0)
    assert (closed.state, closed.reason) == ("paused", "the window opens in 2 h 00 min")
    opened = next_pace(closed, night, Signals(time_of_day=22 * 3600), 1.0 + UP_AFTER)
    assert opened.state == "slowed"


@given(st.integers(1, 64), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_property_slowed_down_still_moves_and_paused_does_not(wished: int, share: float) -> None:
    allowed = Pace(share).at_once(wished)
    assert (allowed == 0) == (share == 0)
    assert allowed <= wished


def test_the_p99_of_few_looks_is_the_slowest_and_old_ones_do_not_count() -> None:
    assert p99([(1.0, 500.0), (9.0, 3.0), (9.5, 4.0)], 10.0) == 4.0
    assert p99([(1.0, 500.0)], 10.0) is None
    assert p99([(10.0, float(ms)) for ms in range(1, 101)], 10.0) == 99.0


def test_undoing_brings_every_group_back_and_leaves_the_others() -> None:
    state = Simulator.of(4, [(1, 10), (3, 20), (4, 30)]).observe()
    recorded = (RecordedMove(100, 2, 1, "s0"), RecordedMove(101, 1, 3, "s1"))
    assert undo(7, recorded, state) == (Move(101, 3, 1, 20), Move(100, 1, 2, 10))
    assert undo(7, (RecordedMove(102, 4, 1, "s2"),), state) == ()


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (RecordedMove(900, 1, 2, "gone"), r"Run 7 cannot be undone: gone \(shard 900\) is gone\. Nothing was changed"),
        (RecordedMove(100, 9, 1, "s0"), r"node 9 is gone or may not hold data"),
    ],
)
def test_what_cannot_be_undone_is_refused_by_name(move: RecordedMove, reason: str) -> None:
    with pytest.raises(UndoRefused, match=reason):
        undo(7, (move,), Simulator.of(2, [(1, 10)]).observe())
