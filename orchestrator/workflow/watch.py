"""How long the moves of a job take, told from looking at it now and then: Citus keeps no times of its tasks.

Every look credits the time until the next one to the moves that were running. For one short move that is rough; over
many it adds up to what they took.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.core.events import MoveEnded, MoveStarted, MovesTimed
from orchestrator.core.moves.cost import MoveCost, fit
from orchestrator.core.observed.state import RebalanceJob, RebalanceTask


@dataclass(slots=True)
class MoveWatch:
    """`sizes` are the bytes of the shard groups, `known` what a move is expected to take. Times are in seconds."""

    sizes: Mapping[int, int]
    known: MoveCost
    started: float
    first_move: float | None = None
    last: float = 0.0
    busy: dict[int, float] = field(default_factory=dict)
    _running: tuple[int, ...] = ()

    def see(self, job: RebalanceJob, now: float) -> None:
        for task_id in self._running:
            self.busy[task_id] = self.busy.get(task_id, 0.0) + now - self.last
        moves = [task for task in job.tasks if task.shard_id is not None]
        self._running = tuple(task.task_id for task in moves if task.status == "running")
        if self.first_move is None and any(task.status in {"running", "done"} for task in moves):
            self.first_move = now
        self.last = now

    def left(self, job: RebalanceJob) -> float | None:
        """Seconds until the job's end at the pace so far; None before the first move has ended."""
        moves = [task for task in job.tasks if task.shard_id is not None]
        done = [task for task in moves if task.status == "done"]
        if not done or self.first_move is None:
            return None
        cost = self._cost(done)
        passed = max(self.last - self.first_move, 0.001)
        at_once = max(1.0, sum(self.busy.values()) / passed)
        open_moves = [task for task in moves if not task.ended]
        remaining = [max(0.0, self._expected(task, cost) - self.busy.get(task.task_id, 0.0)) for task in open_moves]
        return max(sum(remaining) / at_once, max(remaining, default=0.0))

    def timed(self, number: int, job: RebalanceJob) -> MovesTimed:
        """What this job tells for the next one."""
        moves = [task for task in job.tasks if task.shard_id is not None and task.status == "done"]
        first = self.first_move if self.first_move is not None else self.last
        fixed, per_byte = fit(self._samples(moves, self.last - first), self.known)
        moved = sum(self.sizes.get(task.shard_id or 0, 0) for task in moves)
        lead, seconds = first - self.started, self.last - first
        return MovesTimed(number, job.job_id, len(moves), moved, round(lead, 3), round(seconds, 3), fixed, per_byte)

    def _samples(self, moves: list[RebalanceTask], passed: float) -> list[tuple[int, float]]:
        """Bytes and seconds of each move. A job that was over between two looks has one time for all of them."""
        seconds = self.busy if self.busy else {task.task_id: passed / len(moves) for task in moves}
        return [(self.sizes.get(task.shard_id or 0, 0), seconds.get(task.task_id, 0.0)) for task in moves]

    def _cost(self, done: list[RebalanceTask]) -> MoveCost:
        fixed, per_byte = fit(self._samples(done, self.last - (self.first_move or self.last)), self.known)
        return MoveCost(
            self.known.fixed if fixed is None else fixed, self.known.per_byte if per_byte is None else per_byte
        )

    def _expected(self, task: RebalanceTask, cost: MoveCost) -> float:
        return cost.seconds(self.sizes.get(task.shard_id or 0, 0))


@dataclass(slots=True)
class JobMoves:
    """The moves of a job as events, told from its tasks. One that began and ended between two looks yields both."""

    number: int
    mode: str
    sizes: Mapping[int, int]
    names: Mapping[int, str]
    last: float
    began: dict[int, float] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)

    def changes(self, job: RebalanceJob, now: float) -> Iterator[MoveStarted | MoveEnded]:
        """`now` in seconds since the start of the run. A move that failed and is tried again counts as one."""
        for task in job.tasks:
            shard_id = task.shard_id
            if shard_id is None or task.source is None or task.target is None or task.task_id in self.over:
                continue
            if task.task_id not in self.began and task.status in {"running", "done", "error"}:
                self.began[task.task_id] = now if task.status == "running" else self.last
                name = self.names.get(shard_id, f"shard {shard_id}")
                size = self.sizes.get(shard_id)
                yield MoveStarted(self.number, shard_id, name, task.source, task.target, size, self.mode, "job")
            if task.task_id in self.began and task.ended:
                self.over.add(task.task_id)
                seconds = round(now - self.began[task.task_id], 3)
                yield MoveEnded(self.number, shard_id, "done" if task.status == "done" else "failed", seconds)
        self.last = now
