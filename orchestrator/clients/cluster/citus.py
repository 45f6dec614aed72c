"""The database: nodes, placement and rebalance jobs, read and changed through the coordinator.

Placement is read from pg_dist_* (no remote calls), sizes once from citus_shard_sizes(); the monitoring views ask every
node on every read. One connection, kept for the run; it also holds the advisory lock of the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from orchestrator.clients.cluster import citus_sql
from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.cluster.pins import read_pins
from orchestrator.core.errors import AlreadyRunning, ConnectionLost, DatabaseError, NotCoordinator
from orchestrator.core.observed.state import (
    ClusterState,
    Node,
    NodeLoad,
    RebalanceJob,
    RebalanceTask,
    ShardGroup,
    StartedRebalance,
    Strategy,
)
from orchestrator.core.observed.timing import RunTiming
from orchestrator.core.planning.steps import AT_ONCE, PER_NODE, TransferMode

# Two 32-bit keys of the run's advisory lock: "orch" in ASCII, and 1 for "one run per cluster".
LOCK = (0x6F726368, 1)
_MOVE = re.compile(r"citus_move_shard_placement\((\d+),\s*(\d+),\s*(\d+)")


@dataclass(frozen=True, slots=True)
class _Session:
    citus_version: str
    server_version: int
    base_cost: int
    at_once: int
    per_node: int
    leftovers: int
    bookkeeping: bool
    timed: bool
    pinned: bool


class CitusClient:
    """A connection to the coordinator as the cluster's administrator, opened again when it was lost.

    `endpoint` names the coordinator in errors. Use as a context manager, or close it.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], endpoint: str) -> None:
        self._connect = connect
        self._endpoint = endpoint
        self._open: psycopg.Connection[Any] | None = None
        self._locked = False
        self._notices: list[str] = []

    def __enter__(self) -> CitusClient:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._open is not None:
            self._open.close()

    def open(self) -> None:
        """Connect now: a cluster out of reach at the start is a mistake to tell, later it is a fault to wait out."""
        self.connection  # noqa: B018

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """Raises ClusterUnreachable, NotCoordinator, and ConnectionLost while the run's lock cannot be had again."""
        if self._open is None or self._open.closed:
            self._open = self._connect()
            self._open.add_notice_handler(lambda note: self._notices.append(note.message_primary or ""))
            self._check_coordinator(self._open)
            if self._locked and not self._try_lock(self._open):
                self._open.close()
                raise ConnectionLost("take the run's lock again", "the lost session still holds it")
        return self._open

    def _check_coordinator(self, connection: psycopg.Connection[Any]) -> None:
        """On a worker, rebalancing would not refuse but make a broken job."""
        with translated("ask which node answered"):
            coordinator = connection.execute("SELECT citus_is_coordinator()").fetchone()
        if not coordinator or not coordinator[0]:
            raise NotCoordinator(self._endpoint)

    def _try_lock(self, connection: psycopg.Connection[Any]) -> bool:
        with translated("take the run's lock"):
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK).fetchone()
        return bool(row and row[0])

    def lock(self) -> None:
        """Take the run's advisory lock, held until the client closes. Raises AlreadyRunning."""
        self._locked = self._try_lock(self.connection)
        if not self._locked:
            with translated("ask who holds the lock"), self.connection.cursor(row_factory=scalar_row) as cursor:
                holder = cursor.execute(citus_sql.LOCK_HOLDER, LOCK).fetchone()
            raise AlreadyRunning(holder or "its session has just ended; try again")

    def observe(self) -> ClusterState:
        """Everything but the control plane's view and the services."""
        state = self._observe()
        with translated("read the placement of shards"):
            return replace(state, shard_groups=self._shard_groups())

    def observe_loads(self) -> ClusterState:
        """The same with what each node holds instead of its shard groups, of which there may be thousands."""
        state = self._observe()
        with translated("read the placement of shards"):
            rows = self.connection.execute(citus_sql.NODE_LOADS).fetchall()
        found = {node_id: (groups, size) for node_id, groups, size in rows}
        return replace(state, held=tuple(NodeLoad(node, *found.get(node.node_id, (0, 0))) for node in state.nodes))

    def _observe(self) -> ClusterState:
        with translated("read the cluster"), self.connection.transaction():
            session = self._rows(_Session, citus_sql.SESSION)[0]
            nodes = self._rows(Node, citus_sql.NODES)
            strategies = self._rows(Strategy, citus_sql.STRATEGIES)
            kept = self._kept_settings() if session.bookkeeping else {}
            timings = self._rows(RunTiming, citus_sql.TIMINGS) if session.timed else []
            pins = read_pins(self.connection) if session.pinned else ()
        return ClusterState(
            server=None,
            citus_version=session.citus_version,
            server_version=session.server_version,
            nodes=tuple(nodes),
            shard_groups=(),
            strategies=tuple(replace(s, base_cost=session.base_cost if s.by_size else 0) for s in strategies),
            job=self._last_job(),
            executors=(session.at_once, session.per_node),
            kept_settings=kept,
            leftovers=session.leftovers,
            timings=tuple(timings),
            pins=pins,
        )

    def read_nodes(self) -> tuple[Node, ...]:
        with translated("read the nodes"):
            return tuple(self._rows(Node, citus_sql.NODES))

    def read_executors(self) -> tuple[int, int]:
        """The two settings for parallel moves as the coordinator has them now: all at once, per node."""
        with translated("read the executor settings"):
            session = self._rows(_Session, citus_sql.SESSION)[0]
        return session.at_once, session.per_node

    def start_rebalance(self, strategy: str, transfer_mode: TransferMode, *, parallel: bool) -> StartedRebalance:
        """Start Citus' background job. `job_id` is None when Citus finds nothing worth moving; the notices say why.

        `parallel` lets shards of one row-sharded table move at the same time, where this Citus can (13.2 and later).
        """
        self._notices.clear()
        with translated("start the rebalance"):
            able = self.connection.execute(citus_sql.CAN_MOVE_COLOCATED_SHARDS_IN_PARALLEL).fetchone()
            start = citus_sql.START_PARALLEL if parallel and able and able[0] else citus_sql.START
            row = self.connection.execute(start, (strategy, transfer_mode)).fetchone()
        return StartedRebalance(row[0] if row else None, tuple(self._notices))

    def stop_rebalance(self) -> None:
        with translated("stop the rebalance"):
            self.connection.execute("SELECT citus_rebalance_stop()")

    def end_executors(self) -> None:
        """End the workers of a job that is being stopped and does not come to its end.

        Citus 13.2 can wait for itself: its monitor, in a transaction, waits for a worker to shut down, which waits for
        a replication slot on the coordinator, which waits for the monitor's transaction (seen in bench/moves.py).
        """
        with translated("end the workers of the rebalance"):
            self.connection.execute(citus_sql.END_EXECUTORS)

    def read_job(self, job_id: int) -> RebalanceJob:
        """State and tasks from the coordinator's own tables; bytes and phase where the nodes answer.

        `citus_rebalance_status()` fails while a node is down in the middle of a move, the tables never do.
        """
        with translated(f"read rebalance job {job_id}"), self.connection.cursor(row_factory=dict_row) as cursor:
            job = cursor.execute(citus_sql.JOB, (job_id,)).fetchone()
            tasks = cursor.execute(citus_sql.TASKS, (job_id,)).fetchall()
        if job is None:
            raise DatabaseError(f"read rebalance job {job_id}", "Citus no longer knows this job")
        progress = self._progress() if job["state"] == "running" else {}
        return RebalanceJob(job["job_id"], job["state"], tuple(_task(task, progress) for task in tasks))

    def keep_settings(self, values: Mapping[str, str]) -> None:
        """Note down settings before they are raised; values noted by an earlier, interrupted run win."""
        with translated("note down the settings to put back"), self.connection.transaction():
            ensure_bookkeeping(self.connection)
            self.connection.cursor().executemany(
                "INSERT INTO orchestrator.kept_setting (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                list(values.items()),
            )

    def forget_settings(self) -> None:
        with translated("forget the settings that were put back"):
            self.connection.execute("DELETE FROM orchestrator.kept_setting")

    def record_timing(self, timing: RunTiming) -> None:
        with translated("record what the run took"), self.connection.transaction():
            ensure_bookkeeping(self.connection)
            self.connection.execute(citus_sql.RECORD_TIMING, asdict(timing))

    def _rows(self, kind: type[Any], query: Any, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self.connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(query, parameters or None).fetchall()

    def _kept_settings(self) -> dict[str, str]:
        rows = self.connection.execute("SELECT name, value FROM orchestrator.kept_setting").fetchall()
        return {name: value for name, value in rows if name in {AT_ONCE, PER_NODE}}

    def _shard_groups(self) -> tuple[ShardGroup, ...]:
        rows = self.connection.cursor(row_factory=dict_row).execute(citus_sql.SHARD_GROUPS).fetchall()
        return tuple(ShardGroup(**(row | {"tables": tuple(row["tables"])})) for row in rows)

    def _last_job(self) -> RebalanceJob | None:
        with translated("look for a rebalance"):
            row = self.connection.execute(citus_sql.LAST_JOB).fetchone()
        return self.read_job(row[0]) if row else None

    def _progress(self) -> dict[int, dict[str, Any]]:
        # A node that is down is 08006, which is a class beside ConnectionException and not under it.
        with suppress(psycopg.OperationalError, psycopg.errors.InternalError_):
            rows = self.connection.cursor(row_factory=dict_row).execute(citus_sql.PROGRESS).fetchall()
            return {row["shard_id"]: row for row in rows}
        return {}


def _task(row: dict[str, Any], progress: Mapping[int, dict[str, Any]]) -> RebalanceTask:
    found = _MOVE.search(row["command"])
    if found is None:
        return RebalanceTask(**row)
    shard_id, source, target = map(int, found.groups())
    task = RebalanceTask(**row, shard_id=shard_id, source=source, target=target)
    seen = progress.get(shard_id) if task.status == "running" else None
    if seen is None:
        return task
    return replace(task, phase=seen["phase"], bytes_done=seen["done"], bytes_total=seen["total"])
