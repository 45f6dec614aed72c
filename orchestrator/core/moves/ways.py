"""Which of the two ways to move is faster: Citus' background job, or moves of our own. Pure.

The job needs two server parameters to move several groups at once, looks for work every 5 s, and copies every group in
the same mode; but it goes on when the laptop that started it is closed. So it is chosen unless it is clearly slower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.core.moves.cost import Defaults, move_cost, span
from orchestrator.core.moves.moving import DirectMove, direct_moves
from orchestrator.core.observed.state import ShardGroup
from orchestrator.core.observed.timing import RunTiming
from orchestrator.core.planning.placement import Move
from orchestrator.core.planning.steps import TransferMode
from orchestrator.core.size import duration

Way: TypeAlias = Literal["job", "direct"]
Moves: TypeAlias = Literal["auto", "job", "direct"]
# Direct moves end with the process that makes them: they have to be worth that.
CLEARLY_FASTER = 1.2


@dataclass(frozen=True, slots=True)
class Choice:
    """The way, and a sentence that says why. Seconds are those of the moves and of what prepares them."""

    way: Way
    why: str
    direct_seconds: float
    job_seconds: float


def choose(
    moves: Sequence[Move],
    groups: Sequence[ShardGroup],
    *,
    asked: Moves,
    mode: TransferMode,
    max_pause: float,
    executors: tuple[int, int],
    settings: bool,
    runs: Sequence[RunTiming],
    defaults: Defaults,
) -> Choice:
    """`executors`: how many moves run at once, and per node; `settings`: whether the job needs them raised first."""
    planned = direct_moves(moves, groups, mode, max_pause)
    direct = direct_seconds(planned, executors, runs, defaults)
    cost = move_cost(mode, min(executors[0], len(moves)), runs, defaults)
    job = defaults.lead + span(moves, [cost.seconds(move.bytes) for move in moves], executors)
    job += defaults.settings if settings else 0.0
    times = f"about {duration(direct)} direct, {duration(job)} as Citus' background job"
    if asked != "auto":
        return Choice(asked, f"Moves: {asked}, as asked for ({times}).", direct, job)
    if direct * CLEARLY_FASTER < job:
        return Choice("direct", f"Moves: direct, {_what(planned, max_pause)} ({times}).", direct, job)
    return Choice("job", f"Moves: Citus' background job, which goes on by itself ({times}).", direct, job)


def direct_seconds(
    moves: Sequence[DirectMove], executors: tuple[int, int], runs: Sequence[RunTiming], defaults: Defaults
) -> float:
    """A mode's moves are slowed down by as many others as there are of it: the tiny ones are over before the others."""
    costs = {
        mode: move_cost(f"direct {mode}", min(executors[0], count), runs, defaults)
        for mode, count in Counter(move.mode for move in moves).items()
    }
    return span(moves, [costs[move.mode].seconds(move.bytes) for move in moves], executors)


def _what(moves: Sequence[DirectMove], max_pause: float) -> str:
    by_mode = Counter(move.mode for move in moves)
    tiny = by_mode["block_writes"]
    if tiny == 0:
        return "several at once without a change of server parameters"
    pause = f"with writes to each held for less than {max_pause * 1000:.0f} ms"
    if tiny == len(moves):
        return f"because all {tiny} shard groups are small enough to be copied {pause}"
    return f"because {tiny} of {len(moves)} shard groups are small enough to be copied {pause}"
