"""How the workflow waits: it yields `Waiting` and the driver sleeps. The answer is the time since the run's start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from orchestrator.core.errors import ArmBusy, ArmError, ClusterUnreachable, ConnectionLost, OrchestratorError
from orchestrator.core.events import Event, Notice, Waiting
from orchestrator.core.observed.server import Operation, OperationReading
from orchestrator.workflow.protocols import ControlPlane

T = TypeVar("T")
Run: TypeAlias = Generator[Event | Waiting, float, T]

# Azure's own scale-out took four to five minutes in recorded traffic; standbys for high availability add to that.
OPERATION_TIMEOUT = 2 * 3600.0
BUSY_TIMEOUT = 900.0
RECONNECT_TIMEOUT = 300.0
NO_TIMEOUT = float("inf")
# Somebody who wants to be asked again at once still gets a moment, so that a run never spins.
SHORTEST_PAUSE = 0.1

FIXES = {
    "UnsupportedValue": "Choose a node count that Azure takes.",
    "ClusterStorageAutoGrowIsDisabled": "Set storage.autoGrow: false in the stack file.",
    "AuthorizationFailed": "Ask for the Contributor role on the server's resource group.",
    "ScopeLocked": "Remove the lock on the server or its resource group.",
}


@dataclass(slots=True)
class Pause:
    """Short pauses at first, longer ones later: an end is seen at most about 2 % of the time waited so far too late."""

    seconds: float = 0.05
    longest: float = 5.0

    def next(self) -> float:
        now = self.seconds
        self.seconds = min(self.longest, self.seconds * 1.02)
        return now


@dataclass(slots=True)
class Patience:
    """One wait for something that is busy or away. Its deadline counts from the first refusal in a row."""

    reason: str
    timeout: float = BUSY_TIMEOUT
    pause: Pause = field(default_factory=lambda: Pause(0.3))
    began: float | None = None

    def wait(self, why: OrchestratorError) -> Run[None]:
        """Tells people once that the run waits, and for what."""
        text = why.code if isinstance(why, ArmBusy) else _first_sentence(str(why))
        wished = why.retry_after if isinstance(why, ArmBusy) else None
        seconds = self.pause.next() if wished is None else max(wished, SHORTEST_PAUSE)
        if self.began is None:
            yield Notice(f"{self.reason}: waiting ({_in_words(why, text)}).")
            self.began = (yield Waiting(seconds, f"{self.reason}: {text}", NO_TIMEOUT)) - seconds
        else:
            yield Waiting(seconds, f"{self.reason}: {text}", self.timeout, self.began)


def _in_words(why: OrchestratorError, text: str) -> str:
    if not isinstance(why, ArmBusy):
        return text
    status = f" with status {why.status}" if why.status else ""
    return f"Azure answers {text}{status}: {_first_sentence(why.text)}"


def _first_sentence(text: str) -> str:
    return text.split(". ", 1)[0].rstrip(".")


def waited(seconds: float, reason: str) -> Run[None]:
    """Nothing but the time."""
    yield Waiting(seconds, reason, NO_TIMEOUT)


def when_free(call: Callable[[], T], reason: str) -> Run[T]:
    """Call until ARM answers and is not busy. Only for calls that can be repeated without a second effect."""
    patience = Patience(reason)
    while True:
        try:
            return call()
        except (ArmBusy, ClusterUnreachable) as busy:
            yield from patience.wait(busy)


def when_connected(call: Callable[[], T], reason: str) -> Run[T]:
    """Repeat a read while the database cannot be reached: nodes restart and fail over. Never for a change."""
    patience = Patience(reason, timeout=RECONNECT_TIMEOUT)
    while True:
        try:
            return call()
        except (ConnectionLost, ClusterUnreachable) as lost:
            yield from patience.wait(lost)


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
        seconds = pause.next() if reading.retry_after is None else max(reading.retry_after, SHORTEST_PAUSE)
        yield Waiting(seconds, f"{doing}: in progress", OPERATION_TIMEOUT)
