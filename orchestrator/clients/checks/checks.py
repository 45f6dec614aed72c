"""The checks around the moves of a run, on the cluster: sequences on every node, probe writes, copies of Citus' job.

Direct moves compare their copies themselves, before they commit; here is said of how many that was so.

Satisfies the workflow's Checks. On the stand-in nothing is noted: its placement is simulated, nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString, TypeAlias

import psycopg

from orchestrator.clients.checks.job_copies import IN_FLIGHT, JobCopies
from orchestrator.clients.checks.probe_writes import ProbeWrites, sweep
from orchestrator.clients.checks.sequences import have_sequences, read_sequences
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.checks.verification import Finding, NodeSequences, sequence_problems
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import MoveStarted, TableCompared

_Moved: TypeAlias = tuple[MoveStarted, Sequence[TableCompared]]

_SIMULATED: LiteralString = "SELECT citus_version() LIKE '%simulated%'"


def sweep_leftovers(connection: psycopg.Connection[Any]) -> None:
    """What the checks of a killed run left, before anybody plans with it."""
    sweep(connection)


class MoveChecks:
    """`current` gives the run's own connection, `connect` a new one. Used for one rebalance after the other."""

    def __init__(
        self,
        current: Callable[[], psycopg.Connection[Any]],
        connect: Callable[[], psycopg.Connection[Any]],
    ) -> None:
        self._current, self._connect = current, connect
        self._writes: ProbeWrites | None = None
        self._sequences: tuple[NodeSequences, ...] = ()
        self._copies: JobCopies | None = None
        self._moved: list[_Moved] = []

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

    def moved(self, move: MoveStarted, compared: Sequence[TableCompared]) -> None:
        self._moved.append((move, compared))
        if self._writes is not None:
            self._writes.seen(move.mode)

    def end(self) -> tuple[Finding, ...]:
        """Can be called again after a lost connection."""
        found = []
        if self._writes is not None:
            found.append(self._writes.read_back())
        if self._sequences:
            found.append(self._compared_sequences())
        if self._copies is not None:
            found.append(self._copies.end(sum(move.way == "job" for move, _ in self._moved)))
        if direct := [moved for moved in self._moved if moved[0].way == "direct"]:
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

    def _direct_copies(self, moves: Sequence[_Moved]) -> Finding:
        tables = [table for _, compared in moves for table in compared]
        whole = sum(table.checksum is not None for table in tables)
        keyless = sum(table.rows is None for table in tables)
        unread = sum(not compared for _, compared in moves)
        note = f"before their commit: {whole} tables row by row, {len(tables) - whole - keyless} by a sample"
        reasons = (
            (keyless, "large tables without a primary key (--verify full reads them)"),
            (unread, "groups that an earlier try of the same move had moved already"),
        )
        if without := ", ".join(f"{count} {reason}" for count, reason in reasons if count):
            note += f"; not compared: {without}"
        rows = sum(table.rows or 0 for table in tables)
        return Finding("copies of direct moves", len(moves) - unread, len(tables) - keyless, rows, note=note)

    def _asked(self, question: LiteralString) -> bool:
        with translated("look what there is to check"):
            row = self._current().execute(question).fetchone()
        return bool(row and row[0])
