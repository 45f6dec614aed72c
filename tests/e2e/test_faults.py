"""Processes killed, messages lost, servers dead: a few points of `bench/resume.py`, which makes the whole table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fix_lab import ROOT, engines

sys.path.insert(0, str(ROOT / "bench"))

from chaos import Cut
from resume import Drill, kill_after, kill_server, reset_sql_after, second_after
from rig import VerbLab


@pytest.fixture(autouse=True)
def labs_of_this_run(lab_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LAB_HOME", str(lab_base))


def assert_converged(drill: Drill) -> None:
    assert [point for point in drill.points if point.problems or not point.fired] == []
    assert {point.resizes_asked for point in drill.points} == {1}


EMBEDDED = pytest.mark.skipif(
    not engines()["embedded"].available, reason=f"engine embedded: {engines()['embedded'].reason}"
)


@EMBEDDED
def test_the_same_command_converges_after_a_fault_with_direct_moves() -> None:
    with Drill("standin", "direct") as drill:
        drill.point("killed while shards move", kill_after(11))
        drill.point("a second orchestrator", second_after(8))
        drill.point("the answer to the resize lost", arm=Cut(3, "after"))
        assert_converged(drill)


@EMBEDDED
def test_the_same_command_converges_after_a_fault_with_citus_job() -> None:
    with Drill("standin", "job") as drill:
        drill.point("killed with raised settings", kill_after(9))
        drill.point("all SQL connections reset", reset_sql_after(10))
        assert_converged(drill)


@pytest.mark.slow
@pytest.mark.skipif(not engines()["native"].available, reason=f"engine native: {engines()['native'].reason}")
def test_a_worker_that_dies_while_shards_move_to_it() -> None:
    with Drill("native", "direct", VerbLab("native", "direct", tenants=9, rows=20)) as drill:
        drill.point("a worker killed", kill_server(worker=True))
        assert_converged(drill)
