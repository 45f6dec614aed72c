"""What a run that stops half-way tells its caller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.cli.running import Output, execute
from orchestrator.cli.session import Session
from orchestrator.cli.stack.stackfile import StackFile
from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.planning.plan import Wanted
from orchestrator.workflow.apply import World
from tests.fix_arm import SUBSCRIPTION
from tests.workflow.test_wire_faults import EXPIRED, REQUESTS
from tests.workflow.wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.emulator.stop()


def test_a_login_that_expires_in_the_middle_of_a_run_is_a_failure_not_a_refusal(
    wire: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 promises that nothing was changed; once a step has begun nobody can promise that."""
    spec = ClusterSpec(name="elk1", resource_group="rg-lab", location="northeurope", nodes=8)
    file = StackFile("test", tmp_path / "Pulumi.test.yaml", "", spec)
    first_patch = next(i for i, request in enumerate(REQUESTS) if request.startswith("PATCH"))
    wire.faults.break_request(first_patch, EXPIRED)
    with ArmClient(SUBSCRIPTION, "rg-lab", "elk1", wire.emulator.url) as arm:
        nobody = cast(Any, None)
        session = Session(file, tmp_path, nobody, nobody, World(wire.world, arm), None, arm)
        with pytest.raises(OrchestratorError, match="token expiry") as caught:
            execute(session, "scale-out", Wanted(), Output(as_json=True, as_events=False), yes=True)
    assert caught.value.exit_code == 1
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "failed"
    assert "az login" in report["error"]
