"""What a run moved, and the way back. Data only; `undo` is pure.

A run's moves are recorded in the cluster's own database: that is where the truth about placement is, it survives the
laptop that started the run, and whoever may rebalance may also read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.core.errors import Refused
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.placement import Move


@dataclass(frozen=True, slots=True)
class RecordedMove:
    """`name` is the schema or table as it was called then."""

    shard_id: int
    source: int
    target: int
    name: str


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """`finished_at` and `outcome` are absent while it runs, and for ever when it was killed."""

    run_id: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    way: str
    moves: int


@dataclass(frozen=True, slots=True)
class UndoOf:
    """A run that is to be undone, and what it moved."""

    run_id: int
    moves: tuple[RecordedMove, ...]


class UndoRefused(Refused):
    def __init__(self, run_id: int, reasons: Sequence[str]) -> None:
        shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
        super().__init__(
            f"Run {run_id} cannot be undone: {shown}. Nothing was changed. "
            "`orchestrator rebalance` balances what is there now."
        )


def undo(run_id: int, recorded: Sequence[RecordedMove], state: ClusterState) -> tuple[Move, ...]:
    """The moves that bring every shard group of the run back to where it was before; none for one that is there.

    The last move of the run goes first. Raises UndoRefused when a table is gone or a node cannot take data any more.
    """
    groups = {group.shard_id: group for group in state.shard_groups}
    able = {node.node_id for node in state.nodes if node.joined}
    reasons = [f"{move.name} (shard {move.shard_id}) is gone" for move in recorded if move.shard_id not in groups]
    lost = sorted({move.source for move in recorded} - able)
    reasons += [f"node {node_id} is gone or may not hold data" for node_id in lost]
    if reasons:
        raise UndoRefused(run_id, reasons)
    back = []
    for move in reversed(recorded):
        group = groups[move.shard_id]
        if group.node_id != move.source:
            back.append(Move(move.shard_id, group.node_id, move.source, group.bytes))
    return tuple(back)
