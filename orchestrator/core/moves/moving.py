"""Direct moves: how each shard group is copied, which moves may run together, and what follows a failure. Pure.

The moves themselves are Citus' own plan. Moving them ourselves lets each group have the transfer mode that suits it:
a tiny one is copied faster than writers notice, while a logical move of the same nothing takes seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from orchestrator.core.events import TableCompared
from orchestrator.core.observed.state import ShardGroup
from orchestrator.core.planning.placement import Move
from orchestrator.core.planning.steps import TransferMode, Verify

MB = 2**20
# Seconds that writes wait while a group is copied with block_writes, some moves at once, on a small machine: measured
# 0.05 to 0.2 s for an empty table, 20 ms for each further one, 125 MB/s for the rows. Rounded to the careful side.
PAUSE_FIXED, PAUSE_PER_TABLE, PAUSE_PER_BYTE = 0.15, 0.02, 1 / (50 * MB)

Outcome: TypeAlias = Literal["done", "blocked", "slow", "busy", "lost", "cancelled", "refused"]


@dataclass(frozen=True, slots=True)
class DirectMove:
    """One statement of ours. `number` is its place in Citus' plan, from 0.

    `max_pause` is for how many seconds writes may wait for it; None leaves that to whoever asked for this mode.
    `whole_group` says that this shard group is all of its tables, as that of a schema is.
    """

    number: int
    shard_id: int
    source: int
    target: int
    bytes: int | None
    mode: TransferMode
    name: str
    max_pause: float | None = None
    verify: Verify = "quick"
    whole_group: bool = False


@dataclass(frozen=True, slots=True)
class MoveResult:
    """How a move ended, after how many seconds. `blocked`: others held locks; `slow`: it would have kept writers
    waiting for too long; `busy`: somebody moves the same group; `lost`: the connection broke, nobody knows.

    `pause` is for how many seconds writes were held by a move with block_writes, by the server's own clock.
    `compared` are the tables whose copies were read on both sides."""

    shard_id: int
    outcome: Outcome
    seconds: float
    text: str = ""
    pause: float | None = None
    compared: tuple[TableCompared, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after so many seconds, as this move."""

    seconds: float
    move: DirectMove


# So often each failure is tried again, with pauses that double up to the longest: somewhat over a minute in all.
TRIES: Mapping[Outcome, int] = {"blocked": 8, "busy": 8, "lost": 6, "slow": 3}
LONGEST_PAUSE = 15.0
SLOW_TRIES = 4
# So many moves that end in time let one more run at once again.
WELL_FOR = 12


def next_room(room: int, well: int, slow: bool, at_once: int) -> tuple[int, int]:
    """How many moves may run at once now, and how many have ended well in a row: half as many after one that was slow.

    On nodes that are busy, moves that run together delay each other beyond what writers should wait.
    """
    if slow:
        return max(1, room // 2), 0
    if well + 1 >= WELL_FOR:
        return min(at_once, room + 1), 0
    return room, well + 1


def held_writes(move: DirectMove, result: MoveResult) -> float | None:
    """Seconds for which writes were held; None for a logical move, which holds them for a moment near its end."""
    if move.mode != "block_writes" or result.outcome != "done":
        return None
    return result.seconds if result.pause is None else result.pause


def write_pause(size: int | None, tables: int) -> float | None:
    """Seconds that writes are expected to wait for a move with block_writes; None where the size is unknown."""
    if size is None:
        return None
    return PAUSE_FIXED + PAUSE_PER_TABLE * max(0, tables - 1) + PAUSE_PER_BYTE * size


def mode_for(group: ShardGroup, wished: TransferMode, max_pause: float) -> TransferMode:
    """The mode that the user asked for; for `auto` block_writes where the pause fits, and a logical move elsewhere.

    Citus' own `auto` is that logical move, and refuses a table whose rows it could not tell apart. A group of a
    row-sharded table is moved logically: the lock that a move with block_writes needs would hold the whole table.
    """
    pause = write_pause(group.bytes, len(group.tables))
    if wished == "auto" and group.schema is not None and pause is not None and pause <= max_pause:
        return "block_writes"
    return wished


def direct_moves(
    moves: Sequence[Move],
    groups: Sequence[ShardGroup],
    wished: TransferMode,
    max_pause: float,
    verify: Verify = "quick",
) -> tuple[DirectMove, ...]:
    """The moves in the order in which they should start: the longest first, so that none is left over at the end."""
    by_id = {group.shard_id: group for group in groups}
    made = []
    for number, move in enumerate(moves):
        group = by_id.get(move.shard_id) or ShardGroup(move.shard_id, 0, move.source, move.bytes)
        mode = mode_for(group, wished, max_pause)
        # Who asks for block_writes by name has accepted its pause, however long; waiting for others is limited anyway.
        limit = None if wished == "block_writes" else max_pause
        name = group.schema or (group.tables[0] if group.tables else f"shard {move.shard_id}")
        whole, ids = group.schema is not None, (move.shard_id, move.source, move.target)
        made.append(DirectMove(number, *ids, group.bytes, mode, name, limit, verify, whole))
    return tuple(sorted(made, key=lambda move: (move.mode == "block_writes", -(move.bytes or 0), move.number)))


def next_moves(
    waiting: Sequence[DirectMove],
    running: Collection[DirectMove],
    at_once: int,
    per_node: int,
    not_yet: Collection[int] = (),
) -> tuple[DirectMove, ...]:
    """Which of the waiting moves may start now, in their order; `not_yet` are shard ids that wait to be tried again.

    A move counts against its source and its target. As in Citus' own job it waits for every move that is planned
    earlier and leaves its target, so that the target has room, and for an earlier move of the same group.
    """
    room = at_once - len(running)
    if room <= 0:
        return ()
    busy = Counter(node for move in running for node in (move.source, move.target))
    leaving: dict[int, int] = {}
    first: dict[int, int] = {}
    for move in (*running, *waiting):
        leaving[move.source] = min(move.number, leaving.get(move.source, move.number))
        first[move.shard_id] = min(move.number, first.get(move.shard_id, move.number))
    chosen: list[DirectMove] = []
    for move in waiting:
        if len(chosen) == room:
            break
        full = busy[move.source] >= per_node or busy[move.target] >= per_node
        held = leaving.get(move.target, move.number) < move.number or first[move.shard_id] < move.number
        if full or held or move.shard_id in not_yet:
            continue
        busy.update((move.source, move.target))
        chosen.append(move)
    return tuple(chosen)


def after_failure(move: DirectMove, result: MoveResult, tries: int) -> Retry | None:
    """What to do about a move that did not end well, `tries` times so far in this way; None: it will not succeed."""
    if result.outcome == "slow" and move.mode == "block_writes":
        # A few times can be a busy moment, in which fewer at once help; after that it is larger than it seemed, and
        # writers are spared by the slower way.
        return Retry(0.2 * tries, move if tries < SLOW_TRIES else replace(move, mode="auto"))
    if tries > TRIES.get(result.outcome, 0):
        return None
    return Retry(min(LONGEST_PAUSE, 2.0 ** (tries - 1)), move)
