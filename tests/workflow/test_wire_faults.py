"""The workflow with the production ARM client over HTTP, on a network and a control plane that fail.

Every fault either passes unseen, or the run ends with its cause and the same command completes: always with exactly
one resize. The cluster behind is the simulator; time is its own, so that hours of waiting take a moment.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.clients.azure.arm_errors import AzureLoginRefused
from orchestrator.core.errors import ArmError, StepTimedOut
from orchestrator.core.events import Event, Notice, StepProgress
from orchestrator.lab.arm.faults import Break
from orchestrator.lab.arm.protocol import ArmFault
from tests.workflow.simulator import Killed
from tests.workflow.wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.emulator.stop()


def requests_of_a_whole_run() -> tuple[str, ...]:
    made = Wire()
    try:
        made.run()
        return made.faults.last_requests
    finally:
        made.emulator.stop()


REQUESTS = requests_of_a_whole_run()
# The first of every kind: reading the server, resizing it, polling, reading and setting parameters.
EACH_KIND = sorted({REQUESTS.index(request) for request in REQUESTS if "azureAsync" not in request} | {
    next(i for i, request in enumerate(REQUESTS) if "azureAsync" in request)
})  # fmt: skip
LAST = len(REQUESTS) - 1
SLOW = [number for number in range(len(REQUESTS)) if number not in EACH_KIND]
EXPIRED = ArmFault(401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC.")
PASSING: dict[str, Break | ArmFault] = {
    "reset before the effect": "reset-before",
    "reset after the effect": "reset-after",
    "malformed JSON": "garble",
    "409": ArmFault(409, "ServerIsBusy", "Cannot complete operation while server 'elk1' is busy."),
    "429": ArmFault(429, "TooManyRequests", "The request is being throttled.", {"Retry-After": "17"}),
    "500": ArmFault(500, "InternalServerError", "An unexpected error occured while processing the request."),
    "502": ArmFault(502, "BadGateway", "The gateway did not get an answer."),
}


def test_without_faults_one_resize_is_asked_for(wire: Wire) -> None:
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1
    assert max(wire.slept) <= 10


@pytest.mark.parametrize(
    ("fault", "request_number"),
    [(name, number) for name in PASSING for number in EACH_KIND]
    + [
        pytest.param(name, number, marks=pytest.mark.slow)
        for name in PASSING
        if name.startswith("reset")
        for number in SLOW
    ],
)
def test_a_passing_fault_of_any_request_is_waited_out(wire: Wire, fault: str, request_number: int) -> None:
    wire.faults.break_request(request_number, PASSING[fault])
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1
    if fault == "429":
        assert 17 in wire.slept


@pytest.mark.parametrize("request_number", EACH_KIND)
def test_an_expired_token_ends_the_run_with_its_cause_and_a_new_login_completes(
    wire: Wire, request_number: int
) -> None:
    wire.faults.break_request(request_number, EXPIRED)
    with pytest.raises(AzureLoginRefused, match=r"token expiry.*az login"):
        wire.run()
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1


@pytest.mark.parametrize(
    "request_number",
    [number for number in EACH_KIND if number < LAST]
    + [pytest.param(number, marks=pytest.mark.slow) for number in SLOW if number < LAST],
)
def test_killed_between_any_two_requests_the_same_command_asks_once(wire: Wire, request_number: int) -> None:
    """The process dies on the answer; what it had asked for goes on without it."""
    seen: list[Event] = []

    def die(event: Event) -> None:
        seen.append(event)
        if wire.faults.requests_seen > request_number:
            raise Killed(f"after request {request_number}")

    with pytest.raises(Killed):
        wire.run(show=die)
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1


def kill_once_asked(event: Event) -> None:
    if isinstance(event, StepProgress) and event.text == "Azure is adding nodes":
        raise Killed("while Azure adds nodes")


def test_the_next_run_follows_the_operation_of_the_killed_one(wire: Wire) -> None:
    with pytest.raises(Killed):
        wire.run(show=kill_once_asked)
    assert wire.journal.operation is not None
    seen: list[Event] = []
    wire.run(show=seen.append)
    wire.assert_done()
    assert wire.resizes_asked == 1
    assert wire.journal.operation is None
    assert "following what an earlier run asked of Azure" in [e.text for e in seen if isinstance(e, StepProgress)]


def test_the_note_of_an_operation_that_ended_before_the_next_run_looked_is_cleared(wire: Wire) -> None:
    with pytest.raises(Killed):
        wire.run(show=kill_once_asked)
    wire._sleep(60)
    assert wire.journal.operation is not None
    wire.run()
    wire.assert_done()
    assert wire.journal.operation is None


def test_what_became_of_a_killed_runs_operation_is_told_and_asked_again(wire: Wire) -> None:
    wire.faults.fail_next_operation("SkuNotAvailable", "The requested size is not available in northeurope.")
    with pytest.raises(Killed):
        wire.run(show=kill_once_asked)
    seen: list[Event] = []
    wire.run(show=seen.append)
    wire.assert_done()
    told = [event.text for event in seen if isinstance(event, Notice)]
    assert any("SkuNotAvailable" in text and "earlier run" in text for text in told), told


def test_an_operation_that_arm_forgot_is_read_from_the_server(wire: Wire) -> None:
    with pytest.raises(Killed):
        wire.run(show=kill_once_asked)
    wire.faults.expire_operations = True
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1


def test_a_failed_operation_ends_the_run_in_azures_words_and_is_asked_again(wire: Wire) -> None:
    wire.faults.fail_next_operation("UnsupportedValue", "Unsupported value 8 for parameter NumberOfNodes")
    with pytest.raises(ArmError, match=r"8 nodes.*UnsupportedValue.*NumberOfNodes.*Choose a node count"):
        wire.run()
    assert wire.backend.resizes == []
    wire.run()
    wire.assert_done()


def test_an_operation_that_never_ends_is_given_up_and_followed_by_the_next_run(wire: Wire) -> None:
    wire.hanging = True
    wire.faults.retry_after = 60
    wire.faults.hang_next_operation()
    with pytest.raises(StepTimedOut, match=r"grow the cluster from 4 to 8 nodes: gave up after 7\d\d\d s.*in progress"):
        wire.run()
    wire.hanging = False
    wire.faults.retry_after = None
    wire.faults.release_operations()
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1


def test_a_node_count_that_does_not_change_is_no_success(wire: Wire) -> None:
    wire.faults.ignore_next_resize()
    with pytest.raises(ArmError, match=r"resize the cluster to 8 nodes.*still has 4 nodes"):
        wire.run()
    assert len(wire.world.nodes) == 4
    wire.run()
    wire.assert_done()


def test_a_server_that_stays_busy_is_given_up_with_azures_word_for_it(wire: Wire) -> None:
    wire.faults.busy_writes(1000)
    seen: list[Event] = []
    with pytest.raises(StepTimedOut, match=r"gave up after 9\d\d s.*ServerIsBusy"):
        wire.run(show=seen.append)
    told = [event.text for event in seen if isinstance(event, Notice)]
    assert len(told) == 1
    assert "waiting (Azure answers ServerIsBusy with status 409" in told[0]
    assert max(wire.slept) <= 10


def test_a_refusal_late_in_a_long_step_is_still_waited_out(wire: Wire) -> None:
    """The deadline for a busy server counts from its first refusal, not from the beginning of the step."""
    wire.faults.min_duration = 3600.0
    wire.faults.retry_after = 60
    wire.faults.break_request(50, PASSING["502"])
    wire.run()
    wire.assert_done()
    assert wire.resizes_asked == 1
    assert wire.world.now > 3600
