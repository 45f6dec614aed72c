"""How long a plan will take, with a band: defaults measured once, corrected by what this cluster's own runs took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.core.moves.cost import Defaults, makespan, move_cost
from orchestrator.core.moves.moving import direct_moves
from orchestrator.core.moves.ways import direct_seconds
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.observed.timing import RunTiming
from orchestrator.core.planning.plan import Plan
from orchestrator.core.planning.steps import (
    AwaitNodes,
    MoveShards,
    RaiseExecutors,
    RebalanceShards,
    ResizeCluster,
    RestoreSettings,
    SplitTenant,
)

# Only this many of the latest runs count: sizes, load and the service itself change.
LATEST = 5


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a run: likely seconds, and the band in which they lie."""

    name: str
    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """`runs` is the number of this cluster's own runs that it rests on; 0 means defaults only."""

    parts: tuple[Part, ...]
    runs: int

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    @property
    def low(self) -> float:
        return sum(part.low for part in self.parts)

    @property
    def high(self) -> float:
        return sum(part.high for part in self.parts)


def estimate(plan: Plan, state: ClusterState, defaults: Defaults) -> Estimate:
    """The parts of the plan that take time. Empty for a plan without any."""
    runs = state.timings[-LATEST:]
    parts: list[Part] = []
    executors = state.executors
    settings = 0
    for step in plan.steps:
        match step:
            case ResizeCluster():
                parts.append(_resize(step.after - step.before, len(state.shard_groups), runs, defaults))
            case AwaitNodes():
                added = step.nodes - sum(node.joined for node in state.nodes)
                parts.append(_join(added, len(state.shard_groups), runs, defaults))
            case RaiseExecutors():
                executors = step.at_once, step.per_node
                settings += 1
            case RestoreSettings():
                settings += 1
            case RebalanceShards():
                parts.append(_moves(step, executors, runs, defaults))
            case SplitTenant():
                parts.append(_split(step, defaults))
            case MoveShards():
                parts.append(_direct(step, state, runs, defaults))
    if settings:
        parts.append(_settings(settings, runs, defaults))
    return Estimate(tuple(parts), len(runs))


def resize_default(added: int, groups: int, defaults: Defaults) -> float:
    return defaults.resize + added * (defaults.per_new_node + (defaults.sync_per_group * groups))


def _resize(added: int, groups: int, runs: Sequence[RunTiming], defaults: Defaults) -> Part:
    factor = _factor(
        runs,
        lambda run: run.resize_seconds,
        lambda run: resize_default(run.nodes_after - run.nodes_before, run.shard_groups, defaults),
    )
    return _part("add nodes", resize_default(added, groups, defaults), factor, defaults)


def _join(added: int, groups: int, runs: Sequence[RunTiming], defaults: Defaults) -> Part:
    """Nodes that ARM calls ready have mostly joined already; at worst all metadata is still to be synced."""
    worst = added * defaults.sync_per_group * groups
    seen = [run.join_seconds for run in runs if run.join_seconds is not None]
    return Part("nodes join", median(seen) if seen else 0.5, 0.0, max([worst, 1.0, *seen]))


def _settings(changes: int, runs: Sequence[RunTiming], defaults: Defaults) -> Part:
    factor = _factor(runs, lambda run: run.settings_seconds, lambda _: defaults.settings)
    return _part("settings for parallel moves", defaults.settings * changes / 2, factor, defaults)


def _moves(step: RebalanceShards, executors: tuple[int, int], runs: Sequence[RunTiming], defaults: Defaults) -> Part:
    cost = move_cost(step.transfer_mode, min(executors[0], len(step.moves)), runs, defaults)
    # Citus looks for work every 5 s: one short or long wait says little about the next, many do.
    leads = [defaults.lead] * 2 + [run.lead_seconds for run in runs if run.lead_seconds is not None]
    lead = sum(leads) / len(leads)
    seconds = lead + makespan(step.moves, cost, executors)
    low, high = _band(runs, step.transfer_mode, defaults)
    return Part("move shard groups", seconds, seconds * low, seconds * high)


def _split(step: SplitTenant, defaults: Defaults) -> Part:
    """Citus copies the shard into its parts, beside itself: as long as a move of it takes."""
    seconds = defaults.moves[step.transfer_mode].seconds(step.bytes)
    return Part("split the shard", seconds, seconds * defaults.band[0], seconds * defaults.band[1])


def _direct(step: MoveShards, state: ClusterState, runs: Sequence[RunTiming], defaults: Defaults) -> Part:
    planned = direct_moves(step.moves, state.shard_groups, step.transfer_mode, step.max_pause)
    seconds = direct_seconds(planned, (step.at_once, step.per_node), runs, defaults)
    low, high = _band(runs, "direct", defaults)
    return Part("move shard groups", seconds, seconds * low, seconds * high)


def _factor(
    runs: Sequence[RunTiming], seen: Callable[[RunTiming], float | None], known: Callable[[RunTiming], float]
) -> float | None:
    """What was observed over what the defaults say; None where nothing was observed."""
    ratios = [value / known(run) for run in runs if (value := seen(run)) is not None and known(run) > 0]
    return median(ratios) if ratios else None


def _part(name: str, default: float, factor: float | None, defaults: Defaults) -> Part:
    if factor is None:
        return Part(name, default, default * defaults.band[0], default * defaults.band[1])
    return Part(name, default * factor, default * factor * 0.7, default * factor * 1.5)


def _band(runs: Sequence[RunTiming], mode: str, defaults: Defaults) -> tuple[float, float]:
    """Once runs of this mode were observed: as far off as earlier estimates were, and never narrower than a quarter.

    `direct` is any mode of direct moves: one run has moves of more than one.
    """
    ratios = [run.seconds / run.estimated_seconds for run in runs[1:] if run.estimated_seconds > 0]
    if not any(mode in (run.transfer_mode, run.transfer_mode.partition(" ")[0]) and run.moves for run in runs):
        return defaults.band
    return max(0.4, min([0.75, *ratios])), min(3.0, max([1.35, *ratios]))
