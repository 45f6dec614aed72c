"""Direct moves: start what may run together, look what has ended, try again what is worth it. Never sleeps.

Level-triggered like everything here: what is to move is asked of Citus when the step begins, a move whose outcome is
not known is sent again (Citus answers "already present"), and what a killed run left under way is waited out first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from orchestrator.core.errors import (
    ClusterUnreachable,
    ConnectionLost,
    OrchestratorError,
    RebalanceFailed,
    Stopped,
    VerificationFailed,
)
from orchestrator.core.events import LatencySeen, MoveEnded, MoveStarted, Notice, Waiting
from orchestrator.core.moves.guard import BASELINE_FOR, Limits, first_pace, next_pace, p99, usual_p99
from orchestrator.core.moves.moving import (
    DirectMove,
    MoveResult,
    after_failure,
    direct_moves,
    held_writes,
    next_room,
)
from orchestrator.core.moves.runs import RecordedMove
from orchestrator.core.planning.steps import MoveShards
from orchestrator.workflow.checking import checked
from orchestrator.workflow.choosing import what_to_move
from orchestrator.workflow.moving_state import Moving, account, doing, progress, timed, why
from orchestrator.workflow.protocols import Checks, Database, Gauge, Mover, Record
from orchestrator.workflow.rebalance import copy_reference_tables
from orchestrator.workflow.waiting import NO_TIMEOUT, Pause, Run, when_connected

# A session whose client is gone notices within seconds; a move that is in its last phase still ends.
STRAGGLERS_TIMEOUT = 600.0
LEFTOVERS_TIMEOUT = 60.0
PROBE_TIMEOUT = 60.0
# Tiny moves end within tens of milliseconds: a longer nap between looks would be most of their time.
SHORT_LOOK, LONG_LOOK = 0.005, 0.25
PROGRESS_EVERY = 0.5
# What waits to be tried again is looked through this often where nothing has ended.
START_EVERY = 0.05
# So often somebody may ask to stop, and the guard may change its mind.
LOOK_AROUND_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Oversight:
    """What watches over the moves: the record of the run, in which somebody may ask to stop, the load guard with what
    it looks at, and the checks around them."""

    record: Record | None = None
    limits: Limits = field(default_factory=Limits)
    gauge: Gauge | None = None
    checks: Checks | None = None


def move_shards(
    number: int, step: MoveShards, mover: Mover, database: Database, oversight: Oversight | None = None
) -> Run[str]:
    """Raises RebalanceFailed with the cause when a move cannot succeed, Stopped when somebody asked for that."""
    over = oversight or Oversight()
    yield from wait_for_stragglers(mover)
    if not step.exactly and mover.reference_tables_missing():
        yield from copy_reference_tables(number, step, database)
    state = yield from when_connected(database.observe, "read the cluster")
    moves = yield from what_to_move(step, mover, state)
    queue = direct_moves(moves, state.shard_groups, step.transfer_mode, step.max_pause, step.verify)
    over = (yield from _with_ceiling(over)) if queue else over
    now = yield Waiting(0, "the moves start", NO_TIMEOUT)
    pace = first_pace(over.limits if over.gauge is not None else Limits(), now)
    moving = Moving(step, list(queue), now, room=step.at_once, pace=pace)
    if queue and pace.share < 1:
        yield Notice("Moves begin slowly: the load guard first sees what they do to the load.")
    if queue and over.record is not None:
        in_order = sorted(queue, key=lambda move: move.number)
        over.record.add("direct", [RecordedMove(m.shard_id, m.source, m.target, m.name) for m in in_order])
    wrong: VerificationFailed | None = None
    try:
        yield from checked(number, over.checks if queue else None, _until_over(number, moving, mover, over))
    except VerificationFailed as error:
        wrong = error
    yield from clean_up(mover)
    if queue and over.record is not None:
        with suppress(OrchestratorError):
            over.record.end("failed" if moving.failures or wrong else "stopped" if moving.stopping else "done")
    if wrong is not None:
        raise wrong
    if moving.failures:
        raise RebalanceFailed(why(moving))
    if moving.stopping:
        raise Stopped(len(moving.done), moving.total)
    if moving.done:
        yield timed(number, moving)
    return account(moving)


def _with_ceiling(over: Oversight) -> Run[Oversight]:
    """Where the limit is a multiple of the usual latency, that is measured first. Fails where no probe is answered."""
    times = over.limits.times
    if over.gauge is None or times is None:
        return over
    reason = f"the load guard measures the probe's usual latency for {BASELINE_FOR:.0f} s, before anything moves"
    began = now = yield Waiting(0, reason, NO_TIMEOUT)
    yield Notice(f"{reason[0].upper()}{reason[1:]}.")
    while (usual := usual_p99(over.gauge.signals(now).looks, now)) is None or now - began < BASELINE_FOR:
        now = yield Waiting(0.5, reason, BASELINE_FOR + PROBE_TIMEOUT, began)
    limit = round(usual * times, 1)
    yield Notice(f"The probe's p99 is {usual:.1f} ms without moves: moves slow down where it is above {limit:g} ms.")
    return replace(over, limits=replace(over.limits, max_p99=limit, times=None))


def _until_over(number: int, moving: Moving, mover: Mover, over: Oversight) -> Run[None]:
    pause = Pause(SHORT_LOOK, LONG_LOOK)
    now = moving.began
    told = looked = now - PROGRESS_EVERY
    start_at = now
    while moving.waiting or moving.running:
        if now - looked >= LOOK_AROUND_EVERY:
            looked = now
            yield from _look_around(moving, mover, over, now)
        results = mover.ended()
        for result in results:
            moving.ended = now
            yield from _settle(number, moving, result, mover, now)
        if results or now >= start_at:
            start_at = now + START_EVERY
            yield from _start(number, moving, mover, now)
        if (moving.failures or moving.stopping) and not moving.running:
            return
        if results:
            pause = Pause(SHORT_LOOK, LONG_LOOK)
        if now - told >= PROGRESS_EVERY:
            told = now
            yield progress(number, moving, now)
        now = yield Waiting(pause.next(), doing(moving), NO_TIMEOUT)


def _look_around(moving: Moving, mover: Mover, over: Oversight, now: float) -> Iterator[LatencySeen | Notice]:
    """Ask for a wish to stop, and the guard for the pace. A record out of reach is asked again the next time."""
    if over.record is not None and not moving.stopping:
        with suppress(ConnectionLost, ClusterUnreachable):
            moving.stopping = over.record.stop_requested()
        if moving.stopping:
            mover.cancel()
    if over.gauge is None:
        return
    signals = over.gauge.signals(now)
    before, moving.pace = moving.pace, next_pace(moving.pace, over.limits, signals, now, bool(moving.running))
    seen = p99(signals.looks, now)
    if seen is not None:
        yield LatencySeen(round(seen, 2), moving.pace.state)
    if before.state != moving.pace.state:
        words = {"going": "go on as before", "slowed": "are slowed down", "paused": "are paused"}
        because = f": {moving.pace.reason}" if moving.pace.reason else ""
        yield Notice(f"Moves {words[moving.pace.state]}{because}.")


def _start(number: int, moving: Moving, mover: Mover, now: float) -> Iterator[MoveStarted | Notice]:
    for move in moving.ready(now):
        try:
            mover.start(move)
        except ClusterUnreachable as error:
            yield from _again(moving, move, MoveResult(move.shard_id, "lost", 0.0, str(error)), "", now)
            return
        moving.waiting.remove(move)
        moving.running[move.shard_id] = move, now
        if move.shard_id not in moving.told:
            moving.told.add(move.shard_id)
            yield MoveStarted(
                number, move.shard_id, move.name, move.source, move.target, move.bytes, move.mode, "direct"
            )


def _settle(number: int, moving: Moving, result: MoveResult, mover: Mover, now: float) -> Iterator[MoveEnded | Notice]:
    move, _ = moving.running.pop(result.shard_id)
    pause = held_writes(move, result)
    late = pause is not None and move.max_pause is not None and pause > move.max_pause
    slow = result.outcome == "slow" or late
    if slow or result.outcome == "done":
        moving.room, moving.well = next_room(moving.room, moving.well, slow, moving.step.at_once)
    if result.outcome == "done":
        moving.done.append((move, result))
        yield MoveEnded(number, move.shard_id, "done", result.seconds, pause, result.compared)
        return
    moving.waiting.insert(0, move)
    if moving.stopping:
        yield MoveEnded(number, move.shard_id, "failed", result.seconds)
        return
    blocker = ""
    if result.outcome == "blocked":
        with suppress(OrchestratorError):
            blocker = mover.blocker(move.shard_id)
    yield from _again(moving, move, result, blocker, now)
    if moving.failures and move not in moving.waiting:
        yield MoveEnded(number, move.shard_id, "failed", result.seconds)


def _again(moving: Moving, move: DirectMove, result: MoveResult, blocker: str, now: float) -> Iterator[Notice]:
    """Put the move back for later, or note down why it will not succeed."""
    tries = moving.tries[move.shard_id] = moving.tries.get(move.shard_id, 0) + 1
    retry = after_failure(move, result, tries)
    place = moving.waiting.index(move)
    cause = f"{move.name}: {result.text.rstrip('.')}" + (f"; held up by {blocker}" if blocker else "")
    if retry is None:
        moving.waiting.pop(place)
        times = f" ({tries} tries)" if tries > 1 else ""
        moving.failures.append(cause + times)
        return
    moving.tried_again += 1
    moving.held_up += result.outcome == "blocked"
    moving.waiting[place] = retry.move
    moving.retry_at[move.shard_id] = now + retry.seconds
    if tries == 1 and result.outcome in {"blocked", "lost", "busy"}:
        yield Notice(f"A move has to wait and is tried again: {cause}.")


def wait_for_stragglers(mover: Mover) -> Run[None]:
    pause = Pause(0.2, 2.0)
    began = yield Waiting(0, "look for moves of an earlier run", NO_TIMEOUT)
    told = False
    while count := (yield from when_connected(mover.under_way, "look for moves of an earlier run")):
        if not told:
            told = True
            yield Notice(f"{count} moves of an earlier run are still under way: waiting for their end.")
        yield Waiting(pause.next(), f"{count} moves of an earlier run end", STRAGGLERS_TIMEOUT, began)


def clean_up(mover: Mover) -> Run[None]:
    """Old copies are dropped now, not when Citus' daemon next comes by. What somebody still reads stays for it."""
    pause = Pause(0.2, 2.0)
    began = now = yield Waiting(0, "clean up", NO_TIMEOUT)
    while left := (yield from when_connected(mover.clean_up, "clean up after the moves")):
        if now - began > LEFTOVERS_TIMEOUT:
            yield Notice(
                f"{left} old copies could not be dropped because transactions still use them; Citus tries again "
                "every 15 s by itself."
            )
            return
        now = yield Waiting(pause.next(), f"{left} old copies are dropped", NO_TIMEOUT)
