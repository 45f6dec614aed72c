"""The checks around the moves of a run, on the cluster: sequences on every node, and probe writes.

Satisfies the workflow's Checks. On the stand-in nothing is noted: its placement is simulated, nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from orchestrator.clients.citus_errors import translated
from orchestrator.clients.probe_writes import ProbeWrites, sweep
from orchestrator.clients.sequences import have_sequences, read_sequences
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import MoveStarted
from orchestrator.core.verification import Finding, NodeSequences, sequence_problems


def sweep_leftovers(connection: psycopg.Connection[Any]) -> None:
    """What the checks of a killed run left, before anybody plans with it."""
    sweep(connection)


class MoveChecks:
    """`current` gives the run's own connection, `connect` a new one. Used for one rebalance after the other."""

    def __init__(
        self, current: Callable[[], psycopg.Connection[Any]], connect: Callable[[], psycopg.Connection[Any]]
    ) -> None:
        self._current, self._connect = current, connect
        self._writes: ProbeWrites | None = None
        self._sequences: tuple[NodeSequences, ...] = ()

    def begin(self) -> tuple[str, ...]:
        """Notes about what cannot be checked."""
        try:
            if self._simulated():
                return ()
            self._sequences = read_sequences(self._current) if have_sequences(self._current) else ()
        except OrchestratorError as error:
            return (f"Neither sequences nor probe writes are checked in this run: {error}",)
        self._writes = ProbeWrites(self._connect)
        self._writes.begin()
        return ()

    def moved(self, move: MoveStarted) -> None:
        """Nothing is noted of single moves."""

    def end(self) -> tuple[Finding, ...]:
        """Can be called again after a lost connection."""
        found = []
        if self._writes is not None:
            found.append(self._writes.read_back())
        if self._sequences:
            found.append(self._compared_sequences())
        return tuple(found)

    def close(self) -> None:
        if self._writes is not None:
            self._writes.close()
        self._writes, self._sequences = None, ()

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

    def _simulated(self) -> bool:
        with translated("look which Citus this is"):
            row = self._current().execute("SELECT citus_version() LIKE '%simulated%'").fetchone()
        return bool(row and row[0])
