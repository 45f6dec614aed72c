"""Moves of our own: each on a connection of its own, started without waiting and asked now and then whether it is over.

A move is one transaction, so it happens whole or not at all. Its limits are sent with SET LOCAL, which Citus passes on
to the nodes: writers that came through another node hold their locks there. Citus passes on the whole text in which it
finds a SET, so each statement is sent by itself, in one pipeline. Source: shard_transfer.c of Citus 13.2.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import class_row

from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.clients.cluster.citus_errors import translate, translated
from orchestrator.clients.moves import copies, moving_sql, pauses
from orchestrator.clients.moves.cleaning import Cleaner
from orchestrator.core.errors import ConnectionLost, DatabaseError, OrchestratorError
from orchestrator.core.events import TableCompared
from orchestrator.core.moves.moving import DirectMove, MoveResult, Outcome
from orchestrator.core.planning.placement import Move

# By this name the next run, and `rebalance --stop`, find moves whose orchestrator was killed.
APPLICATION = "orchestrator move"
# Seconds that a move waits for locks of others where its own pause has no ceiling.
NO_CEILING = 10.0
# Locks of others that stop a move before it holds any of its own: dropping a table, another move of the group.
_BUSY = re.compile(
    r"could not acquire the lock required to|leftover from the previous move|deadlock detected"
    r"|could not serialize access|remaining connection slots|too many clients|too many connections"
)
_LOST = re.compile(r"connection to the remote node|connection not open|could not connect|terminating connection")


@dataclass(slots=True)
class _Lane:
    connection: psycopg.Connection[Any]
    move: DirectMove | None = None
    began: float = 0.0
    failure: PGresult | None = None
    times: dict[bytes, float] = field(default_factory=dict)
    compared: tuple[TableCompared, ...] = ()


class MovingClient:
    """Connections that move shard groups, kept for the run and used again. `citus` is the run's own connection."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], citus: CitusClient) -> None:
        self._connect = connect
        self._citus = citus
        self._lanes: list[_Lane] = []
        self._commits: deque[float] = deque(maxlen=200)
        self._cleaner = Cleaner(self._prepared)

    def close(self) -> None:
        """What is still under way is cancelled: interrupted, a run leaves nothing behind that goes on by itself."""
        self.cancel()
        self._cleaner.close()
        for lane in self._lanes:
            lane.connection.close()
        self._lanes.clear()

    def start(self, move: DirectMove) -> None:
        """Send the move and return. Raises ClusterUnreachable when no connection can be had."""
        lane = next((lane for lane in self._lanes if lane.move is None), None)
        if lane is None:
            lane = _Lane(self._prepared())
            self._lanes.append(lane)
        lane.move, lane.began, lane.failure = move, time.perf_counter(), None
        lane.times, lane.compared = {}, ()
        with suppress(psycopg.OperationalError):
            # A connection that is found broken here is told as lost by the next look.
            connection = lane.connection.pgconn
            connection.enter_pipeline_mode()
            for statement in _statements(move, self._commits):
                connection.send_query_params(statement.as_bytes(lane.connection), None)
            connection.pipeline_sync()

    def ended(self) -> tuple[MoveResult, ...]:
        """The moves that are over since the last look. Never waits."""
        results = tuple(found for lane in list(self._lanes) if lane.move and (found := self._look(lane, lane.move)))
        if any(result.outcome == "done" for result in results):
            self._cleaner.wake()
        else:
            self._cleaner.look()
        return results

    def cancel(self) -> None:
        """Ask every move that is under way to stop; each is then told by `ended`, whichever way it went."""
        for lane in self._lanes:
            if lane.move is not None:
                with suppress(psycopg.Error):
                    lane.connection.cancel()

    def cancel_strays(self) -> int:
        """Ask the moves of an orchestrator that was killed to stop; how many there were."""
        with translated("stop the moves of an earlier run"):
            row = self._citus.connection.execute(moving_sql.CANCEL_STRAYS, (APPLICATION, self._mine())).fetchone()
        return int(row[0]) if row else 0

    def under_way(self) -> int:
        """Moves of an orchestrator that was killed: its sessions notice within a second or two, or commit."""
        with translated("look for moves of an earlier run"):
            row = self._citus.connection.execute(moving_sql.UNDER_WAY, (APPLICATION, self._mine())).fetchone()
        return int(row[0]) if row else 0

    def _mine(self) -> list[int]:
        cleaner = [] if self._cleaner.process is None else [self._cleaner.process]
        return cleaner + [lane.connection.info.backend_pid for lane in self._lanes if not lane.connection.closed]

    def plan(self, strategy: str) -> tuple[Move, ...]:
        """The moves that Citus itself would make now, in its order, one for each shard group."""
        with (
            translated("ask Citus for its moves"),
            self._citus.connection.cursor(row_factory=class_row(Move)) as cursor,
        ):
            return tuple(cursor.execute(moving_sql.PLAN, (strategy,)).fetchall())

    def reference_tables_missing(self) -> bool:
        """Whether a node lacks a reference table: only Citus' own job may copy those, and moves need them there."""
        with translated("look for reference tables"):
            row = self._citus.connection.execute(moving_sql.REFERENCE_TABLES_MISSING).fetchone()
        return bool(row and row[0])

    def blocker(self, shard_id: int) -> str:
        """Who holds a lock that a move of this shard group needs; empty when nobody does any more."""
        with translated("look who blocks a move"):
            rows = self._citus.connection.execute(moving_sql.BLOCKERS, {"shard_id": shard_id}).fetchall()
        return "; ".join(text for (text,) in rows)

    def clean_up(self) -> int:
        """Drop what moves leave behind; the number of things that are still left, because others hold them."""
        with translated("clean up after the moves"):
            self._citus.connection.execute(moving_sql.CLEAN_UP)
            row = self._citus.connection.execute("SELECT count(*) FROM pg_catalog.pg_dist_cleanup").fetchone()
        return int(row[0]) if row else 0

    def _prepared(self) -> psycopg.Connection[Any]:
        connection = self._connect()
        with translated("prepare a connection for moves"):
            connection.execute(moving_sql.PREPARE)
        return connection

    def _look(self, lane: _Lane, move: DirectMove) -> MoveResult | None:
        try:
            lane.connection.pgconn.consume_input()
            if not _over(lane):
                return None
            lane.connection.pgconn.exit_pipeline_mode()
            outcome, text = _told(lane.failure)
        except psycopg.OperationalError as error:
            outcome, text = "lost", _text(translate(error, "move"))
        lane.move = None
        seconds = time.perf_counter() - lane.began
        if outcome == "lost" or not self._usable(lane.connection):
            lane.connection.close()
            self._lanes.remove(lane)
        paused = pauses.pause(lane.times) if move.mode == "block_writes" else None
        if paused is not None:
            self._commits.append(paused.commit)
        pause = None if paused is None else paused.whole
        return MoveResult(move.shard_id, outcome, round(seconds, 4), text, pause, lane.compared)

    def _usable(self, connection: psycopg.Connection[Any]) -> bool:
        if connection.closed:
            return False
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                connection.pgconn.exec_(b"ROLLBACK")
        return connection.pgconn.transaction_status == TransactionStatus.IDLE


