"""The load's accounting: it has to find what was lost or doubled, and only that."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.ledger import (
    Account,
    Answer,
    Ledger,
    Move,
    account_counters,
    account_inserts,
    answer_of,
    longest_wait,
    quantiles,
)

ANSWERS = st.sampled_from(["acknowledged", "refused", "unknown"])
TENANT = 7


def ledger_of(answers: list[Answer]) -> Ledger:
    ledger = Ledger(1)
    for answer in answers:
        ledger.note(1, TENANT, 1, answer)
    return ledger


@given(st.data(), st.lists(ANSWERS, max_size=60))
def test_what_may_be_there_is_clean_however_unanswered_writes_went(data: st.DataObject, answers: list[Answer]) -> None:
    rows = [
        number
        for number, answer in enumerate(answers)
        if answer == "acknowledged" or (answer == "unknown" and data.draw(st.booleans()))
    ]
    account = account_inserts(ledger_of(answers), data.draw(st.permutations(rows)))
    assert account.clean
    assert account.acknowledged == answers.count("acknowledged")
    assert (account.unknown, account.unknown_done) == (answers.count("unknown"), len(rows) - account.acknowledged)


@given(st.data(), st.lists(ANSWERS, min_size=1, max_size=60))
def test_every_lost_doubled_and_refused_row_is_counted(data: st.DataObject, answers: list[Answer]) -> None:
    times = [data.draw(st.integers(0, 3)) for _ in answers]
    rows = [number for number, count in enumerate(times) for _ in range(count)]
    strangers = data.draw(st.integers(0, 3))
    account = account_inserts(ledger_of(answers), rows + [len(answers)] * strangers)
    pairs = Counter(zip(answers, times, strict=True))
    assert account.lost == pairs["acknowledged", 0]
    assert account.doubled == sum(max(0, count - 1) for count in times)
    assert account.refused_but_done == sum(pairs["refused", count] for count in (1, 2, 3))
    assert account.never_sent == strangers
    expected = account.lost or account.doubled or account.refused_but_done or account.never_sent
    assert account.clean == (not expected)


@given(st.lists(ANSWERS, max_size=60), st.integers(0, 80))
def test_a_counter_is_between_what_was_acknowledged_and_what_may_have_been_done(
    answers: list[Answer], value: int
) -> None:
    sure, perhaps = answers.count("acknowledged"), answers.count("unknown")
    account = account_counters(ledger_of(answers), {TENANT: value})
    assert account.lost == max(0, sure - value)
    assert account.doubled == max(0, value - sure - perhaps)
    assert account.clean == (sure <= value <= sure + perhaps)


def test_a_counter_that_is_gone_has_lost_everything() -> None:
    assert account_counters(ledger_of(["acknowledged"] * 3), {}).lost == 3


def test_accounts_add_up() -> None:
    assert Account(lost=1, unknown=2) + Account(lost=2, doubled=1) == Account(lost=3, doubled=1, unknown=2)


@pytest.mark.parametrize(
    ("sqlstate", "answer"),
    [(None, "unknown"), ("08006", "unknown"), ("57P01", "unknown"), ("40003", "unknown"), ("40P01", "refused")],
)
def test_an_error_tells_whether_anything_was_done(sqlstate: str | None, answer: Answer) -> None:
    assert answer_of(sqlstate) == answer


def test_the_longest_wait_is_that_of_a_write_that_overlaps_the_move() -> None:
    move = Move(1, "tenant", "block_writes", 10.0, 11.0)
    assert longest_wait(move, [(0.0, 9.0), (9.9, 10.4), (10.2, 10.3), (10.9, 11.2), (11.5, 20.0)]) == pytest.approx(0.5)
    assert longest_wait(move, []) == 0.0


def test_quantiles_are_of_the_sorted_latencies() -> None:
    found = quantiles([number / 1000 for number in range(100, 0, -1)])
    assert found == {"count": 100, "p50_ms": 51.0, "p99_ms": 100.0, "max_ms": 100.0}
    assert quantiles([])["p50_ms"] is None
