"""Waits for what Azure has measured: one value a minute, minutes late, from an endpoint that may ask for patience."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.errors import ArmBusy, ClusterUnreachable
from orchestrator.core.events import Waiting
from orchestrator.workflow.waiting import NO_TIMEOUT, SHORTEST_PAUSE, Run

ASK_EVERY = 15.0
# Twice as long as Azure's values were said to take to arrive.
LONGEST = 600.0


def arrived(read: Callable[[], Sequence[float]], minutes: int) -> Run[tuple[float, ...]]:
    """The values of so many minutes once all are there; after ten minutes those that are."""
    began: float | None = None
    found: tuple[float, ...] = ()
    while True:
        pause = ASK_EVERY
        try:
            found = tuple(read())
        except ArmBusy as busy:
            pause = max(busy.retry_after or ASK_EVERY, SHORTEST_PAUSE)
        except ClusterUnreachable:
            pass
        if len(found) >= minutes:
            return found
        now = yield Waiting(pause, "Azure's metric arrives minutes late", NO_TIMEOUT)
        began = now - pause if began is None else began
        if now - began >= LONGEST:
            return found
