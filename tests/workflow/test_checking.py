"""The checks around moves, on the cluster in memory: when they begin and end, and what becomes of what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from orchestrator.core.checks.verification import Finding
from orchestrator.core.errors import ConnectionLost, RebalanceFailed, VerificationFailed
from orchestrator.core.events import MoveStarted, Notice, TableCompared, Verified
from orchestrator.core.planning.plan import Wanted
from orchestrator.workflow.moving import Oversight
from tests.workflow.moving_simulator import MovingSimulator
from tests.workflow.simulator import Simulator
from tests.workflow.test_apply import Recorder
from tests.workflow.test_moving import crowded, run, seen

WAYS = ("direct", "job")


@dataclass
class Noted:
    """Satisfies Checks, and remembers what it was told."""

    world: Simulator
    problems: tuple[str, ...] = ()
    lost: int = 0
    heals: bool = False
    told: list[str] = field(default_factory=list)
    moves: list[int] = field(default_factory=list)

    def begin(self) -> tuple[str, ...]:
        self.told.append("begin")
        assert "plan" in self.world.calls or "start_rebalance" in self.world.calls, "what checks make would be planned"
        return ("one thing cannot be checked",)

    def moved(self, move: MoveStarted, compared: Sequence[TableCompared]) -> None:
        self.moves.append(move.shard_id)

    def end(self) -> tuple[Finding, ...]:
        if self.lost:
            self.lost -= 1
            raise ConnectionLost("check", "gone")
        self.told.append("end")
        problems, self.problems = self.problems, () if self.heals else self.problems
        return (Finding("probe writes", 1, 1, 7, 0.1, problems, "through 4 nodes"),)

    def close(self) -> None:
        self.told.append("close")


def checked(mover: MovingSimulator, noted: Noted, way: str) -> Recorder:
    show = Recorder()
    wanted = Wanted(cluster=False, moves="job" if way == "job" else "direct")
    run(mover, show, wanted, Oversight(checks=noted))
    return show


@pytest.mark.parametrize("way", WAYS)
def test_checks_surround_the_moves_and_are_told_of_each(way: str) -> None:
    mover = crowded()
    noted = Noted(mover.world, lost=2)
    show = checked(mover, noted, way)
    assert noted.told == ["begin", "end", "close"]
    started = [event.shard_id for event in seen(show, MoveStarted) if isinstance(event, MoveStarted)]
    assert sorted(noted.moves) == sorted(started)
    (found,) = seen(show, Verified)
    assert isinstance(found, Verified)
    assert (found.mode, found.rows, found.note) == ("probe writes", 7, "through 4 nodes")
    assert Notice("one thing cannot be checked") in seen(show, Notice)


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_hold_fails_the_run(way: str) -> None:
    mover = crowded()
    noted = Noted(mover.world, problems=("probe write 3 is gone",))
    with pytest.raises(VerificationFailed, match="probe write 3 is gone"):
        checked(mover, noted, way)
    assert noted.told == ["begin", "end", "end", "end", "close"]


def test_what_holds_at_the_second_look_is_no_problem() -> None:
    mover = crowded()
    noted = Noted(mover.world, problems=("node 3 does not answer",), heals=True)
    show = checked(mover, noted, "direct")
    assert noted.told == ["begin", "end", "end", "close"]
    assert [event.problems for event in seen(show, Verified) if isinstance(event, Verified)] == [()]


def test_moves_that_fail_end_the_checks_too() -> None:
    mover = crowded()
    mover.world.broken_shards = {group.shard_id: "disk is full" for group in mover.world.groups}
    noted = Noted(mover.world)
    with pytest.raises(RebalanceFailed):
        checked(mover, noted, "job")
    assert noted.told == ["begin", "close"]


def test_nothing_to_move_is_not_checked() -> None:
    mover = MovingSimulator(Simulator.of(2, [(1, 10), (2, 10)]))
    noted = Noted(mover.world)
    checked(mover, noted, "direct")
    assert noted.told == []
