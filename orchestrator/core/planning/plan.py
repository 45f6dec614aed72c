"""What has to happen between the observed and the desired state. A pure function; an empty plan means converged.

The plan is inert data and apply looks at nothing else to decide what to do. Nothing is ever removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import get_args

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import Refused, ScaleInRefused
from orchestrator.core.moves.cost import defaults_for
from orchestrator.core.moves.runs import UndoOf, undo
from orchestrator.core.moves.ways import Choice, Moves, choose
from orchestrator.core.observed.pins import Isolation, Tenant
from orchestrator.core.observed.state import ClusterState, Node, NodeLoad, ShardGroup, Strategy, node_loads
from orchestrator.core.planning.pinning import pin_notes, refuse_what_pins_forbid, with_pins
from orchestrator.core.planning.placement import Move, Prediction, after, held_pins, predict, with_future_nodes
from orchestrator.core.planning.steps import (
    AT_ONCE,
    PER_NODE,
    AwaitNodes,
    ClusterStep,
    FollowRebalance,
    MoveShards,
    RaiseExecutors,
    RebalanceShards,
    ResizeCluster,
    RestoreSettings,
    SettleServer,
    Step,
    TransferMode,
    Verify,
    VerifyCluster,
)
from orchestrator.core.planning.steps_services import ServiceStep
from orchestrator.core.size import count

# More moves at once than this only queue on the network and the disks of the nodes that give and take.
MOST_AT_ONCE = 16
# Measured on Citus 13.2: with two moves per node (both settings raised) the same rebalance took a quarter of the time.
MOVES_PER_NODE = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked this run to make true. `parallel` is the number of moves at once; None leaves it to us.

    `moves` is who makes them, `max_pause` for how many seconds at most writes may wait for a direct one. With `guarded`
    a load guard is to slow them down, which only direct moves can. `undo` is the run to go back behind, `isolate` the
    tenant to bring to a node, `release` the one to let go; nothing else is planned then.
    """

    cluster: bool = True
    services: bool = False
    rebalance: bool = True
    strategy: str | None = None
    transfer_mode: TransferMode = "auto"
    parallel: int | None = None
    moves: Moves = "job"
    max_pause: float = 0.5
    guarded: bool = False
    undo: UndoOf | None = None
    verify: Verify = "quick"
    isolate: Isolation | None = None
    release: Tenant | None = None

    @property
    def moves_shards(self) -> bool:
        """Whether shard groups matter to it: where nothing can move, only what each node holds."""
        return self.cluster or self.rebalance or any((self.undo, self.isolate, self.release))


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps == ()` means converged. `before` and `after` are the loads of the nodes, as observed and as predicted."""

    steps: tuple[Step, ...]
    before: tuple[NodeLoad, ...]
    after: tuple[NodeLoad, ...]
    moves: tuple[Move, ...] = ()
    notes: tuple[str, ...] = ()


def make_plan(
    spec: ClusterSpec, state: ClusterState, wanted: Wanted, service_steps: Sequence[ServiceStep] = ()
) -> Plan:
    """Raises ScaleInRefused for fewer nodes than there are, Refused for a strategy that the cluster does not have."""
    if wanted.undo is not None:
        return _undo_plan(state, wanted, wanted.undo)
    nodes = _target_nodes(spec, state, wanted)
    strategy = _strategy(state, wanted)
    future = with_future_nodes(tuple(_joined(node, wanted) for node in state.nodes), nodes)
    prediction = Prediction(())
    if wanted.rebalance:
        refuse_what_pins_forbid(state, strategy, "auto" if wanted.guarded else wanted.moves)
        prediction = predict(state.shard_groups, future, strategy, pins=state.pins)
    steps: list[Step] = [*settle(state, wanted), *_grow(state, nodes, wanted)]
    steps += service_steps if wanted.services else ()
    choice = _way(spec, state, wanted, prediction.moves)
    if wanted.rebalance:
        steps += _rebalance(state, wanted, strategy, prediction.moves, choice)
    if any(not isinstance(step, _SERVICE_STEPS) for step in steps):
        shard_ids = tuple(sorted(group.shard_id for group in state.shard_groups))
        steps.append(VerifyCluster(nodes, shard_ids))
    notes = _notes(state, wanted, strategy, prediction, future)
    if choice is not None and any(isinstance(step, MoveShards | RebalanceShards) for step in steps):
        notes = (*notes, choice.why)
    if not wanted.moves_shards:
        return Plan(tuple(steps), state.loads, state.loads, (), notes)
    placed = after(state.shard_groups, prediction.moves)
    return Plan(tuple(steps), state.loads, node_loads(future, placed), prediction.moves, notes)


_SERVICE_STEPS = get_args(ServiceStep)


def _target_nodes(spec: ClusterSpec, state: ClusterState, wanted: Wanted) -> int:
    have = max(len(state.nodes), state.server.nodes if state.server else 0)
    if not wanted.cluster:
        return have
    if spec.nodes < have:
        raise ScaleInRefused(have, spec.nodes)
    return spec.nodes


def _strategy(state: ClusterState, wanted: Wanted) -> Strategy:
    try:
        return state.strategy(wanted.strategy)
    except KeyError:
        known = ", ".join(sorted(strategy.name for strategy in state.strategies))
        raise Refused(
            f"There is no rebalance strategy {wanted.strategy!r} on this cluster. Use one of: {known}."
        ) from None


def _joined(node: Node, wanted: Wanted) -> Node:
    """A node that Azure is still adding counts as joined in the prediction: AwaitNodes comes before the rebalance."""
    if wanted.cluster and not node.joined and node.group_id != 0:
        return Node(node.node_id, node.group_id, node.host, node.port, True, True, True)
    return node


def settle(state: ClusterState, wanted: Wanted) -> list[ClusterStep]:
    """What is in flight already is followed to its end first."""
    steps: list[ClusterStep] = []
    if state.server is not None and wanted.cluster and state.server.state != "Ready":
        steps.append(SettleServer(state.server.state))
    if state.job is not None and state.job.in_flight and (wanted.cluster or wanted.rebalance):
        steps.append(FollowRebalance(state.job.job_id))
    return steps


def _grow(state: ClusterState, nodes: int, wanted: Wanted) -> list[ClusterStep]:
    if not wanted.cluster:
        return []
    steps: list[ClusterStep] = []
    if state.server is not None and state.server.nodes < nodes:
        steps.append(ResizeCluster(state.server.nodes, nodes))
    if sum(node.joined for node in state.nodes) < nodes:
        steps.append(AwaitNodes(nodes))
    return steps


def _undo_plan(state: ClusterState, wanted: Wanted, run: UndoOf) -> Plan:
    """Back behind one run, by direct moves: only they make exactly the moves that they are told."""
    steps: list[ClusterStep] = settle(state, wanted)
    back = undo(run.run_id, run.moves, state) if not steps else ()
    pinned = held_pins(state.shard_groups, state.nodes, state.pins)
    moves = tuple(move for move in back if move.shard_id not in pinned)
    if moves:
        at_once, per_node = executors_for(moves, wanted.parallel)
        limits = at_once, per_node, wanted.max_pause
        steps.append(
            MoveShards("", wanted.transfer_mode, moves, *limits, exactly=True, verify=comparable(state, wanted))
        )
    if steps:
        shard_ids = tuple(sorted(group.shard_id for group in state.shard_groups))
        steps.append(VerifyCluster(len(state.nodes), shard_ids))
    note = () if steps or back else (f"Everything that run {run.run_id} moved is where it was before.",)
    if len(moves) < len(back):
        note = (*note, *pin_notes(state))
    before = node_loads(state.nodes, state.shard_groups)
    placed = after(state.shard_groups, moves)
    return Plan(tuple(steps), before, node_loads(state.nodes, placed), moves, note)


def _way(spec: ClusterSpec, state: ClusterState, wanted: Wanted, moves: Sequence[Move]) -> Choice | None:
    """None where there is nothing to choose."""
    if not moves or (wanted.moves == "job" and not wanted.guarded):
        return None
    executors = executors_for(moves, wanted.parallel)
    pins = held_pins(state.shard_groups, state.nodes, state.pins)
    choice = choose(
        moves,
        state.shard_groups,
        asked="direct" if wanted.guarded or pins else wanted.moves,
        mode=wanted.transfer_mode,
        max_pause=wanted.max_pause,
        executors=executors,
        settings=state.server is not None
        and any(wished > now for wished, now in zip(executors, state.executors, strict=True)),
        runs=state.timings,
        defaults=defaults_for(spec),
    )
    return with_pins(choice, pins)


def _rebalance(
    state: ClusterState, wanted: Wanted, strategy: Strategy, moves: Sequence[Move], choice: Choice | None
) -> list[ClusterStep]:
    steps: list[ClusterStep] = []
    kept = dict(state.kept_settings)
    # What a job in flight leaves undone is planned when it has ended: Citus refuses to start a second one.
    if moves and not (state.job is not None and state.job.in_flight):
        at_once, per_node = executors_for(moves, wanted.parallel)
        if choice is not None and choice.way == "direct":
            limits, verify = (at_once, per_node, wanted.max_pause), comparable(state, wanted)
            planned = MoveShards(strategy.name, wanted.transfer_mode, tuple(moves), *limits, verify=verify)
            return [planned, *_put_back(state, kept)]
        raised = max(at_once, state.executors[0]), max(per_node, state.executors[1])
        if state.server is not None and raised != state.executors:
            steps.append(RaiseExecutors(*raised))
            kept = dict(zip((AT_ONCE, PER_NODE), map(str, state.executors), strict=True)) | kept
        steps.append(RebalanceShards(strategy.name, wanted.transfer_mode, tuple(moves), max(raised) > 1))
    return [*steps, *_put_back(state, kept)]


def comparable(state: ClusterState, wanted: Wanted) -> Verify:
    """The stand-in's placement is simulated: there are no two copies to compare."""
    return "off" if state.simulated else wanted.verify


def _put_back(state: ClusterState, kept: dict[str, str]) -> list[ClusterStep]:
    return [RestoreSettings(tuple(sorted(kept.items())))] if kept and state.server is not None else []


def executors_for(moves: Sequence[Move], parallel: int | None) -> tuple[int, int]:
    """The two executor settings: moves at once, and moves per node. A move counts against its source and its target.

    So the side with fewer nodes limits what can run at once, whatever the first setting says.
    """
    narrow = min(len({move.source for move in moves}), len({move.target for move in moves})) or 1
    at_once = parallel or min(MOVES_PER_NODE * narrow, MOST_AT_ONCE, len(moves))
    return at_once, max(1, ceil(at_once / narrow))


def _notes(
    state: ClusterState, wanted: Wanted, strategy: Strategy, prediction: Prediction, nodes: Sequence[Node]
) -> tuple[str, ...]:
    notes = []
    unknown = [group for group in state.shard_groups if group.bytes is None]
    if unknown and wanted.rebalance:
        notes.append(
            f"The size of {len(unknown)} of {len(state.shard_groups)} shard groups cannot be read: the administrator "
            "lacks USAGE on some schema of their node. `orchestrator apply` makes it a member of every service's role; "
            f"with unknown sizes Citus itself refuses to rebalance {strategy.name}."
        )
    if state.job is not None and state.job.in_flight:
        notes.append(
            f"Rebalance job {state.job.job_id} is already running; what it leaves is planned when it has ended."
        )
    elif wanted.rebalance and not prediction.moves:
        notes.append(explain_no_moves(state.shard_groups, strategy, prediction, nodes))
    return (*notes, *(pin_notes(state) if wanted.rebalance else ()))


def explain_no_moves(
    groups: Sequence[ShardGroup], strategy: Strategy, prediction: Prediction, nodes: Sequence[Node]
) -> str:
    """Why Citus answers "No moves available": in the user's words, with what would change it."""
    eligible = sum(node.should_have_shards for node in nodes)
    if not groups:
        return "No moves available: no distributed schema or table holds any data yet."
    if len(groups) < eligible:
        return (
            f"No moves available: {count(len(groups), 'shard group')} cannot be spread over {eligible} nodes; "
            "a shard group (here: one schema) moves as a whole."
        )
    if prediction.ignored:
        return (
            f"No moves available: {count(prediction.ignored, 'possible move')} would improve the balance by less than "
            f"improvement_threshold = {strategy.improvement_threshold:g} of what is moved."
        )
    base = strategy.base_cost
    if strategy.by_size and all((group.bytes or 0) < base for group in groups):
        return (
            f"No moves available: every shard group counts as {base // 2**20} MB plus its own bytes "
            "(citus.rebalancer_by_disk_size_base_cost), so small ones are spread by number, and they are spread evenly "
            f"over {eligible} nodes already, within {strategy.threshold:.0%}."
        )
    return f"No moves available: every node is within {strategy.threshold:.0%} of the average by {strategy.name}."
