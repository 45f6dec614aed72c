"""Writes of the run's own while shards move, and the ledger of those that were acknowledged.

They go into a distributed schema of their own, one table with a row for each write. It is made when the moves of the
run are planned already, so nothing that Citus or the planner chooses depends on it, and dropped when they have ended.
Its shard is moved meanwhile as the services' are, from node to node and in their ways, so writes meet real cut-overs;
the services' own tables are not touched. Most of the writes enter the cluster through the coordinator, some through
each node in turn, and at the end every node is asked for all of them.

The ledger is in memory: the process that dies takes its claims with it. What it leaves is a schema of that name with
that one table, which the next run drops before it looks at anything. Only rights that make services are needed.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from typing import Any, LiteralString

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from orchestrator.clients.checks.structure import ON_EVERY_NODE
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.moves.moving_sql import CLEAN_UP
from orchestrator.core.checks.verification import Finding, lost_writes
from orchestrator.core.errors import OrchestratorError

SCHEMA = "orchestrator_probe"
# Seconds between two writes, at first and when the run has lasted for a minute; between two moves of the probe's shard,
# of which there are no more than of those of the services.
EVERY, LATER, MOVE_EVERY = 0.2, 1.0, 10.0
# A write through another node is a new connection there: one of so many.
THROUGH_NODES = 10

_PREPARE: LiteralString = """
    SELECT set_config('application_name', 'orchestrator probe', false),
           set_config('client_connection_check_interval', '1s', false), set_config('lock_timeout', '10s', false)
"""
# A schema of this name with anything else in it is somebody's own.
_OURS: LiteralString = """
    SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_class
        WHERE relnamespace = space.oid AND relname NOT IN ('written', 'written_pkey'))
    FROM pg_catalog.pg_namespace space WHERE nspname = 'orchestrator_probe'
"""
_MAKE = (
    "SET LOCAL citus.enable_schema_based_sharding TO off",
    "CREATE SCHEMA orchestrator_probe",
    "REVOKE ALL ON SCHEMA orchestrator_probe FROM PUBLIC",
    "SELECT citus_schema_distribute('orchestrator_probe')",
    "CREATE TABLE orchestrator_probe.written (number bigint PRIMARY KEY, digest text NOT NULL)",
)
_DROP: LiteralString = "DROP SCHEMA orchestrator_probe CASCADE"
_WRITE: LiteralString = "INSERT INTO orchestrator_probe.written VALUES (%s, md5(%s::text))"
_WRITE_THROUGH: LiteralString = """
    SELECT success FROM master_run_on_worker(ARRAY[%s], ARRAY[%s],
        ARRAY[format('INSERT INTO orchestrator_probe.written VALUES (%%s, %%L)', %s::bigint, md5(%s::text))], false)
"""
# A row whose bytes changed does not count as found.
_FOUND: LiteralString = """
    SELECT coalesce(string_agg(number::text, ' '), '') FROM orchestrator_probe.written WHERE digest = md5(number::text)
"""
_WHERE: LiteralString = """
    SELECT nodeid FROM pg_catalog.pg_dist_shard JOIN pg_catalog.pg_dist_placement USING (shardid)
    JOIN pg_catalog.pg_dist_node USING (groupid)
    WHERE logicalrelid = 'orchestrator_probe.written'::regclass AND noderole = 'primary'
"""
_NODES: LiteralString = """
    SELECT nodeid, nodename, nodeport FROM pg_catalog.pg_dist_node
    WHERE noderole = 'primary' AND isactive AND shouldhaveshards ORDER BY nodeid
