"""Make a plan true, as a generator of events. Whatever it waits for it yields; it never sleeps and has no clock.

Level-triggered: after the steps the world is observed again, and what is still missing is planned again. So the same
command continues after any interruption, and a plan without steps means converged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.core.errors import OrchestratorError, VerificationFailed
from orchestrator.core.events import StepFailed, StepStarted, StepSucceeded
from orchestrator.core.observed.state import ClusterState, ShardGroup
from orchestrator.core.planning.plan import Plan
from orchestrator.core.planning.steps import (
    AwaitNodes,
    FollowRebalance,
    MoveShards,
    PinTenant,
    RaiseExecutors,
    RebalanceShards,
    ReleaseTenant,
    ResizeCluster,
    RestoreSettings,
    ServerStep,
    SettleServer,
    SplitTenant,
    Step,
    TenantStep,
    VerifyCluster,
)
from orchestrator.core.planning.steps_services import MakeServices, ServiceStep
from orchestrator.workflow import server
from orchestrator.workflow.bulk import make_services
from orchestrator.workflow.checking import checked
from orchestrator.workflow.isolation import on_tenant
from orchestrator.workflow.journal import forget
from orchestrator.workflow.moving import Oversight, move_shards
from orchestrator.workflow.protocols import ControlPlane, Database, Inspector, Journal, Mover, Services, Tenants
from orchestrator.workflow.rebalance import follow, rebalance
from orchestrator.workflow.verify import verified
from orchestrator.workflow.waiting import Run, when_connected, when_free

# Sizes change while shards move, so one more rebalance can be worthwhile after the first; a third never was so far.
MOST_ROUNDS = 4


@dataclass(frozen=True)
class World:
    """What a run works on. `control` is absent where only the database is touched."""

    database: Database
    control: ControlPlane | None = None
    services: Services | None = None
    journal: Journal | None = None
    mover: Mover | None = None
    oversight: Oversight = field(default_factory=Oversight)
    inspector: Inspector | None = None
    tenants: Tenants | None = None


def observe(world: World, *, groups: bool = True) -> Run[ClusterState]:
    """One reading of the cluster. Without `groups` only what each node holds is read: enough where nothing moves."""
    read = world.database.observe if groups else world.database.observe_loads
    state = yield from when_connected(read, "read the cluster")
    if world.control is not None:
        server_reading = yield from when_free(world.control.read_server, "read the server")
        state = replace(state, server=server_reading)
    return state


def converge(
    world: World, first: Plan, state: ClusterState, replan: Callable[[], Run[tuple[Plan, ClusterState]]]
) -> Run[ClusterState]:
    """Apply plans until one has no steps. Raises VerificationFailed when the world does not settle."""
    plan, number, rounds = first, 0, 0
    while plan.steps:
        if rounds == MOST_ROUNDS:
            left = plan.steps[0].title
            raise VerificationFailed([f"there is still something to do after {MOST_ROUNDS} rounds: {left}"])
        yield from apply(plan, world, state.shard_groups, number)
        number, rounds = number + len(plan.steps), rounds + 1
        plan, state = yield from replan()
    if state.server is not None and state.server.state == "Ready":
        # A run that was killed may have left the note of an operation that ended before this run looked.
        forget(world.journal)
    return state


def apply(plan: Plan, world: World, groups: tuple[ShardGroup, ...], offset: int = 0) -> Run[None]:
    """Every step in order. Settings that were raised are put back also when a step after that fails."""
    of = offset + len(plan.steps)
    for number, step in enumerate(plan.steps, offset + 1):
        yield StepStarted(number, of, step.title, type(step).__name__)
        try:
            note = yield from _perform(number, step, world, groups)
        except OrchestratorError as error:
            yield StepFailed(number, step.title, str(error))
            yield from _put_back(plan, number - offset, world, of)
            raise
        yield StepSucceeded(number, step.title, note)


def _put_back(plan: Plan, failed: int, world: World, of: int) -> Run[None]:
    """Only what was raised by a step that ran, and never while a job still uses it."""
    raised = any(isinstance(step, RaiseExecutors) for step in plan.steps[: failed - 1])
    later = [step for step in plan.steps[failed:] if isinstance(step, RestoreSettings)]
    if not (raised and later and isinstance(plan.steps[failed - 1], RebalanceShards)):
        return
    job = world.database.observe().job
    if job is not None and job.in_flight:
        return
    yield StepStarted(of, of, later[0].title, type(later[0]).__name__)
    note = yield from _perform(of, later[0], world, ())
    yield StepSucceeded(of, later[0].title, note)


def _perform(number: int, step: Step, world: World, groups: tuple[ShardGroup, ...]) -> Run[str]:
    match step:
        case AwaitNodes():
            return (yield from server.await_nodes(number, step, world.database))
        case FollowRebalance():
            over = world.oversight
            job = follow(number, step.job_id, world.database, groups, ours=False, record=over.record)
            return (yield from checked(number, over.checks, job))
        case RebalanceShards():
            over = world.oversight
            return (yield from rebalance(number, step, world.database, groups, over.record, over.checks))
        case MoveShards():
            if world.mover is None:
                raise LookupError("direct moves are only planned where somebody makes them")
            return (yield from move_shards(number, step, world.mover, world.database, world.oversight))
        case PinTenant() | ReleaseTenant() | SplitTenant():
            return (yield from _on_tenant(number, step, world))
        case VerifyCluster():
            state = yield from observe(world)
            return (yield from verified(number, step, state, groups, world.inspector))
        case SettleServer() | ResizeCluster() | RaiseExecutors() | RestoreSettings():
            return (yield from _on_server(number, step, world))
        case _:
            return (yield from _on_services(number, step, world))


def _on_services(number: int, step: ServiceStep, world: World) -> Run[str]:
    if world.services is None:
        raise LookupError(f"nobody here can {step.title}")
    if isinstance(step, MakeServices):
        return (yield from make_services(number, step, world.services))
    world.services.ensure(step)
    return ""


def _on_tenant(number: int, step: TenantStep, world: World) -> Run[str]:
    if world.tenants is None or world.mover is None:
        raise LookupError("steps on tenants are only planned where somebody takes them")
    return (yield from on_tenant(number, step, world.tenants, world.mover))


def _on_server(number: int, step: ServerStep, world: World) -> Run[str]:
    if world.control is None:
        raise LookupError("steps on the server are only planned where the server was read")
    match step:
        case SettleServer():
            return (yield from server.settle_server(number, world.control, world.journal))
        case ResizeCluster():
            return (yield from server.resize(number, step, world.control, world.journal))
        case RaiseExecutors():
            return (yield from server.raise_executors(step, world.control, world.database))
        case RestoreSettings():
            return (yield from server.restore(step, world.control, world.database))
