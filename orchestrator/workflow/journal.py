"""What a run remembers of a change that Azure is still making, so that a later run follows it instead of asking again.

Only the operation's address is kept, and only until its end was seen. The server itself stays what is believed.
"""

from __future__ import annotations

from contextlib import suppress

from orchestrator.core.errors import ArmError, ClusterUnreachable, ConnectionLost
from orchestrator.core.events import Notice, StepProgress
from orchestrator.core.observed.server import Operation
from orchestrator.workflow.protocols import ControlPlane, Journal
from orchestrator.workflow.waiting import Run, finished


def remember(journal: Journal | None, operation: Operation) -> None:
    """Without it a later run waits for the server to be Ready again: worth no failure."""
    if journal is not None and operation.url:
        with suppress(ConnectionLost, ClusterUnreachable):
            journal.remember(operation)


def forget(journal: Journal | None) -> None:
    if journal is not None:
        with suppress(ConnectionLost, ClusterUnreachable):
            journal.forget()


def resume(number: int, control: ControlPlane, journal: Journal | None) -> Run[bool]:
    """Follow the operation of a run that was cut off, if there is one, to its end; a failure is told, not raised.

    The caller then looks at the server and asks for what is still missing. Answers whether there was one.
    """
    operation = None
    if journal is not None:
        with suppress(ConnectionLost, ClusterUnreachable):
            operation = journal.unfinished()
    if operation is None:
        return False
    yield StepProgress(number, "following what an earlier run asked of Azure")
    try:
        yield from finished(control, operation, f"{operation.kind} that an earlier run asked for")
    except ArmError as failure:
        yield Notice(str(failure))
    forget(journal)
    return True
