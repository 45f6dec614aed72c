"""The checks around the moves of a run, on the cluster: sequences on every node, probe writes, copies of Citus' job.

Direct moves compare their copies themselves, before they commit; here is said of how many that was so.

Satisfies the workflow's Checks. On the stand-in nothing is noted: its placement is simulated, nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString

import psycopg

from orchestrator.clients.checks.job_copies import IN_FLIGHT, JobCopies
from orchestrator.clients.checks.probe_writes import ProbeWrites, sweep
from orchestrator.clients.checks.sequences import have_sequences, read_sequences
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.moves.copies import WHOLE_BYTES
from orchestrator.core.checks.verification import Finding, NodeSequences, sequence_problems
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import MoveStarted
from orchestrator.core.planning.steps import Verify

_SIMULATED: LiteralString = "SELECT citus_version() LIKE '%simulated%'"

# Of groups that are only sampled, which goes by the primary key.
_KEYLESS: LiteralString = """
    SELECT count(*) FROM pg_catalog.pg_dist_shard moved
    JOIN pg_catalog.pg_dist_partition its ON its.logicalrelid = moved.logicalrelid
    JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
    JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid AND class.relkind = 'r'
    WHERE moved.shardid = ANY (%s)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = class.oid AND indisprimary)
"""


def sweep_leftovers(connection: psycopg.Connection[Any]) -> None:
    """What the checks of a killed run left, before anybody plans with it."""
    sweep(connection)


class MoveChecks:
    """`current` gives the run's own connection, `connect` a new one. Used for one rebalance after the other."""

    def __init__(
        self,
        current: Callable[[], psycopg.Connection[Any]],
        connect: Callable[[], psycopg.Connection[Any]],
        verify: Verify,
    ) -> None:
        self._current, self._connect, self._verify = current, connect, verify
        self._writes: ProbeWrites | None = None
        self._sequences: tuple[NodeSequences, ...] = ()
        self._copies: JobCopies | None = None
        self._moved: list[MoveStarted] = []

    def begin(self) -> tuple[str, ...]:
        """Notes about what cannot be checked."""
        try:
            if self._asked(_SIMULATED):
                return ()
            in_flight = self._asked(IN_FLIGHT)
            self._sequences = read_sequences(self._current) if have_sequences(self._current) else ()
        except OrchestratorError as error:
            return (f"Neither sequences nor probe writes are checked in this run: {error}",)
        self._writes = ProbeWrites(self._connect)
        self._writes.begin()
        self._moved = []
        if in_flight:
            self._copies = JobCopies(self._connect)
            self._copies.begin()
        return ()

    def moved(self, move: MoveStarted) -> None:
        self._moved.append(move)

    def end(self) -> tuple[Finding, ...]:
        """Can be called again after a lost connection."""
        found = []
        if self._writes is not None:
            found.append(self._writes.read_back())
        if self._sequences:
            found.append(self._compared_sequences())
        if self._copies is not None:
            found.append(self._copies.end(sum(move.way == "job" for move in self._moved)))
        if direct := [move for move in self._moved if move.way == "direct"]:
            found.append(self._direct_copies(direct))
        return tuple(found)

    def close(self) -> None:
        if self._writes is not None:
            self._writes.close()
        if self._copies is not None:
            self._copies.close()
        self._writes, self._copies, self._sequences = None, None, ()

    def _compared_sequences(self) -> Finding:
        began = time.perf_counter()
        after = read_sequences(self._current)
        problems = sequence_problems(self._sequences, after)
        names = {name for node in after for name in node.sequences or ()}
        silent = [node.name for node in after if node.error]
        note = f"last values and ranges of {len(names)} sequences on {len(after) - len(silent)} nodes"
        if silent:
            note += f"; no answer from node {', '.join(silent)}"
        schemas = {name.rpartition(".")[0] for name in names}
        return Finding("sequences", len(schemas), 0, 0, round(time.perf_counter() - began, 3), problems, note)

    def _direct_copies(self, moves: Sequence[MoveStarted]) -> Finding:
        sampled = [move.shard_id for move in moves if self._verify != "full" and (move.bytes or 0) > WHOLE_BYTES]
        keyless = 0
        if sampled:
            with translated("look for tables without a primary key"):
                row = self._current().execute(_KEYLESS, (sampled,)).fetchone()
            keyless = int(row[0]) if row else 0
        note = f"before their commit: {len(moves) - len(sampled)} groups row by row, {len(sampled)} by a sample"
        if keyless:
            note += f"; not compared: {keyless} tables without a primary key in these (--verify full reads them)"
        return Finding("copies of direct moves", len(moves), note=note)

    def _asked(self, question: LiteralString) -> bool:
        with translated("look what there is to check"):
            row = self._current().execute(question).fetchone()
        return bool(row and row[0])
