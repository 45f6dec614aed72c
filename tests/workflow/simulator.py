"""A cluster in memory that is worse than Azure: late nodes, busy servers, lost replies, jobs of somebody else.

It proves the structure of the workflow, not the behaviour of Azure or Citus: those have their own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.core.errors import ArmBusy, ConnectionLost, RebalanceRunning
from orchestrator.core.observed.server import Operation, OperationReading, Parameter, ServerReading
from orchestrator.core.observed.state import (
    ClusterState,
    Node,
    RebalanceJob,
    RebalanceTask,
    ShardGroup,
    StartedRebalance,
    Strategy,
)
from orchestrator.core.planning.placement import predict, with_future_nodes
from orchestrator.core.planning.steps import AT_ONCE, PER_NODE, TransferMode

STRATEGY = Strategy("by_disk_size", True, 100 * 2**20, 0.1, 0.5, True)
COUNT = Strategy("by_shard_count", False)
OPERATION_SECONDS, JOIN_SECONDS, MOVE_SECONDS = 10.0, 5.0, 2.0


class Killed(Exception):
    """The process died here."""


@dataclass
class Simulator:
    """Satisfies ControlPlane and Database. `now` moves only when the driver sleeps."""

    nodes: list[Node]
    groups: list[ShardGroup]
    size: int
    now: float = 0.0
    settings: dict[str, str] = field(default_factory=lambda: {AT_ONCE: "1", PER_NODE: "1"})
    kept: dict[str, str] = field(default_factory=dict)
    jobs: dict[int, list[tuple[ShardGroup, int, float]]] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    broken_shards: dict[int, str] = field(default_factory=dict)
    operation: tuple[float, Callable[[], None]] | None = None
    joining: list[tuple[float, Node]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    lose_reply_of: int = -1
    lose_before_effect: bool = False
    refuse_busy: int = 0

    @classmethod
    def of(cls, nodes: int, groups: Sequence[tuple[int, int]]) -> Simulator:
        """`groups` are pairs of node id (from 1) and bytes."""
        rows = [Node(i + 1, i, "localhost", 7000 + i, True, True, True) for i in range(nodes)]
        made = [ShardGroup(100 + i, i + 1, at, size, (f"s{i}.t",), f"s{i}") for i, (at, size) in enumerate(groups)]
        return cls(rows, made, nodes)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._advance()

    # ControlPlane

    def read_server(self) -> ServerReading:
        return self._reply(
            "read_server",
            lambda: ServerReading(
                "lab", "Updating" if self.operation else "Ready", self.size, "17", "D2", "GeneralPurpose",
                "northeurope", "localhost", "adm", "citus", "Disabled", 128, "/id",
            ),
        )  # fmt: skip

    def start_resize(self, nodes: int) -> Operation:
        def begin() -> Operation:
            self._busy("resize")
            self.operation = self.now + OPERATION_SECONDS, lambda: self._grown(nodes)
            return Operation("resize", "resize")

        return self._reply("start_resize", begin)

    def read_operation(self, operation: Operation) -> OperationReading:
        status = "InProgress" if self.operation else "Succeeded"
        return self._reply("read_operation", lambda: OperationReading(status))

    def read_parameters(self, names: Sequence[str]) -> Mapping[str, Parameter]:
        return self._reply(
            "read_parameters",
            lambda: {name: Parameter(self.settings[name], "1", "user-override", False, True, False) for name in names},
        )

    def start_set_parameter(self, name: str, value: str, *, source: str = "user-override") -> Operation:
        def begin() -> Operation:
            self._busy("set")
            self.operation = self.now + 1.0, lambda: self.settings.__setitem__(name, value)
            return Operation("set", "set")

        return self._reply("start_set_parameter", begin)

    # Database

    def observe(self) -> ClusterState:
        def read() -> ClusterState:
            return ClusterState(
                None, "Citus 13.2", 170000, tuple(self.nodes), tuple(self.groups), (STRATEGY, COUNT),
                self._job(max(self.jobs)) if self.jobs else None, self._executors(), dict(self.kept),
            )  # fmt: skip

        return self._reply("observe", read)

    def observe_loads(self) -> ClusterState:
        state = self.observe()
        return replace(state, shard_groups=(), held=state.loads)

    def read_nodes(self) -> tuple[Node, ...]:
        return self._reply("read_nodes", lambda: tuple(self.nodes))

    def read_executors(self) -> tuple[int, int]:
        return self._reply("read_executors", self._executors)

    def start_rebalance(self, strategy: str, transfer_mode: TransferMode, *, parallel: bool) -> StartedRebalance:
        def begin() -> StartedRebalance:
            for job in self.jobs:
                if self._job(job).in_flight:
                    raise RebalanceRunning("start", f"A rebalance is already running as job {job}", job)
            return StartedRebalance(self.begin_job())

        return self._reply("start_rebalance", begin)

    def read_job(self, job_id: int) -> RebalanceJob:
        return self._reply("read_job", lambda: self._job(job_id))

    def stop_rebalance(self) -> None:
        self._reply("stop_rebalance", lambda: self.cancelled.add(max(self.jobs)))

    def end_executors(self) -> None:
        self._reply("end_executors", lambda: None)

    def keep_settings(self, values: Mapping[str, str]) -> None:
        new = {name: value for name, value in values.items() if name not in self.kept}
        self._reply("keep_settings", lambda: self.kept.update(new))

    def forget_settings(self) -> None:
        self._reply("forget_settings", self.kept.clear)

    # The world

    def begin_job(self) -> int | None:
        """What `citus_rebalance_start()` does, for us or for somebody else."""
        moves = predict(self.groups, self.nodes, STRATEGY).moves
        if not moves:
            return None
        by_id = {group.shard_id: group for group in self.groups}
        job_id = max(self.jobs, default=0) + 1
        at_once = int(self.settings[AT_ONCE])
        self.jobs[job_id] = [
            (by_id[move.shard_id], move.target, self.now + (i // at_once + 1) * MOVE_SECONDS)
            for i, move in enumerate(moves)
        ]
        return job_id

    def _reply(self, call: str, effect: Callable[[], object]) -> object:
        self.calls.append(call)
        lost = len(self.calls) - 1 == self.lose_reply_of
        if lost and self.lose_before_effect:
            raise Killed(f"before {call}")
        result = effect()
        if lost:
            raise Killed(f"after {call}")
        return result

    def _busy(self, doing: str) -> None:
        if self.operation or self.refuse_busy > 0:
            self.refuse_busy -= 1
            raise ArmBusy(doing, "ServerIsBusy", "another operation is in progress", status=409)

    def _grown(self, nodes: int) -> None:
        self.size = nodes
        known = len(self.nodes) + len(self.joining)
        future = with_future_nodes(tuple(self.nodes), nodes)[known:]
        self.joining += [(self.now + JOIN_SECONDS * (i + 1), node) for i, node in enumerate(future)]

    def _advance(self) -> None:
        if self.operation and self.now >= self.operation[0]:
            finish = self.operation[1]
            self.operation = None
            finish()
        for at, node in list(self.joining):
            if self.now >= at:
                self.joining.remove((at, node))
                self.nodes.append(replace(node, host="localhost", port=7000 + node.group_id))
        for job_id, tasks in self.jobs.items():
            if job_id not in self.cancelled:
                for group, target, done_at in tasks:
                    if self.now >= done_at and group.shard_id not in self.broken_shards:
                        index = next(i for i, item in enumerate(self.groups) if item.shard_id == group.shard_id)
                        self.groups[index] = replace(self.groups[index], node_id=target)

    def _executors(self) -> tuple[int, int]:
        return int(self.settings[AT_ONCE]), int(self.settings[PER_NODE])

    def _job(self, job_id: int) -> RebalanceJob:
        tasks = []
        for number, (group, target, done_at) in enumerate(self.jobs[job_id], 1):
            command = f"SELECT pg_catalog.citus_move_shard_placement({group.shard_id},{group.node_id},{target},'auto')"
            message = self.broken_shards.get(group.shard_id, "")
            done = self.now >= done_at and not message
            retries = int(max(0.0, self.now - done_at) / 20) + 1 if message and self.now >= done_at else 0
            waiting = "runnable" if retries else "running"
            status = "done" if done else "cancelled" if job_id in self.cancelled else waiting
            text = message if retries else ""
            nodes = {"source": group.node_id, "target": target}
            tasks.append(RebalanceTask(number, status, command, group.shard_id, retries, text, **nodes))
        ended = all(task.ended for task in tasks)
        state = "cancelled" if job_id in self.cancelled else "finished" if ended else "running"
        return RebalanceJob(job_id, state, tuple(tasks))


__all__ = ["COUNT", "STRATEGY", "ConnectionLost", "Killed", "Simulator"]
