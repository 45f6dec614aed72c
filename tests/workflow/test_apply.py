"""The workflow against a cluster in memory: crashes everywhere, and the same command continues."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import RebalanceFailed, ScaleInRefused, StepTimedOut
from orchestrator.core.events import Event, Notice, StepStarted, StepSucceeded
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.placement import predict
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.core.planning.steps import AT_ONCE, PER_NODE, FollowRebalance, RebalanceShards, ResizeCluster
from orchestrator.driver import drive
from orchestrator.workflow.apply import World, converge, observe
from orchestrator.workflow.waiting import Run
from tests.workflow.simulator import STRATEGY, Killed, Simulator

MB = 2**20


def spec(nodes: int) -> ClusterSpec:
    return ClusterSpec(name="lab-local", resource_group="lab", location="northeurope", nodes=nodes)


@dataclass
class Recorder:
    events: list[Event] = field(default_factory=list)
    stop_after: int | None = None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self.stop_after is not None and len(self.events) > self.stop_after:
            raise Killed("after an event")


def scale_out(world: Simulator, nodes: int, show: Recorder | None = None, wanted: Wanted | None = None) -> ClusterState:
    """The command, in one process: observe, plan, apply, until nothing is left."""
    wishes, everything = wanted or Wanted(), World(world, world)

    def replan() -> Run[tuple[Plan, ClusterState]]:
        state = yield from observe(everything)
        return make_plan(spec(nodes), state, wishes), state

    def run() -> Run[ClusterState]:
        plan, state = yield from replan()
        return (yield from converge(everything, plan, state, replan))

    return drive(run(), show or Recorder(), sleep=world.sleep, now=lambda: world.now)


def assert_converged(world: Simulator, nodes: int, groups: int) -> None:
    """Looks at the cluster, never asks the planner."""
    assert len(world.nodes) == nodes == world.size
    assert len({group.shard_id for group in world.groups}) == groups == len(world.groups)
    assert predict(world.groups, world.nodes, STRATEGY).moves == ()
    assert world.settings == {AT_ONCE: "1", PER_NODE: "1"}
    assert world.kept == {}
    assert world.operation is None
    assert not any(world._job(job).in_flight for job in world.jobs)


def four_nodes() -> Simulator:
    return Simulator.of(4, [(i % 4 + 1, i * MB) for i in range(16)])


def test_four_to_eight_nodes_end_to_end() -> None:
    world, seen = four_nodes(), Recorder()
    scale_out(world, 8, seen)
    assert_converged(world, 8, 16)
    assert world.calls.count("start_resize") == 1
    titles = [event.title for event in seen.events if isinstance(event, StepStarted)]
    assert titles[0] == "grow the cluster from 4 to 8 nodes"
    assert "rebalance with by_disk_size: 8 moves" in titles
    assert len([e for e in seen.events if isinstance(e, StepSucceeded)]) == len(titles)


def test_the_same_command_again_plans_nothing_and_changes_nothing() -> None:
    world = four_nodes()
    scale_out(world, 8)
    world.calls.clear()
    seen = Recorder()
    scale_out(world, 8, seen)
    assert seen.events == []
    assert set(world.calls) == {"observe", "read_server"}


def events_of_a_whole_run() -> int:
    seen = Recorder()
    scale_out(four_nodes(), 8, seen)
    return len(seen.events)


@pytest.mark.parametrize("stop_after", range(events_of_a_whole_run()))
@pytest.mark.parametrize("later_target", [8, 10])
def test_killed_after_any_event_the_same_or_a_larger_command_converges(stop_after: int, later_target: int) -> None:
    world = four_nodes()
    with pytest.raises(Killed):
        scale_out(world, 8, Recorder(stop_after=stop_after))
    scale_out(world, later_target)
    assert_converged(world, later_target, 16)


def calls_of_a_whole_run() -> int:
    world = four_nodes()
    scale_out(world, 8)
    return len(world.calls)


@pytest.mark.parametrize("before_effect", [True, False])
@pytest.mark.parametrize("call", range(calls_of_a_whole_run()))
def test_killed_before_or_after_the_effect_of_any_call_it_converges(call: int, before_effect: bool) -> None:
    world = four_nodes()
    world.lose_reply_of, world.lose_before_effect = call, before_effect
    with pytest.raises(Killed):
        scale_out(world, 8)
    world.sleep(3)
    scale_out(world, 8)
    assert_converged(world, 8, 16)
    assert world.calls.count("start_resize") <= 2


def test_a_busy_server_is_waited_for() -> None:
    world = four_nodes()
    world.refuse_busy = 3
    scale_out(world, 8)
    assert_converged(world, 8, 16)


def test_a_job_of_somebody_else_is_followed_before_anything_else_changes() -> None:
    world = Simulator.of(2, [(1, MB)] * 12)
    world.begin_job()
    plan = make_plan(spec(4), _observed(world), Wanted())
    assert isinstance(plan.steps[0], FollowRebalance)
    assert not any(isinstance(step, RebalanceShards) for step in plan.steps)
    scale_out(world, 4)
    assert_converged(world, 4, 12)


def test_a_move_that_keeps_failing_ends_the_run_and_puts_the_settings_back() -> None:
    world, seen = four_nodes(), Recorder()
    world.broken_shards = {100 + i: "ERROR: could not fetch disk stats\nCONTEXT: x" for i in range(16)}
    with pytest.raises(RebalanceFailed, match="could not fetch disk stats"):
        scale_out(world, 8, seen)
    assert world.settings == {AT_ONCE: "1", PER_NODE: "1"}
    assert world.kept == {}
    assert any(isinstance(event, Notice) and "Citus tries again" in event.text for event in seen.events)
    world.broken_shards.clear()
    scale_out(world, 8)
    assert_converged(world, 8, 16)


def test_nodes_that_never_join_time_out_with_the_last_thing_seen() -> None:
    world = four_nodes()
    world._grown = lambda nodes: setattr(world, "size", nodes)  # type: ignore[method-assign]
    with pytest.raises(StepTimedOut, match="4 of 8 nodes have joined"):
        scale_out(world, 8)


def test_scale_in_is_refused_before_anything_changes() -> None:
    world = four_nodes()
    with pytest.raises(ScaleInRefused, match="cannot lose nodes"):
        scale_out(world, 3)
    assert set(world.calls) == {"observe", "read_server"}


def test_no_rebalance_only_adds_nodes() -> None:
    world = four_nodes()
    scale_out(world, 8, wanted=Wanted(rebalance=False))
    assert len(world.nodes) == 8
    assert {group.node_id for group in world.groups} == {1, 2, 3, 4}


def test_settings_are_raised_together_and_only_when_several_moves_can_run() -> None:
    plan = make_plan(spec(8), _observed(four_nodes()), Wanted())
    raised = next(step for step in plan.steps if type(step).__name__ == "RaiseExecutors")
    assert raised.at_once > 1
    assert raised.per_node > 1
    single = make_plan(spec(8), _observed(four_nodes()), Wanted(parallel=1))
    assert not any(type(step).__name__ == "RaiseExecutors" for step in single.steps)


def _observed(world: Simulator) -> ClusterState:
    return drive(observe(World(world, world)), Recorder(), sleep=world.sleep, now=lambda: world.now)


WORLDS = st.builds(
    lambda nodes, sizes: Simulator.of(nodes, [(at % nodes + 1, size) for at, size in sizes]),
    st.integers(2, 6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**9)), max_size=30),
)


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.integers(0, 6))
def test_property_converges(world: Simulator, more: int) -> None:
    groups, target = len(world.groups), len(world.nodes) + more
    scale_out(world, target)
    assert_converged(world, target, groups)


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.integers(0, 6), st.booleans())
def test_property_never_plans_a_step_whose_effect_is_already_there(world: Simulator, more: int, resized: bool) -> None:
    target = len(world.nodes) + more
    if resized and more:
        world._grown(target)
        world.sleep(1000)
    plan = make_plan(spec(target), _observed(world), Wanted())
    kinds = {type(step) for step in plan.steps}
    assert (ResizeCluster in kinds) == (world.size < target)
    assert (RebalanceShards in kinds) == bool(plan.moves)
    if not plan.moves and len(world.nodes) == target:
        assert plan.steps == ()


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.integers(0, 6), st.integers(0, 60))
def test_property_never_removes_a_node_or_a_shard_group_wherever_it_is_killed(
    world: Simulator, more: int, stop_after: int
) -> None:
    nodes, shards = {n.node_id for n in world.nodes}, {g.shard_id for g in world.groups}
    with suppress(Killed):
        scale_out(world, len(world.nodes) + more, Recorder(stop_after=stop_after))
    assert nodes <= {n.node_id for n in world.nodes}
    assert shards == {g.shard_id for g in world.groups}
