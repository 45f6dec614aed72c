"""Direct moves against a cluster in memory: limits, retries, failures, kills at every point; it always converges."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from orchestrator.core.errors import OrchestratorError, RebalanceFailed, Stopped
from orchestrator.core.events import (
    Event,
    LatencySeen,
    MoveEnded,
    MoveStarted,
    MovesTimed,
    Notice,
    StepProgress,
    StepSucceeded,
)
from orchestrator.core.moves.guard import Limits, Signals
from orchestrator.core.moves.moving import Outcome
from orchestrator.core.moves.runs import RecordedMove
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.placement import predict
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.driver import drive
from orchestrator.workflow.apply import World, converge, observe
from orchestrator.workflow.moving import Oversight
from orchestrator.workflow.waiting import Run
from tests.workflow.moving_simulator import MovingSimulator
from tests.workflow.simulator import STRATEGY, Killed, Simulator
from tests.workflow.test_apply import Recorder, assert_converged, spec

MB = 2**20
LARGE = 60 * MB


def crowded(groups: int = 24, large: int = 2) -> MovingSimulator:
    """Four nodes; all data is on the first two, most of it tiny."""
    return MovingSimulator(Simulator.of(4, [(i % 2 + 1, LARGE if i < large else MB) for i in range(groups)]))


def run(
    mover: MovingSimulator,
    show: Recorder | None = None,
    wanted: Wanted | None = None,
    oversight: Oversight | None = None,
) -> ClusterState:
    world = mover.world
    wishes = wanted or Wanted(cluster=False, moves="direct")
    everything = World(world, world, mover=mover, oversight=oversight or Oversight())

    def replan() -> Run[tuple[Plan, ClusterState]]:
        state = yield from observe(everything)
        return make_plan(spec(len(world.nodes)), state, wishes), state

    def everything_of_it() -> Run[ClusterState]:
        plan, state = yield from replan()
        return (yield from converge(everything, plan, state, replan))

    return drive(everything_of_it(), show or Recorder(), sleep=world.sleep, now=lambda: world.now)


def seen(show: Recorder, kind: type[Event]) -> list[Event]:
    return [event for event in show.events if isinstance(event, kind)]


def test_the_placement_is_the_one_that_citus_would_have_reached() -> None:
    direct, job = crowded(), crowded()
    run(direct)
    run(job, wanted=Wanted(cluster=False, moves="job"))
    assert direct.world.groups == job.world.groups
    assert_converged(direct.world, 4, 24)
    assert direct.leftovers == 0
    assert 2 <= direct.most_at_once <= 4
    assert "start_rebalance" not in direct.world.calls


def test_each_move_is_told_to_begin_and_to_end_with_the_pause_of_its_writes() -> None:
    mover, show = crowded(), Recorder()
    run(mover, show)
    started = {event.shard_id: event for event in seen(show, MoveStarted) if isinstance(event, MoveStarted)}
    ended = {event.shard_id: event for event in seen(show, MoveEnded) if isinstance(event, MoveEnded)}
    assert started.keys() == ended.keys()
    assert len(started) == len(seen(show, MoveStarted)) == len(mover.started)
    for shard_id, event in started.items():
        tiny = event.bytes == MB
        assert (event.way, event.mode) == ("direct", "block_writes" if tiny else "auto")
        assert ended[shard_id].write_pause_seconds == (0.1 if tiny else None)
    assert [e.done for e in seen(show, StepProgress) if isinstance(e, StepProgress)] == sorted(
        e.done or 0 for e in seen(show, StepProgress) if isinstance(e, StepProgress)
    )


@pytest.mark.parametrize("outcome", ["blocked", "busy", "lost", "slow"])
def test_passing_trouble_is_waited_out_and_everything_still_moves(outcome: Outcome) -> None:
    mover, show = crowded(), Recorder()
    moves = predict(mover.world.groups, mover.world.nodes, STRATEGY).moves
    for move in moves[::3]:
        mover.faults[move.shard_id] = [outcome, outcome]
    run(mover, show)
    assert_converged(mover.world, 4, 24)
    notices = [event.text for event in show.events if isinstance(event, Notice)]
    if outcome == "blocked":
        assert any("held up by a transaction of app on node 1" in text for text in notices)


def test_a_move_that_is_refused_ends_the_run_with_the_cause_and_lets_the_others_finish() -> None:
    mover, show = crowded(), Recorder()
    first = predict(mover.world.groups, mover.world.nodes, STRATEGY).moves[3]
    mover.faults[first.shard_id] = ["refused"]
    with pytest.raises(
        RebalanceFailed, match=r"1 of \d+ moves failed; \d+ are done and stay done. s\d+: it was refused"
    ):
        run(mover, show)
    assert mover.running == []
    assert len(seen(show, MoveStarted)) == len(seen(show, MoveEnded))
    assert mover.leftovers == 0
    run(mover)
    assert_converged(mover.world, 4, 24)


def test_a_commit_that_made_writers_wait_for_longer_than_asked_for_is_told() -> None:
    mover, show = crowded(large=0), Recorder()
    mover.pauses = [0.7]
    run(mover, show)
    assert_converged(mover.world, 4, 24)
    ended = [event for event in seen(show, MoveEnded) if isinstance(event, MoveEnded)]
    assert max(event.write_pause_seconds or 0 for event in ended) == 0.7
    told = [event.note for event in seen(show, StepSucceeded) if isinstance(event, StepSucceeded)]
    assert any("at most 700 ms (1 longer than asked for" in note for note in told), told


def test_tries_that_came_to_nothing_count_for_the_next_estimate() -> None:
    told = []
    for tries in (0, 2):
        mover, show = crowded(large=0), Recorder()
        moves = predict(mover.world.groups, mover.world.nodes, STRATEGY).moves
        mover.faults = {move.shard_id: ["slow"] * tries for move in moves}
        run(mover, show)
        (timed,) = (event for event in show.events if isinstance(event, MovesTimed))
        assert timed.moves == len(moves)
        told.append(timed)
    smooth, rough = told
    assert rough.seconds > 2 * smooth.seconds
    assert (rough.fixed_seconds or 0) > 1.5 * (smooth.fixed_seconds or 0) > 0


@pytest.mark.parametrize(("large", "mode"), [(2, "block_writes"), (24, "auto")])
def test_what_moves_took_is_told_with_the_mode_that_most_of_them_had(large: int, mode: str) -> None:
    """The next estimate takes it for moves of that mode only."""
    show = Recorder()
    run(crowded(large=large), show)
    assert [event.mode for event in show.events if isinstance(event, MovesTimed)] == [mode]


def test_who_blocks_for_too_long_is_named() -> None:
    mover = crowded()
    first = predict(mover.world.groups, mover.world.nodes, STRATEGY).moves[0]
    mover.faults[first.shard_id] = ["blocked"] * 50
    with pytest.raises(RebalanceFailed, match=r"held up by a transaction of app on node 1 \(\d+ tries\)"):
        run(mover)


def test_a_cluster_that_refuses_connections_for_a_while_only_delays() -> None:
    """Whose first try found no connection is told to begin when it does: its end would be of a move unknown."""
    mover, show = crowded(), Recorder()
    mover.refuse_connections = 3
    run(mover, show)
    assert_converged(mover.world, 4, 24)
    started = [event.shard_id for event in seen(show, MoveStarted) if isinstance(event, MoveStarted)]
    ended = [event.shard_id for event in seen(show, MoveEnded) if isinstance(event, MoveEnded)]
    assert sorted(started) == sorted(ended) == sorted(move.shard_id for move in mover.started)


def test_reference_tables_are_copied_by_citus_before_anything_moves_directly() -> None:
    mover = crowded()
    mover.missing = True
    run(mover)
    assert_converged(mover.world, 4, 24)
    assert mover.world.calls.index("start_rebalance") < mover.world.calls.index("start_move")
    assert len(mover.world.jobs) == 1


def test_killed_at_every_event_the_same_command_converges() -> None:
    """What the killed run had sent goes on for a while; the next run waits for its end and moves the rest."""
    whole = Recorder()
    run(crowded(), whole)
    assert len(whole.events) >= 25
    for stop in range(len(whole.events)):
        mover = crowded()
        with suppress(Killed):
            run(mover, Recorder(stop_after=stop))
        mover.killed()
        show = Recorder()
        run(mover, show)
        assert_converged(mover.world, 4, 24)
        assert mover.stragglers == []


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_every_call_the_same_command_converges(before: bool) -> None:
    counted = crowded()
    run(counted)
    for call in range(len(counted.world.calls)):
        mover = crowded()
        mover.world.lose_reply_of, mover.world.lose_before_effect = call, before
        with suppress(Killed):
            run(mover)
        mover.killed()
        mover.world.lose_reply_of = -1
        run(mover)
        assert_converged(mover.world, 4, 24)


@dataclass
class Notebook:
    """Satisfies Record: what is kept in the cluster, and a wish to stop after so many moves have begun."""

    mover: MovingSimulator
    stop_after: int = 10**9
    moves: list[RecordedMove] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def add(self, way: str, moves: Sequence[RecordedMove]) -> int:
        assert self.mover.started == [], "recorded before anything moves"
        self.moves += moves
        return 1

    def end(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def stop_requested(self) -> bool:
        return len(self.mover.started) >= self.stop_after


def test_the_moves_are_recorded_before_they_are_made() -> None:
    mover = crowded()
    notebook = Notebook(mover)
    expected = predict(mover.world.groups, mover.world.nodes, STRATEGY).moves
    run(mover, oversight=Oversight(notebook))
    assert [(move.shard_id, move.source, move.target) for move in notebook.moves] == [
        (move.shard_id, move.source, move.target) for move in expected
    ]
    assert notebook.outcomes == ["done"]


def test_asked_to_stop_it_cancels_what_runs_cleans_up_and_can_be_continued() -> None:
    mover = crowded()
    notebook, show = Notebook(mover, stop_after=2), Recorder()
    with pytest.raises(Stopped, match=r"\d of 10 moves are done and stay done") as stopped:
        run(mover, show, oversight=Oversight(notebook))
    assert stopped.value.exit_code == 130
    assert (mover.running, mover.leftovers, notebook.outcomes) == ([], 0, ["stopped"])
    assert len(seen(show, MoveStarted)) == len(seen(show, MoveEnded))
    run(mover)
    assert_converged(mover.world, 4, 24)


@dataclass
class Weather:
    """Satisfies Gauge: a slow probe from one second of the run to another."""

    bad: tuple[float, float]

    def signals(self, now: float) -> Signals:
        return Signals([(now, 90.0 if self.bad[0] <= now < self.bad[1] else 2.0)])


def test_while_the_probe_is_slow_nothing_new_starts_and_then_it_goes_on() -> None:
    mover, show = crowded(48, large=24), Recorder()
    run(mover, show, oversight=Oversight(None, Limits(max_p99=20.0), Weather((0.0, 60.0))))
    assert_converged(mover.world, 4, 48)
    looks = [event for event in show.events if isinstance(event, LatencySeen)]
    assert [look.state for look in looks if look.milliseconds == 90.0][-1] == "paused"
    notices = [event.text for event in show.events if isinstance(event, Notice)]
    assert notices[0] == "Moves begin slowly: the load guard first sees what they do to the load."
    assert "Moves are paused: the probe's p99 is 90.0 ms, the limit is 20 ms." in notices
    assert "Moves go on as before." in notices


def test_a_limit_of_so_many_times_the_usual_is_measured_before_anything_moves() -> None:
    mover, show = crowded(8), Recorder()
    run(mover, show, oversight=Oversight(None, Limits(times=2.0), Weather((0.0, 0.0))))
    assert_converged(mover.world, 4, 8)
    notices = [event.text for event in show.events if isinstance(event, Notice)]
    assert notices[:2] == [
        "The load guard measures the probe's usual latency for 30 s, before anything moves.",
        "The probe's p99 is 2.0 ms without moves: moves slow down where it is above 4 ms.",
    ]
    first = next(event for event in show.events if isinstance(event, MoveStarted))
    assert show.events.index(first) > next(
        at for at, event in enumerate(show.events) if isinstance(event, Notice) and event.text == notices[1]
    )


@dataclass
class Unanswered:
    """Satisfies Gauge: the probe has not come back once."""

    def signals(self, now: float) -> Signals:
        del now
        return Signals()


def test_where_no_probe_is_answered_nothing_moves_and_the_run_says_why() -> None:
    mover = crowded(8)
    with pytest.raises(OrchestratorError, match="usual latency"):
        run(mover, oversight=Oversight(None, Limits(times=2.0), Unanswered()))
    assert mover.started == []
