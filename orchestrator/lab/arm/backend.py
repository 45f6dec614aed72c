"""The cluster behind the emulator: the little that ARM needs of it, and nodes that may join late."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Protocol

from orchestrator.lab.arm.faults import Faults

log = logging.getLogger(__name__)


class ClusterBackend(Protocol):
    """One running cluster. Every method blocks until it is done and raises LabError with a sentence when it fails."""

    def node_count(self) -> int: ...

    def resize(self, nodes: int) -> None:
        """Add nodes until there are `nodes`; called with more nodes than there are, never in parallel."""

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        """Server parameters that can be changed: name -> (value, default)."""

    def set_parameter(self, name: str, value: str) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Cluster:
    """A backend whose nodes may be held back, so that an operation succeeds before its nodes have joined."""

    def __init__(self, backend: ClusterBackend, faults: Faults) -> None:
        self.backend = backend
        self._faults = faults
        self._resizing = threading.Lock()
        self._closed = threading.Event()
        self._late: list[threading.Thread] = []

    def grow(self, nodes: int) -> None:
        """Returns when the nodes have joined, or at once while tests hold nodes back."""
        if self._faults.nodes_held:
            self.grow_later(nodes)
        else:
            self._resize(nodes)

    def grow_later(self, nodes: int) -> None:
        """Returns at once; a failure goes to the log only."""
        late = threading.Thread(target=self._grow_late, args=(nodes,), name="arm-late-nodes", daemon=True)
        self._late.append(late)
        late.start()

    def close(self) -> None:
        """Give up on nodes that are still held back."""
        self._closed.set()
        self._faults.release_nodes()
        for late in self._late:
            late.join()

    def _grow_late(self, nodes: int) -> None:
        self._faults.wait_nodes()
        if self._closed.is_set():
            return
        try:
            self._resize(nodes)
        except Exception:  # the operation has ended: nobody is left to be told but the log
            log.exception("nodes that were to join late did not join")

    def _resize(self, nodes: int) -> None:
        with self._resizing:
            if self.backend.node_count() < nodes:
                self.backend.resize(nodes)
