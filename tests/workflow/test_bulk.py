"""The step that makes many services: its progress, and its end when it is cut short."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from orchestrator.core.errors import DatabaseError
from orchestrator.core.events import Event, StepProgress, Waiting
from orchestrator.core.planning.steps_services import EnsureSchema, MakeServices
from orchestrator.workflow.bulk import make_services

STEP = MakeServices([(EnsureSchema(name, name, name, True, True),) for name in map(str, range(100))])


class Making:
    """Ten services are done whenever somebody looks; with `fails` it ends with an error after those."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.done, self.stopped = fails, 0, False

    def ensure(self, step: Any) -> None: ...

    def start(self, bundles: Sequence[Any]) -> Making:
        return self

    def ended(self) -> bool:
        if self.fails and self.done == 10:
            raise DatabaseError("create schema 11", "no room")
        self.done += 10
        return self.done >= 100

    def stop(self) -> None:
        self.stopped = True


def events(run: Generator[Event | Waiting, float, str], seconds_each: float) -> list[StepProgress]:
    """All progress; every wait takes so many seconds."""
    seen, now, answer = [], 0.0, None
    try:
        while True:
            item = run.send(answer) if answer is not None else next(run)
            now += seconds_each if isinstance(item, Waiting) else 0
            answer = now
            if isinstance(item, StepProgress):
                seen.append(item)
    except StopIteration:
        return seen


def test_progress_says_how_long_it_will_go_on() -> None:
    making = Making()
    seen = events(make_services(1, STEP, making), seconds_each=6.0)
    assert [(event.done, event.total) for event in seen] == [(done, 100) for done in range(10, 100, 10)]
    assert seen[0].seconds_left is None, "nothing is known at first"
    assert seen[-1].seconds_left == pytest.approx(6.0, abs=2.0), "ten of a hundred, made in six seconds"
    assert making.stopped


def test_an_interruption_and_a_failure_stop_what_has_begun() -> None:
    making = Making()
    run = make_services(1, STEP, making)
    next(run)
    with pytest.raises(KeyboardInterrupt):
        run.throw(KeyboardInterrupt())
    assert making.stopped
    making = Making(fails=True)
    with pytest.raises(DatabaseError, match="no room"):
        events(make_services(1, STEP, making), seconds_each=1.0)
    assert making.stopped
