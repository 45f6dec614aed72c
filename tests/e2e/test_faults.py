"""Servers that die and a second orchestrator, as `bench/resume.py` makes them: three of its points on the most real
engine that is here. The whole table is made by that command."""

from __future__ import annotations

import sys

import pytest

from tests.fix_lab import ROOT, engines

sys.path.insert(0, str(ROOT / "bench"))

from resume import Drill, kill_server, second_after

ENGINE = next((name for name in ("native", "embedded") if engines()[name].available), None)


@pytest.mark.skipif(ENGINE is None, reason="neither real Citus nor the embedded engine is here")
def test_the_same_command_converges_after_faults_in_the_middle_of_the_moves(
    lab_base: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LAB_HOME", str(lab_base))
    run = Drill(str(ENGINE), None)
    try:
        run.point("a worker killed", kill_server(worker=True))
        run.point("the coordinator killed", kill_server(worker=False))
        run.point("a second orchestrator", second_after(10))
    finally:
        if run.lab is not None:
            run.lab.close()
    assert [point for point in run.points if point.problems] == []
    assert {point.resizes_asked for point in run.points} == {1}
