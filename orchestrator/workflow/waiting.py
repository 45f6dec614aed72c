"""How the workflow waits: it yields `Waiting` and the driver sleeps. The answer is the time since the run's start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from orchestrator.core.errors import ArmBusy, ArmError, ClusterUnreachable, ConnectionLost
from orchestrator.core.events import Event, Waiting
from orchestrator.core.server import Operation, OperationReading
from orchestrator.workflow.protocols import ControlPlane

T = TypeVar("T")
Run: TypeAlias = Generator[Event | Waiting, float, T]

# Azure's own scale-out took four to five minutes in recorded traffic; standbys for high availability add to that.
OPERATION_TIMEOUT = 2 * 3600.0
BUSY_TIMEOUT = 900.0
RECONNECT_TIMEOUT = 300.0
NO_TIMEOUT = float("inf")

FIXES = {
    "UnsupportedValue": "Choose a node count that Azure takes.",
    "ClusterStorageAutoGrowIsDisabled": "Set storage.autoGrow: false in the stack file.",
    "AuthorizationFailed": "Ask for the Contributor role on the server's resource group.",
    "ScopeLocked": "Remove the lock on the server or its resource group.",
}


@dataclass(slots=True)
class Pause:
    """Short pauses at first, longer ones later: an end is seen at most about 3 % of the time waited so far too late."""

    seconds: float = 0.1
    longest: float = 5.0

    def next(self) -> float:
        now = self.seconds
        self.seconds = min(self.longest, self.seconds * 1.03)
        return now


def when_free(call: Callable[[], T], reason: str) -> Run[T]:
    """Call until ARM answers and is not busy. Every call of the control plane can be repeated."""
    pause = Pause(0.3)
    while True:
        wished: float | None = None
        try:
            return call()
        except ArmBusy as busy:
            wished, why = busy.retry_after, busy.code
        except ClusterUnreachable:
            why = "Azure cannot be reached"
        yield Waiting(wished if wished is not None else pause.next(), f"{reason}: {why}", BUSY_TIMEOUT)


def when_connected(call: Callable[[], T], reason: str) -> Run[T]:
    """Repeat a read while the database cannot be reached: nodes restart and fail over. Never for a change."""
    pause = Pause(0.3)
    while True:
        try:
            return call()
        except (ConnectionLost, ClusterUnreachable):
            yield Waiting(pause.next(), f"{reason}: the connection was lost", RECONNECT_TIMEOUT)


def finished(control: ControlPlane, operation: Operation, doing: str) -> Run[OperationReading]:
    """Wait until an operation has ended. An expired one reads `Unknown`: the caller looks at the resource itself.

    Raises ArmError when it failed or was cancelled.
    """
    pause = Pause()
    while True:
        reading = yield from when_free(lambda: control.read_operation(operation), doing)
        if reading.status in {"Failed", "Canceled"}:
            code = reading.code or reading.status
            raise ArmError(doing, code, reading.message or "no further text", fix=FIXES.get(code, ""))
        if reading.status != "InProgress":
            return reading
        wished = reading.retry_after
        yield Waiting(wished if wished is not None else pause.next(), f"{doing}: in progress", OPERATION_TIMEOUT)
