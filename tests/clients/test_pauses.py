"""How long writers wait for a move: bound from its first lock to the end of its commit, told by the server's clock."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from orchestrator.clients.moves import pauses
from orchestrator.clients.moves.moving import _told
from tests.clients.test_moving import Movers, until
from tests.clients.test_moving import movers as movers
from tests.fix_lab import Cluster


def test_what_is_kept_for_the_commit_is_what_99_of_100_took() -> None:
    assert pauses.reserve([], 0.5) == pytest.approx(0.05)
    assert pauses.reserve([0.02, 0.03], 0.5) == 0.03
    assert pauses.reserve([0.01] * 99 + [0.4], 0.5) == 0.01
    assert pauses.reserve([0.02] * 90 + [0.1] * 10, 0.5) == 0.1


def test_at_least_half_of_the_time_is_left_for_the_move_itself() -> None:
    assert pauses.reserve([0.9], 0.5) == 0.25


def transaction(cluster: Cluster, working: float, budget: float, most: float) -> str:
    """A transaction that works for so long in two statements of half of it. The timeout that its commit has."""
    with closing(cluster.connect()) as connection:
        connection.execute("BEGIN")
        for _ in range(2):
            connection.execute(pauses.limit(budget))
            connection.execute("SELECT pg_sleep(%s)", (working / 2,))
        connection.execute(pauses.check(budget, most))
        left = str(connection.execute("SHOW statement_timeout").fetchone()[0])
        connection.execute("COMMIT")
    return left


def test_statements_that_are_short_each_and_long_together_are_stopped(cluster: Cluster) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        transaction(cluster, working=0.8, budget=0.6, most=60)


def test_what_ends_in_time_is_committed_with_the_time_that_is_left(cluster: Cluster) -> None:
    left = transaction(cluster, working=0.2, budget=30, most=60)
    assert left.endswith("ms")
    assert 50_000 < int(left.removesuffix("ms")) < 60_000


def test_a_budget_that_is_used_up_before_the_commit_rolls_back_and_reads_as_slow(cluster: Cluster) -> None:
    with closing(cluster.connect()) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT pg_sleep(0.05)")
        with pytest.raises(psycopg.Error, match=pauses.MARK):
            connection.execute(pauses.check(0.01, 0.02))
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        connection.execute("SELECT pg_sleep(0.05)")
        failed = connection.pgconn.exec_(pauses.check(0.01, 0.02).as_bytes(connection))
        outcome, _ = _told(failed)
    assert outcome == "slow"


def test_a_move_tells_how_long_it_held_writers_by_the_servers_clock(movers: Movers) -> None:
    movers.crowd("mv", 1)
    movers.mover.start(movers.move("mv0"))
    result = movers.outcome()
    assert result.outcome == "done"
    assert result.pause is not None
    assert 0 < result.pause <= result.seconds


def test_a_logical_move_tells_no_pause(movers: Movers) -> None:
    movers.crowd("mv", 1)
    movers.mover.start(movers.move("mv0", mode="auto"))
    result = movers.outcome()
    assert (result.outcome, result.pause) == ("done", None)


def test_slow_commits_leave_less_time_for_the_next_move(movers: Movers) -> None:
    """After commits of a second nothing that takes more than half of the ceiling is let through to its commit."""
    movers.crowd("mv", 1)
    movers.admin.execute("INSERT INTO mv0.t0 SELECT i, repeat('x', 500) FROM generate_series(100, 60000) i")
    movers.mover.start(movers.move("mv0", max_pause=60))
    first = movers.outcome()
    assert first.pause is not None
    until(lambda: movers.mover.clean_up() == 0)
    movers.mover._commits.extend([60.0] * 10)
    movers.mover.start(movers.move("mv0", max_pause=first.pause))
    assert movers.outcome().outcome == "slow"
