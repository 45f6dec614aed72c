"""What a move costs and how long many of them take: defaults measured once, corrected by this cluster's own runs.

A move takes a fixed time, which dominates with small tenants, plus its bytes over a throughput; several run at once, as
far as each node may take part in so many. Pure: times come in as numbers and go out as numbers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.moves.moving import DirectMove
from orchestrator.core.observed.timing import RunTiming
from orchestrator.core.planning.placement import Move

MB = 2**20
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
    "direct auto": MoveCost(2.5, 1 / (60 * MB)),
    "direct force_logical": MoveCost(2.5, 1 / (60 * MB)),
    "direct block_writes": MoveCost(0.2, 1 / (100 * MB)),
}
# Azure: one recorded scale-out from 2 to 4 nodes took 4 to 5 minutes, a change of a setting up to a minute.
AZURE = Defaults(270.0, 0.0, 0.007, 60.0, 3.0, _MOVES, (0.5, 2.5))
LAB = Defaults(0.5, 0.9, 0.007, 2.0, 3.0, _MOVES, (0.5, 2.0), one_machine=True)
# So many moves at once ran when the defaults were measured.
MEASURED_AT_ONCE = 4


def defaults_for(spec: ClusterSpec) -> Defaults:
    """A lab's servers start in seconds, Azure's in minutes."""
    return LAB if spec.endpoint is not None and spec.endpoint.engine is not None else AZURE


def move_cost(mode: str, at_once: int, runs: Sequence[RunTiming], defaults: Defaults) -> MoveCost:
    """As observed in runs with the same transfer mode; what they could not tell is the default.

    On one machine twice as many moves at once take twice as long for their bytes, and half as long again for the rest
    (measured: 4 at once against 8); one alone copies no faster than beside another.
    """
    known = defaults.moves[mode]

    def crowded(then: int) -> float:
        return max(2, at_once) / max(2, then) if defaults.one_machine else 1.0

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
    return span(moves, [cost.seconds(move.bytes) for move in moves], executors)


def span(moves: Sequence[Move | DirectMove], lengths: Sequence[float], executors: tuple[int, int]) -> float:
    """The same for moves whose seconds are known."""
    if not moves:
        return 0.0
    at_once, per_node = max(1, executors[0]), max(1, executors[1])
    if len(moves) > SCHEDULED:
        on_node: Counter[int] = Counter()
        for move, length in zip(moves, lengths, strict=True):
            on_node[move.source] += length  # type: ignore[assignment]
            on_node[move.target] += length  # type: ignore[assignment]
        return max(max(lengths), sum(lengths) / at_once, max(on_node.values()) / per_node)
    return _schedule(list(zip(moves, lengths, strict=True)), at_once, per_node)


def _schedule(moves: list[tuple[Move | DirectMove, float]], at_once: int, per_node: int) -> float:
    waiting = list(enumerate(moves))
    running: list[tuple[float, int, Move | DirectMove]] = []
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
    if not total_bytes or expected_for_bytes < 0.2 * total:
        return max(0.0, (total - expected_for_bytes) / count), None
    mean_bytes, mean = total_bytes / count, total / count
    spread = sum((size - mean_bytes) ** 2 for size, _ in moves)
    if count < 3 or spread < 0.1 * count * mean_bytes**2:
        return None, max(0.0, total - known.fixed * count) / total_bytes or None
    slope = sum((size - mean_bytes) * (seconds - mean) for size, seconds in moves) / spread
    slope = min(max(slope, 0.0), mean / mean_bytes)
    return mean - slope * mean_bytes, slope or None
