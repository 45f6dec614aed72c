"""The reconnect drill: what samples mean, and the advice that they give."""

from __future__ import annotations

from orchestrator.core.checks.drill import Failure, Outage, PortDrill, Sample, advice, longest_away, outage, recovered

SHUTDOWN = Failure("57P01", "terminating connection due to administrator command")
REFUSED = Failure("", "Connection refused")
AT_COMMIT = Failure("", "server closed the connection unexpectedly", at_commit=True)


def plain(*failures: Failure | None) -> Outage:
    """One request a second, each 0.1 s long."""
    return outage([Sample(float(place), place + 0.1, failure) for place, failure in enumerate(failures)])


def port(plain: Outage, retrying: Outage, name: str = "direct") -> PortDrill:
    return PortDrill("user", name, 5432, plain, retrying)


WELL = plain(None, None, None)


def test_the_time_away_is_from_the_first_failure_to_the_next_answer_after_the_last_one() -> None:
    seen = plain(None, SHUTDOWN, REFUSED, None, REFUSED, None, None)
    assert (seen.requests, seen.failed) == (7, 3)
    assert seen.seconds is not None
    assert abs(seen.seconds - 4.1) < 1e-9  # from second 1 to the end of the request of second 5
    assert [(told.sqlstate, told.count) for told in seen.told] == [("57P01", 1), ("", 2)]
    assert WELL.seconds == 0.0


def test_a_client_that_never_came_back_is_no_recovery() -> None:
    gone = plain(None, SHUTDOWN, REFUSED)
    assert gone.seconds is None
    ports = [port(gone, WELL)]
    assert not recovered(ports)
    assert advice(ports)[0].startswith("user/direct did not come back")


def test_a_request_that_was_tried_again_is_no_failure_but_its_wait_counts() -> None:
    mended = outage([Sample(0.0, 0.1), Sample(1.0, 4.5, None, (SHUTDOWN, REFUSED)), Sample(5.0, 5.1)])
    assert (mended.failed, mended.longest) == (0, 3.5)
    ports = [port(plain(None, SHUTDOWN, None), mended)]
    assert recovered(ports)
    assert longest_away(ports) == 3.5
    said = " ".join(advice(ports))
    assert "57P01 or without SQLSTATE" in said
    assert "for 30 s at least" in said


def test_the_advised_patience_grows_with_what_the_restart_took() -> None:
    slow = outage([Sample(0.0, 0.1), Sample(1.0, 41.0, None, (SHUTDOWN,))])
    assert "for 120 s at least" in " ".join(advice([port(plain(None, SHUTDOWN, None), slow)]))


def test_a_request_that_was_lost_in_spite_of_retries_is_named() -> None:
    ports = [port(plain(None, REFUSED, None), outage([Sample(0.0, 31.0, REFUSED, (REFUSED,))]), "pooled")]
    assert not recovered(ports)
    said = advice(ports)
    assert said[0].startswith("user/pooled lost requests after 30 s of retries")
    assert any("PgBouncer does not hide a restart" in line for line in said)


def test_an_unknown_outcome_and_errors_of_another_kind_are_said() -> None:
    denied = Failure("42501", "permission denied for table t")
    said = " ".join(advice([port(plain(None, AT_COMMIT, denied, None), WELL)]))
    assert "nobody knows whether they happened" in said
    assert "42501 are not errors of a restart" in said
    assert advice([port(WELL, WELL)]) == ("No request failed.",)
