"""Drives a run: the only sleep, the only deadline. Events go to the view in the order in which they happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.core.errors import StepTimedOut
from orchestrator.core.events import Event, StepStarted, Waiting
from orchestrator.workflow.waiting import Run

T = TypeVar("T")


def drive(
    run: Run[T],
    show: Callable[[Event], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> T:
    """Run to the end and return its result. Raises StepTimedOut when a wait exceeds what the run allows it."""
    start = now()
    since, title = start, "start"
    answer: float | None = None
    try:
        while True:
            item = run.send(answer) if answer is not None else next(run)
            answer = now() - start
            if not isinstance(item, Waiting):
                if isinstance(item, StepStarted):
                    since, title = now(), item.title
                show(item)
                continue
            waited_for = now() - (since if item.since is None else start + item.since)
            if waited_for > item.timeout:
                raise StepTimedOut(title, waited_for, item.reason)
            sleep(item.seconds)
            answer = now() - start
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        run.close()
