"""Where direct moves stand: what waits, what runs, what has ended, and how that is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.events import MovesTimed, StepProgress
from orchestrator.core.moves.cost import AZURE, fit, span
from orchestrator.core.moves.guard import Pace
from orchestrator.core.moves.moving import DirectMove, MoveResult, held_writes, next_moves
from orchestrator.core.planning.steps import MoveShards

# What waited for longer than the moves themselves took waited for others or the load guard: no other run will.
MOST_BESIDE = 2.0


@dataclass(slots=True)
class Moving:
    """The state of one step: what waits, what runs, what has ended. Times in seconds since the start of the run."""

    step: MoveShards
    waiting: list[DirectMove]
    began: float
    running: dict[int, tuple[DirectMove, float]] = field(default_factory=dict)
    done: list[tuple[DirectMove, MoveResult]] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    tries: dict[int, int] = field(default_factory=dict)
    retry_at: dict[int, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    held_up: int = 0
    tried_again: int = 0
    stopping: bool = False
    ended: float = 0.0
    room: int = 1
    well: int = 0
    pace: Pace = field(default_factory=Pace)

    @property
    def total(self) -> int:
        return len(self.done) + len(self.running) + len(self.waiting)

    def ready(self, now: float) -> tuple[DirectMove, ...]:
        """Nothing more once a move has failed for good, or somebody asked to stop: what runs may end."""
        if self.failures or self.stopping:
            return ()
        at_once = min(self.room, self.pace.at_once(self.step.at_once))
        not_yet = {shard_id for shard_id, at in self.retry_at.items() if at > now}
        running = [move for move, _ in self.running.values()]
        return next_moves(self.waiting, running, at_once, self.step.per_node, not_yet)


def progress(number: int, moving: Moving, now: float) -> StepProgress:
    done_bytes = sum(move.bytes or 0 for move, _ in moving.done)
    all_bytes = done_bytes + sum(move.bytes or 0 for move in moving.waiting)
    all_bytes += sum(move.bytes or 0 for move, _ in moving.running.values())
    left = None
    if moving.done:
        left = (now - moving.began) / len(moving.done) * (moving.total - len(moving.done))
    return StepProgress(number, doing(moving), len(moving.done), moving.total, done_bytes, all_bytes, left)


def doing(moving: Moving) -> str:
    names = [move.name for move, _ in list(moving.running.values())[:4]]
    more = len(moving.running) - len(names)
    if moving.stopping:
        return "stopping, as asked for"
    if not names:
        reason = f"for the load guard: {moving.pace.reason}" if moving.pace.share == 0 else "to be tried again"
        return f"{len(moving.waiting)} moves wait {reason}"
    return "moving " + ", ".join(names) + (f" and {more} more" if more else "")


def account(moving: Moving) -> str:
    if not moving.done:
        return "no moves available"
    held = [(pause, move.max_pause) for move, result in moving.done if (pause := held_writes(move, result)) is not None]
    text = f"{len(moving.done)} direct moves"
    if held:
        text += f", {len(held)} of them with writes held for at most {max(pause for pause, _ in held) * 1000:.0f} ms"
    if late := sum(most is not None and pause > most for pause, most in held):
        text += f" ({late} longer than asked for: their commits took longer than earlier ones)"
    if moving.tried_again:
        text += f"; {moving.tried_again} tries were repeated, {moving.held_up} of them held up by other transactions"
    return text


def why(moving: Moving) -> str:
    return (
        f"{len(moving.failures)} of {moving.total + len(moving.failures)} moves failed; {len(moving.done)} are done "
        f"and stay done. {'; '.join(moving.failures[:5])}. Mend the cause and run the same command to move the rest."
    )


def timed(number: int, moving: Moving) -> MovesTimed:
    """What these moves tell for the next ones: those of the mode that most of them had.

    Tries that came to nothing and fewer at once than planned take their time too: each move counts for its part of it.
    """
    tiny = [(move, result) for move, result in moving.done if move.mode == "block_writes"]
    chosen = tiny if len(tiny) * 2 >= len(moving.done) else [pair for pair in moving.done if pair not in tiny]
    known = AZURE.moves[f"direct {chosen[0][0].mode}"]
    in_order = sorted(moving.done, key=lambda pair: pair[0].number)
    lengths = [result.seconds for _, result in in_order]
    seconds = moving.ended - moving.began
    without_more = span([move for move, _ in in_order], lengths, (moving.step.at_once, moving.step.per_node))
    more = min(MOST_BESIDE, max(1.0, seconds / without_more)) if without_more else 1.0
    fixed, per_byte = fit([(move.bytes or 0, result.seconds * more) for move, result in chosen], known)
    moved = sum(move.bytes or 0 for move, _ in moving.done)
    mode = chosen[0][0].mode
    return MovesTimed(number, None, len(moving.done), moved, 0.0, round(seconds, 3), fixed, per_byte, mode)
