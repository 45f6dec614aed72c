"""Plans are applied until one has no steps, for so many rounds and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.core.errors import VerificationFailed
from orchestrator.core.observed.server import Operation
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.plan import Plan
from orchestrator.core.planning.steps_services import EnsureBookkeeping, SingleStep
from orchestrator.driver import drive
from orchestrator.workflow.apply import MOST_ROUNDS, World, converge
from orchestrator.workflow.protocols import BulkRun
from orchestrator.workflow.waiting import Run
from tests.core.observed import cluster, server
from tests.workflow.simulator import Simulator


@dataclass
class Note:
    """A journal with the note of a run that was killed."""

    forgotten: int = 0

    def remember(self, operation: Operation) -> None: ...
    def unfinished(self) -> Operation | None: ...
    def forget(self) -> None:
        self.forgotten += 1


@dataclass
class Maker:
    made: list[SingleStep] = field(default_factory=list)

    def ensure(self, step: SingleStep) -> None:
        self.made.append(step)

    def start(self, bundles: Sequence[tuple[SingleStep, ...]]) -> BulkRun:
        raise AssertionError(bundles)


def converged_after(rounds: int) -> tuple[Maker, Note]:
    """A world in which so many plans in a row have something to do."""
    maker, note, state = Maker(), Note(), replace(cluster(()), server=server())
    world = Simulator([], [], 2)
    plan = Plan((EnsureBookkeeping(),), (), ())

    def replan() -> Run[tuple[Plan, ClusterState]]:
        left = rounds - len(maker.made)
        return (plan if left > 0 else replace(plan, steps=())), state
        yield  # a generator, like every run

    drive(converge(World(world, services=maker, journal=note), plan, state, replan), lambda _: None)
    return maker, note


@pytest.mark.parametrize("rounds", [1, MOST_ROUNDS])
def test_what_an_earlier_run_noted_is_forgotten_once_nothing_is_left_also_after_the_last_round(rounds: int) -> None:
    maker, note = converged_after(rounds)
    assert (len(maker.made), note.forgotten) == (rounds, 1)


def test_a_world_that_never_settles_is_told_with_the_step_that_is_left() -> None:
    with pytest.raises(VerificationFailed, match="still something to do after 4 rounds: make the schema orchestrator"):
        converged_after(MOST_ROUNDS + 1)