def _over(lane: _Lane) -> bool:
    """Take the results that have arrived; the last one closes the pipeline. Keeps the first failure."""
    connection = lane.connection.pgconn
    while not connection.is_busy():
        result = connection.get_result()
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            return True
        if result.status == ExecStatus.FATAL_ERROR:
            lane.failure = lane.failure or result
        lane.times |= pauses.times(result)
        lane.compared = lane.compared or copies.compared(result)
    return False


def _told(failure: PGresult | None) -> tuple[Outcome, str]:
    if failure is None:
        return "done", ""
    error = psycopg.errors.error_from_result(failure)
    told = translate(error, "move")
    text = _text(told)
    if (differs := copies.difference(text)) is not None:
        return "refused", (
            f"before the move was committed its two copies differed ({differs}), so it was rolled back and the data "
            "stays where it was. Look at the disks of both nodes and run the same command again"
        )
    return ("lost" if isinstance(told, ConnectionLost) else _outcome(error.sqlstate or "", text)), text


def _text(error: OrchestratorError) -> str:
    """What the server said, and what to do about it where that is known."""
    if isinstance(error, DatabaseError):
        return f"{error.text.rstrip('.')}. {error.fix}" if error.fix else error.text
    return str(error)


def _outcome(sqlstate: str, text: str) -> Outcome:
    # Citus says the latter when a lock on another node was not to be had in time.
    if sqlstate == "55P03" or "failure on connection marked as essential" in text:
        return "blocked"
    if pauses.MARK in text:
        return "slow"
    if sqlstate == "57014":
        return "slow" if "statement timeout" in text else "cancelled"
    if _BUSY.search(text):
        return "busy"
    return "lost" if _LOST.search(text) else "refused"


def _statements(move: DirectMove, commits: Collection[float]) -> Iterator[sql.Composable]:
    """Numbers and fixed words: nothing of the user's is in them. `commits` are seconds that earlier commits took."""
    call = moving_sql.MOVE.format(*map(sql.Literal, (move.shard_id, move.source, move.target, move.mode)))
    yield from moving_sql.BEGIN
    if move.mode != "block_writes":
        yield _lock_timeout(NO_CEILING if move.max_pause is None else move.max_pause)
        yield from (step for step in (copies.before(move), call, copies.comparison(move)) if step is not None)
        yield sql.SQL("COMMIT")
        return
    most = move.max_pause
    budget = None if most is None else most - pauses.reserve(commits, most)
    # What waits for a lock ends before the time is up, and says so.
    yield _lock_timeout(NO_CEILING if budget is None else budget * 0.6)
    lock = moving_sql.LOCK_GROUP.format(shard=sql.Literal(move.shard_id))
    for step in (lock, copies.before(move), call, copies.comparison(move), copies.told(move)):
        if step is not None and budget is not None:
            yield pauses.limit(budget)
        if step is not None:
            yield step
    yield pauses.check(budget, most)
    yield sql.SQL("COMMIT")
    yield pauses.COMMITTED


def _lock_timeout(seconds: float) -> sql.Composable:
    return sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{max(1, round(seconds * 1000))}ms"))
