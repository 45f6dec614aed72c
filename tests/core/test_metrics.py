"""Metrics before and after a scale-out: spans of time, what changed, and what is said about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.observed.metrics import METRICS, NoSpan, Reading, Span, changes, remarks, spans

TEN = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(metric: str, average: float, node: str = "", maximum: float | None = None) -> Reading:
    return Reading(metric, node, average, maximum or average, 60)


ALL = [reading(name, 10.0) for name in METRICS]


def test_an_hour_on_either_side_and_never_the_future() -> None:
    assert spans(TEN, TEN + HOUR, TEN + 3 * HOUR) == (Span(TEN - HOUR, TEN), Span(TEN + HOUR, TEN + 2 * HOUR))
    before, after = spans(TEN, TEN + HOUR, TEN + 1.25 * HOUR)
    assert after.end - after.start == timedelta(minutes=15)
    assert before.end == TEN


@pytest.mark.parametrize(
    ("before", "after", "now", "said"),
    [
        (TEN + HOUR, TEN, TEN + 2 * HOUR, "before it begins"),
        (TEN, TEN + HOUR, TEN, "in the future"),
        (TEN, TEN + HOUR, TEN + timedelta(days=93), "93 days"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(before: datetime, after: datetime, now: datetime, said: str) -> None:
    with pytest.raises(NoSpan, match=said):
        spans(before, after, now)


def test_nodes_that_were_added_have_no_before() -> None:
    found = changes([reading("iops", 900.0, "a")], [reading("iops", 400.0, "a"), reading("iops", 500.0, "b")])
    assert [(one.node, one.before and one.before.average, one.after and one.after.average) for one in found] == [
        ("a", 900.0, 400.0),
        ("b", None, 500.0),
    ]
    assert [one.metric for one in changes(ALL, [])] == list(METRICS)


def test_values_that_are_not_there_yet_are_said_with_the_time_to_try_again() -> None:
    after = Span(TEN, TEN + timedelta(minutes=2))
    found = changes(ALL, [reading("cpu_percent", 20.0)])
    said = " ".join(remarks(found, after, now=TEN + timedelta(minutes=2)))
    assert "memory_percent, storage_percent, iops, active_connections; they arrive late, try again after 10:05" in said
    later = " ".join(remarks(found, after, now=TEN + timedelta(days=2)))
    assert "memory_percent" in later
    assert "try again" not in later


def test_a_cluster_that_is_still_full_or_busy_is_named() -> None:
    after = Span(TEN, TEN + HOUR)
    full = [*(one for one in ALL if one.metric != "storage_percent"), reading("storage_percent", 70.0, maximum=91.0)]
    busy = [*(one for one in full if one.metric != "cpu_percent"), reading("cpu_percent", 93.0)]
    said = " ".join(remarks(changes(ALL, busy), after, TEN + 2 * HOUR))
    assert "Storage is 91 % full" in said
    assert "cpu_percent was 93 % on average" in said
    assert "Azure gives no value per node here" in said
    per_node = [reading(name, 95.0, "w3") for name in METRICS]
    said = " ".join(remarks(changes(per_node, per_node), after, TEN + 2 * HOUR))
    assert "Storage of w3 is 95 % full" in said
    assert "no value per node" not in said
