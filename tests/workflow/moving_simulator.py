"""Direct moves on the cluster in memory: they take time, fail in every way, and outlive the run that was killed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.core.errors import ClusterUnreachable
from orchestrator.core.moves.moving import DirectMove, MoveResult, Outcome
from orchestrator.core.planning.placement import Move, predict
from tests.workflow.simulator import STRATEGY, Simulator

SECONDS = {"block_writes": 0.1, "auto": 2.0, "force_logical": 2.0}


@dataclass
class MovingSimulator:
    """Satisfies Mover. `faults` are the outcomes of a shard's next tries; `lost` ones have taken effect.

    `pauses` are the seconds for which the next moves held writers."""

    world: Simulator
    faults: dict[int, list[Outcome]] = field(default_factory=dict)
    running: list[tuple[DirectMove, float]] = field(default_factory=list)
    started: list[DirectMove] = field(default_factory=list)
    stragglers: list[tuple[DirectMove, float]] = field(default_factory=list)
    missing: bool = False
    leftovers: int = 0
    refuse_connections: int = 0
    most_at_once: int = 0
    pauses: list[float] = field(default_factory=list)

    def plan(self, strategy: str) -> tuple[Move, ...]:
        assert strategy == "by_disk_size"
        return self.world._reply("plan", lambda: predict(self.world.groups, self.world.nodes, STRATEGY).moves)  # type: ignore[return-value]

    def reference_tables_missing(self) -> bool:
        return self.missing

    def under_way(self) -> int:
        for move, at in list(self.stragglers):
            if self.world.now >= at:
                self.stragglers.remove((move, at))
                self._place(move)
        return len(self.stragglers)

    def start(self, move: DirectMove) -> None:
        if self.refuse_connections > 0:
            self.refuse_connections -= 1
            raise ClusterUnreachable("lab", "connection refused", "Start it.")
        at = next(group.node_id for group in self.world.groups if group.shard_id == move.shard_id)
        assert at in {move.source, move.target}, "a move from where the group is not"
        self.world._reply("start_move", lambda: None)
        self.started.append(move)
        self.running.append((move, self.world.now + SECONDS[move.mode]))
        self.most_at_once = max(self.most_at_once, len(self.running))

    def ended(self) -> tuple[MoveResult, ...]:
        over = [(move, at) for move, at in self.running if self.world.now >= at]
        self.running = [pair for pair in self.running if pair not in over]
        return tuple(self._result(move) for move, _ in over)

    def _result(self, move: DirectMove) -> MoveResult:
        outcomes = self.faults.get(move.shard_id, [])
        outcome: Outcome = outcomes.pop(0) if outcomes else "done"
        if outcome in {"done", "lost"}:
            self._place(move)
        pause = self.pauses.pop() if self.pauses else None
        text = "" if outcome == "done" else f"it was {outcome}"
        return MoveResult(move.shard_id, outcome, SECONDS[move.mode], text, pause)

    def _place(self, move: DirectMove) -> None:
        groups = self.world.groups
        for index, group in enumerate(groups):
            if group.shard_id == move.shard_id and group.node_id != move.target:
                groups[index] = replace(group, node_id=move.target)
                self.leftovers += 1

    def cancel(self) -> None:
        for move, _ in self.running:
            self.faults[move.shard_id] = ["cancelled"]
        self.running = [(move, self.world.now) for move, _ in self.running]

    def cancel_strays(self) -> int:
        count = len(self.stragglers)
        self.stragglers = []
        return count

    def blocker(self, shard_id: int) -> str:
        return "a transaction of app on node 1"

    def clean_up(self) -> int:
        self.leftovers = max(0, self.leftovers - 5)
        return self.leftovers

    def killed(self) -> None:
        """The process is gone; what it had sent goes on for a moment, and some of it is still done."""
        self.stragglers = [(move, self.world.now + 3.0) for move, _ in self.running]
        self.running = []
