"""The time that moves take, told from looks at a job now and then; and the time that is left."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from orchestrator.core.events import MoveEnded, MoveStarted
from orchestrator.core.moves.cost import MoveCost
from orchestrator.core.observed.state import RebalanceJob, RebalanceTask
from orchestrator.workflow.watch import JobMoves, MoveWatch

MB = 2**20
KNOWN = MoveCost(9.0, 1 / (10 * MB))


def looked_at(spans: list[tuple[float, float]], now: float) -> RebalanceJob:
    """A job whose moves run in these spans of time."""
    tasks = []
    for number, (start, end) in enumerate(spans, 1):
        status = "runnable" if now < start else "running" if now < end else "done"
        tasks.append(RebalanceTask(number, status, "", 100 + number))
    state = "finished" if all(task.status == "done" for task in tasks) else "running"
    return RebalanceJob(7, state, tuple(tasks))


def watched(spans: list[tuple[float, float]], sizes: list[int], step: float) -> MoveWatch:
    watch = MoveWatch({101 + i: size for i, size in enumerate(sizes)}, KNOWN, 0.0)
    now = 0.0
    while True:
        now += step
        job = looked_at(spans, now)
        watch.see(job, now)
        if job.state == "finished":
            return watch


def in_a_row(lengths: list[float], lead: float, lanes: int) -> list[tuple[float, float]]:
    free = [lead] * lanes
    spans = []
    for length in lengths:
        lane = free.index(min(free))
        spans.append((free[lane], free[lane] + length))
        free[lane] += length
    return spans


def test_many_short_moves_add_up_also_between_rare_looks() -> None:
    """Two hundred moves of half a second on two lanes, looked at every two seconds."""
    chance = random.Random(5)
    spans = in_a_row([chance.uniform(0.2, 0.8) for _ in range(200)], 3.3, 2)
    watch = watched(spans, [1000] * 200, 2.0)
    timed = watch.timed(1, looked_at(spans, 1e9))
    assert timed.fixed_seconds == pytest.approx(0.5, rel=0.15)
    assert timed.seconds_per_byte is None
    assert timed.lead_seconds == pytest.approx(4.0)
    assert (timed.moves, timed.moved_bytes) == (200, 200_000)


def test_fixed_cost_and_throughput_of_a_mixed_job() -> None:
    sizes = [MB, 500 * MB, 10 * MB, 900 * MB, 200 * MB, 5 * MB, 5 * MB, 700 * MB]
    spans = in_a_row([2.0 + size / (40 * MB) for size in sizes], 1.0, 2)
    timed = watched(spans, sizes, 0.5).timed(1, looked_at(spans, 1e9))
    assert timed.fixed_seconds == pytest.approx(2.0, abs=0.5)
    assert timed.seconds_per_byte == pytest.approx(1 / (40 * MB), rel=0.1)


def test_a_job_that_was_over_before_the_second_look_has_no_negative_times() -> None:
    watch = MoveWatch({101: 10}, KNOWN, 0.0)
    job = looked_at([(0.0, 0.1)], 5.0)
    watch.see(job, 5.0)
    timed = watch.timed(1, job)
    assert timed.seconds == 0
    assert timed.fixed_seconds is None


def test_the_time_left_is_that_of_what_is_left_not_of_the_average() -> None:
    """Nineteen small moves are done, the whale is still to come: an average of the past would say one second."""
    sizes = [0] * 19 + [1000 * MB]
    spans = in_a_row([1.0] * 19 + [101.0], 0.0, 1)
    watch = MoveWatch({101 + i: size for i, size in enumerate(sizes)}, KNOWN, 0.0)
    for tenth in range(1, 191):
        watch.see(looked_at(spans, tenth / 10), tenth / 10)
    left = watch.left(looked_at(spans, 19.0))
    assert left == pytest.approx(101.0, rel=0.1)


def test_before_the_first_move_has_ended_nothing_is_said() -> None:
    spans = in_a_row([10.0, 10.0], 1.0, 1)
    watch = MoveWatch({101: 0, 102: 0}, KNOWN, 0.0)
    watch.see(looked_at(spans, 5.0), 5.0)
    assert watch.left(looked_at(spans, 5.0)) is None


def test_every_move_of_a_job_is_told_to_begin_and_to_end_once() -> None:
    """Also those that were over between two looks."""
    spans = in_a_row([0.3, 5.0, 0.4, 7.0, 0.2], 1.0, 2)
    moves = JobMoves(2, "auto", {101: 7}, {101: "tenant"}, 0.0)
    seen: list[tuple[float, MoveStarted | MoveEnded]] = []
    for look in range(12):
        now = look * 2.0
        tasks = tuple(replace(task, source=1, target=3) for task in looked_at(spans, now).tasks)
        seen += [(now, event) for event in moves.changes(RebalanceJob(7, "running", tasks), now)]
    started = [event.shard_id for _, event in seen if isinstance(event, MoveStarted)]
    ended = {event.shard_id: event for _, event in seen if isinstance(event, MoveEnded)}
    assert sorted(started) == sorted(ended) == [101, 102, 103, 104, 105]
    assert len(seen) == 10
    assert seen[0][1] == MoveStarted(2, 101, "tenant", 1, 3, 7, "auto", "job")
    for number, (start, end) in enumerate(spans):
        assert ended[101 + number].seconds == pytest.approx(end - start, abs=2.0)
        assert ended[101 + number].outcome == "done"
