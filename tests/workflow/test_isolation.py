"""One tenant to one node, on the cluster in memory: whatever is cut off, the same command ends the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.core.errors import DatabaseError
from orchestrator.core.events import Event, Notice
from orchestrator.core.observed.pins import Isolation, Pin, Tenant, pin_of
from orchestrator.core.observed.state import ClusterState, ShardGroup
from orchestrator.core.planning.isolation import choose_node, isolation_plan, release_plan
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.core.planning.steps import SplitTenant
from orchestrator.driver import drive
from orchestrator.workflow.apply import World, converge, observe
from orchestrator.workflow.waiting import Run
from tests.workflow.moving_simulator import MovingSimulator
from tests.workflow.simulator import Killed, Simulator
from tests.workflow.test_apply import Recorder, spec

MB = 2**20
SCHEMA = Tenant("s3")
ROWS = Tenant("42", "app.events", 7)
SHARED, REST, OWN = 500, 600, 601


@dataclass
class PinnedSimulator(Simulator):
    """Keeps pins, and splits the shard that tenant 42 shares. Satisfies Tenants too."""

    pins: list[Pin] = field(default_factory=list)
    under_way: list[float] = field(default_factory=list)
    refusals: int = 0

    def observe(self) -> ClusterState:
        found: dict[str | None, int] = {group.schema: group.shard_id for group in self.groups if group.schema}
        if any(group.shard_id == OWN for group in self.groups):
            found[None] = OWN
        resolved = [
            replace(pin, shard_id=found.get(None if pin.tenant.table else pin.tenant.name)) for pin in self.pins
        ]
        return replace(super().observe(), pins=tuple(resolved))

    def keep(self, pin: Pin) -> None:
        def put() -> None:
            self.pins = [kept for kept in self.pins if pin_of((kept,), pin.tenant) is None] + [pin]

        self._reply("keep", put)

    def release(self, tenant: Tenant) -> None:
        def drop() -> None:
            self.pins = [kept for kept in self.pins if pin_of((kept,), tenant) is None]

        self._reply("release", drop)

    def start_split(self, step: SplitTenant) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise DatabaseError("split", "canceling statement due to lock timeout", sqlstate="55P03")
        if not any(group.shard_id == SHARED for group in self.groups):
            return False
        self._reply("start_split", lambda: self.under_way.append(self.now + 3))
        return True

    def split_ended(self) -> bool:
        self._reply("split_ended", lambda: None)
        return self.now >= self.under_way[0] and self.finish()

    def stop_split(self) -> None:
        self.under_way = []

    def finish(self) -> bool:
        """Both parts stay on the node of the whole."""
        (whole,) = [group for group in self.groups if group.shard_id == SHARED]
        self.groups.remove(whole)
        self.groups += [replace(whole, shard_id=REST), replace(whole, shard_id=OWN, bytes=MB)]
        return True


def cluster() -> MovingSimulator:
    """Three nodes. The first holds a shard of a row-sharded table and four schemas, the others two each."""
    made = PinnedSimulator.of(3, [(at, MB) for at in (1, 1, 1, 1, 2, 2, 3, 3)])
    made.groups.append(ShardGroup(SHARED, 50, 1, 3 * MB, ("app.events", "app.orders")))
    return MovingSimulator(made)


def wish(world: PinnedSimulator, tenant: Tenant, alone: bool, to: int | None = 3) -> Isolation:
    """As the command finds it, each time it is run."""
    shard = {group.schema: group for group in world.groups}.get(tenant.name) if tenant.table is None else None
    if shard is None:
        shard = next(group for group in world.groups if group.shard_id in {SHARED, OWN})
    own = shard.shard_id != SHARED
    found = Isolation(tenant, shard.shard_id, shard.node_id, own, 0, alone, ("app.events", "app.orders"))
    return choose_node(world.observe(), found, (), to)


def run(mover: MovingSimulator, wanted: Wanted, show: Recorder | None = None) -> ClusterState:
    world = mover.world
    assert isinstance(world, PinnedSimulator)
    everything = World(world, world, mover=mover, tenants=world)

    def replan() -> Run[tuple[Plan, ClusterState]]:
        state = yield from observe(everything)
        if wanted.isolate is not None:
            return isolation_plan(state, wanted, wanted.isolate), state
        if wanted.release is not None:
            return release_plan(state, wanted.release), state
        return make_plan(spec(len(world.nodes)), state, wanted), state

    def everything_of_it() -> Run[ClusterState]:
        plan, state = yield from replan()
        return (yield from converge(everything, plan, state, replan))

    return drive(everything_of_it(), show or Recorder(), sleep=world.sleep, now=lambda: world.now)


def isolate(mover: MovingSimulator, tenant: Tenant, alone: bool, show: Recorder | None = None) -> None:
    assert isinstance(mover.world, PinnedSimulator)
    wanted = Wanted(False, False, True, moves="direct", isolate=wish(mover.world, tenant, alone))
    run(mover, wanted, show)


def assert_isolated(mover: MovingSimulator, tenant: Tenant, alone: bool) -> None:
    where = {group.shard_id: group.node_id for group in mover.world.groups}
    mine = OWN if tenant.table else 103
    assert where[mine] == 3
    if alone:
        assert [shard_id for shard_id, node in where.items() if node == 3] == [mine]
    assert len(where) == len(mover.world.groups) == (10 if tenant.table else 9)
    assert isinstance(mover.world, PinnedSimulator)
    assert [(pin.node_id, pin.alone) for pin in mover.world.pins] == [(3, alone)]


CASES = [(SCHEMA, False), (SCHEMA, True), (ROWS, False), (ROWS, True)]


@pytest.mark.parametrize(("tenant", "alone"), CASES)
def test_killed_at_every_event_the_same_command_ends_the_same(tenant: Tenant, alone: bool) -> None:
    whole = Recorder()
    isolate(cluster(), tenant, alone, whole)
    assert len(whole.events) > 8
    for stop in range(len(whole.events)):
        mover = cluster()
        with suppress(Killed):
            isolate(mover, tenant, alone, Recorder(stop_after=stop))
        mover.killed()
        isolate(mover, tenant, alone)
        assert_isolated(mover, tenant, alone)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("tenant", "alone"), CASES)
def test_killed_at_every_call_the_same_command_ends_the_same(tenant: Tenant, alone: bool, before: bool) -> None:
    counted = cluster()
    isolate(counted, tenant, alone)
    for call in range(len(counted.world.calls)):
        mover = cluster()
        mover.world.lose_reply_of, mover.world.lose_before_effect = call, before
        with suppress(Killed):
            isolate(mover, tenant, alone)
        mover.killed()
        mover.world.lose_reply_of = -1
        isolate(mover, tenant, alone)
        assert_isolated(mover, tenant, alone)


@pytest.mark.parametrize(("tenant", "alone"), CASES)
def test_what_was_cut_off_before_the_move_is_moved_by_a_rebalance_too(tenant: Tenant, alone: bool) -> None:
    mover = cluster()
    assert isinstance(mover.world, PinnedSimulator)
    mover.world.pins = [Pin(tenant, 3, alone)]
    if tenant.table:
        mover.world.finish()
    run(mover, Wanted(False, False, True, moves="auto"))
    assert_isolated(mover, tenant, alone)


def test_a_split_that_meets_a_lock_is_tried_again_and_says_so() -> None:
    mover, show = cluster(), Recorder()
    assert isinstance(mover.world, PinnedSimulator)
    mover.world.refusals = 2
    isolate(mover, ROWS, False, show)
    assert_isolated(mover, ROWS, False)
    texts = [event.text for event in show.events if isinstance(event, Notice)]
    assert sum("The split has to wait and is tried again" in text for text in texts) == 2


def test_a_lock_that_is_never_given_up_ends_the_run_and_keeps_the_pin() -> None:
    mover = cluster()
    assert isinstance(mover.world, PinnedSimulator)
    mover.world.refusals = 99
    with pytest.raises(DatabaseError, match="lock timeout"):
        isolate(mover, ROWS, False)
    mover.world.refusals = 0
    isolate(mover, ROWS, False)
    assert_isolated(mover, ROWS, False)


def test_a_released_tenant_is_moved_again_by_the_next_rebalance() -> None:
    mover = cluster()
    isolate(mover, SCHEMA, True)
    run(mover, Wanted(False, False, True, moves="auto", strategy="by_shard_count"))
    assert_isolated(mover, SCHEMA, True)
    run(mover, Wanted(False, False, False, release=SCHEMA))
    run(mover, Wanted(False, False, True, moves="direct"))
    assert sum(group.node_id == 3 for group in mover.world.groups) > 1


def test_done_already_nothing_happens() -> None:
    mover = cluster()
    isolate(mover, ROWS, True)
    show = Recorder()
    isolate(mover, ROWS, True, show)
    events: list[Event] = show.events
    assert events == []
