"""How long a plan will take, with a band: defaults measured once, corrected by what this cluster's own runs took.

A move takes a fixed time, which dominates with small tenants, plus its bytes over a throughput; several run at once, as
far as the executor settings let each node take part. Pure: times come in as numbers and go out as numbers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.core.placement import Move
from orchestrator.core.plan import Plan
from orchestrator.core.spec import ClusterSpec
from orchestrator.core.state import ClusterState
from orchestrator.core.steps import AwaitNodes, RaiseExecutors, RebalanceShards, ResizeCluster, RestoreSettings
from orchestrator.core.timing import RunTiming

MB = 2**20
# Only this many of the latest runs count: sizes, load and the service itself change.
LATEST = 5
# Above this number of moves the order in which they fit makes no difference that is worth computing.
SCHEDULED = 1000


@dataclass(frozen=True, slots=True)
class MoveCost:
    """Seconds of one move: `fixed`, plus `per_byte` for each byte."""

    fixed: float
    per_byte: float

    def seconds(self, size: int | None) -> float:
        return self.fixed + self.per_byte * (size or 0)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Seconds before anything was observed. `band` is how far off they may be, as factors.

    `one_machine` says that all nodes share one machine, so that moves which run at once slow each other down.
    """

    resize: float
    per_new_node: float
    sync_per_group: float
    settings: float
    lead: float
    moves: dict[str, MoveCost]
    band: tuple[float, float]
    one_machine: bool = False


# Moves: measured on Citus 13.2.2 over loopback (bench/estimate.py). Metadata sync: 7 ms per shard group and node.
_MOVES = {
    "auto": MoveCost(2.5, 1 / (60 * MB)),
    "force_logical": MoveCost(2.5, 1 / (60 * MB)),
    "block_writes": MoveCost(0.6, 1 / (100 * MB)),
}
# Azure: one recorded scale-out from 2 to 4 nodes took 4 to 5 minutes, a change of a setting up to a minute.
AZURE = Defaults(270.0, 0.0, 0.007, 60.0, 3.0, _MOVES, (0.5, 2.5))
LAB = Defaults(1.0, 1.5, 0.007, 2.0, 3.0, _MOVES, (0.5, 2.0), one_machine=True)
# So many moves at once ran when the defaults were measured.
MEASURED_AT_ONCE = 4


def defaults_for(spec: ClusterSpec) -> Defaults:
    """A lab's servers start in seconds, Azure's in minutes."""
    return LAB if spec.endpoint is not None and spec.endpoint.engine is not None else AZURE


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


def move_cost(mode: str, at_once: int, runs: Sequence[RunTiming], defaults: Defaults) -> MoveCost:
    """As observed in runs with the same transfer mode; what they could not tell is the default.

    On one machine twice as many moves at once take twice as long for their bytes, and half as long again for the rest
    (measured: 4 at once against 8).
    """
    known = defaults.moves[mode]

    def crowded(then: int) -> float:
        return max(1, at_once) / max(1, then) if defaults.one_machine else 1.0

    same = [(run, crowded(min(run.at_once, run.moves))) for run in runs if run.transfer_mode == mode]
    fixed = [run.fixed_seconds * more**0.5 for run, more in same if run.fixed_seconds is not None]
    per_byte = [run.seconds_per_byte * more for run, more in same if run.seconds_per_byte is not None]
    more = crowded(MEASURED_AT_ONCE)
    return MoveCost(
        median(fixed) if fixed else known.fixed * more**0.5, median(per_byte) if per_byte else known.per_byte * more
    )


def makespan(moves: Sequence[Move], cost: MoveCost, executors: tuple[int, int]) -> float:
    """Seconds from the first move to the end of the last, with so many at once and so many per node.

    As Citus does it: in the order of the plan, whichever fits first; a move counts on its source and its target, and
    waits for every earlier one that leaves its target.
    """
    at_once, per_node = max(1, executors[0]), max(1, executors[1])
    lengths = [cost.seconds(move.bytes) for move in moves]
    if len(moves) > SCHEDULED:
        on_node: Counter[int] = Counter()
        for move, length in zip(moves, lengths, strict=True):
            on_node[move.source] += length  # type: ignore[assignment]
            on_node[move.target] += length  # type: ignore[assignment]
        return max(max(lengths), sum(lengths) / at_once, max(on_node.values()) / per_node)
    return _schedule(list(zip(moves, lengths, strict=True)), at_once, per_node)


def _schedule(moves: list[tuple[Move, float]], at_once: int, per_node: int) -> float:
    waiting = list(enumerate(moves))
    running: list[tuple[float, int, Move]] = []
    busy: Counter[int] = Counter()
    now = 0.0
    while waiting or running:
        later = []
        left_by: set[int] = set()
        for number, (move, length) in waiting:
            room = len(running) < at_once and busy[move.source] < per_node and busy[move.target] < per_node
            held = move.target in left_by or any(
                other.source == move.target and earlier < number for _, earlier, other in running
            )
            if room and not held:
                heapq.heappush(running, (now + length, number, move))
                busy.update((move.source, move.target))
            else:
                later.append((number, (move, length)))
                left_by.add(move.source)
        waiting = later
        now, _, ended = heapq.heappop(running)
        busy.subtract((ended.source, ended.target))
    return now


def fit(samples: Iterable[tuple[int, float]], known: MoveCost) -> tuple[float | None, float | None]:
    """The fixed seconds of a move and the seconds per byte that (bytes, seconds) of moves show; least squares.

    Either is None where the moves cannot tell it apart from the other: then it is held at what was known.
    """
    moves = list(samples)
    total, total_bytes = sum(seconds for _, seconds in moves), sum(size for size, _ in moves)
    if not moves or total <= 0:
        return None, None
    count, expected_for_bytes = len(moves), known.per_byte * total_bytes
    if expected_for_bytes < 0.2 * total:
        return max(0.0, (total - expected_for_bytes) / count), None
    mean_bytes, mean = total_bytes / count, total / count
    spread = sum((size - mean_bytes) ** 2 for size, _ in moves)
    if count < 3 or spread < 0.1 * count * mean_bytes**2:
        return None, max(0.0, total - known.fixed * count) / total_bytes or None
    slope = sum((size - mean_bytes) * (seconds - mean) for size, seconds in moves) / spread
    slope = min(max(slope, 0.0), mean / mean_bytes)
    return mean - slope * mean_bytes, slope or None


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
    """Once runs of this mode were observed: as far off as earlier estimates were, and never narrower than a quarter."""
    ratios = [run.seconds / run.estimated_seconds for run in runs[1:] if run.estimated_seconds > 0]
    if not any(run.transfer_mode == mode and run.moves for run in runs):
        return defaults.band
    return max(0.4, min([0.75, *ratios])), min(3.0, max([1.35, *ratios]))