"""


def sweep(connection: psycopg.Connection[Any]) -> None:
    """Drop the probe's schema, and old copies of its shard; nothing where there is none, or it is not the probe's."""
    with translated("drop the schema of probe writes"):
        row = connection.execute(_OURS).fetchone()
        if row is not None and row[0]:
            connection.execute(_DROP)
            connection.execute(CLEAN_UP)


class ProbeWrites:
    """Made for one rebalance: `begin`, then `read_back`, and `close` in any case."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._admin: psycopg.Connection[Any] | None = None
        self._nodes: list[tuple[int, str, int]] = []
        self._over, self._failure = threading.Event(), ""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.acknowledged: list[int] = []
        self.refused = self.moves = 0
        self._logical, self._due = False, True

    def begin(self) -> None:
        """The moves do not wait for the probe. What keeps it from being made is told by `read_back`."""
        self._thread.start()

    def _make(self) -> psycopg.Connection[Any]:
        """Raises OrchestratorError where that cannot be."""
        connection = self._connect()
        try:
            with translated("prepare the probe writes"):
                connection.execute(_PREPARE)
                sweep(connection)
                with connection.transaction():
                    for statement in _MAKE:
                        connection.execute(statement)
                self._nodes = connection.execute(_NODES).fetchall()
        except OrchestratorError:
            connection.close()
            raise
        return connection

    def seen(self, mode: str) -> None:
        """How a group of the services was moved. A logical move of nothing is dear: it is made where theirs are too.

        While none of theirs end, because a load guard holds them back or they are long, the probe's shard rests too.
        """
        self._logical, self._due = self._logical or mode != "block_writes", True

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def read_back(self) -> Finding:
        """What every node finds of the acknowledged writes. Ends the writing."""
        began = time.perf_counter()
        self._stop()
        if self._admin is None:
            return Finding("probe writes", note=f"none were made: {self._failure or 'the run was over before'}")
        with translated("read the probe writes back"):
            rows = self._connected(self._admin).execute(ON_EVERY_NODE, (_FOUND.strip(),)).fetchall()
        answers = {name: frozenset(map(int, text.split())) for _, name, success, text in rows if success}
        unread = [name for _, name, success, _ in rows if not success]
        silent = tuple(f"probe writes could not be read through node {name}" for name in unread)
        problems = (*lost_writes(self.acknowledged, answers), *silent)
        refused = f", {self.refused} were not acknowledged" if self.refused else ""
        note = (
            f"{len(self.acknowledged)} acknowledged writes, whose shard was moved {self.moves} times meanwhile, were "
            f"looked for through {len(rows)} nodes{refused}"
        )
        seconds = round(time.perf_counter() - began, 3)
        return Finding("probe writes", 1, 1, len(self.acknowledged), seconds, problems, note)

    def close(self) -> None:
        """Leaves nothing behind, whatever happened; what cannot be dropped now is dropped by the next run."""
        self._stop()
        if self._admin is not None:
            with suppress(psycopg.Error, OrchestratorError), self._connected(self._admin) as connection:
                sweep(connection)
            self._admin = None

    def _connected(self, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
        """The same again where it was lost."""
        if connection.closed:
            connection = self._admin = self._connect()
            connection.execute(_PREPARE)
        return connection

    def _stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _work(self) -> None:
        try:
            self._admin = self._make()
        except OrchestratorError as error:
            self._failure = str(error)
            return
        began = time.monotonic()
        while not self._over.is_set():
            # Connections that are lost are made anew; what was under way then was not acknowledged.
            with suppress(psycopg.Error, OrchestratorError):
                self._write_until_lost(began)
            self._over.wait(1.0)

    def _write_until_lost(self, began: float) -> None:
        if self._admin is None:
            return
        writer = self._connected(self._admin)
        with self._connect() as mover:
            mover.execute(_PREPARE)
            through, mode = cycle(self._nodes), "auto"
            moving, next_move = False, 0.0
            while not self._over.is_set():
                self._write(writer, through)
                now = time.monotonic()
                moving = moving and not self._moved(mover.pgconn)
                if not moving and self._due and now >= next_move and len(self._nodes) > 1:
                    self._due = False
                    mode = "auto" if self._logical and mode == "block_writes" else "block_writes"
                    moving, next_move = True, now + MOVE_EVERY
                    self._move(writer, mover, mode)
                self._over.wait(EVERY if now - began < 60 else LATER)
            if moving:
                self._end_move(mover, mode)

    def _write(self, writer: psycopg.Connection[Any], through: cycle[tuple[int, str, int]]) -> None:
        """An acknowledged write is one that was answered, through whichever node."""
        number = len(self.acknowledged) + self.refused + 1
        self.refused += 1
        if number % THROUGH_NODES != 2:
            writer.execute(_WRITE, (number, number))
        else:
            _, host, port = next(through)
            row = writer.execute(_WRITE_THROUGH, (host, port, number, number)).fetchone()
            if row is None or not row[0]:
                return
        self.refused -= 1
        self.acknowledged.append(number)

    def _move(self, writer: psycopg.Connection[Any], mover: psycopg.Connection[Any], mode: str) -> None:
        """To the node after the one where the shard is."""
        row = writer.execute(_WHERE).fetchone()
        ids = [node_id for node_id, _, _ in self._nodes]
        place = ids.index(row[0]) if row is not None and row[0] in ids else -1
        target = ids[(place + 1) % len(ids)]
        mover.pgconn.send_query(f"SELECT citus_schema_move('{SCHEMA}', {int(target)}, '{mode}')".encode())

    def _moved(self, connection: PGconn) -> bool:
        """Whether the move has ended, whichever way."""
        connection.consume_input()
        while not connection.is_busy():
            result = connection.get_result()
            if result is None:
                return True
            self.moves += result.status == ExecStatus.TUPLES_OK
        return False

    def _end_move(self, mover: psycopg.Connection[Any], mode: str) -> None:
        """One with blocked writes is over in a moment; a logical one is called off, and the shard stays in place."""
        if mode == "auto":
            mover.cancel_safe(timeout=5)
        deadline = time.monotonic() + 10
        while not self._moved(mover.pgconn) and time.monotonic() < deadline:
            select.select([mover.fileno()], [], [], 1.0)
