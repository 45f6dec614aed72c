"""Background jobs of the stand-in in which moves fail, nodes are down or sessions are lost: what Citus then does."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.lab.ticker import Ticker
from tests.fix_standin import Standin, await_true
from tests.lab.standin_crowd import crowd, tasks


def test_a_failing_move_is_retried_and_the_job_says_running(standin: Standin, ticker: Ticker) -> None:
    standin.run("INSERT INTO citus_lab.fault (shard_id, message, remaining) VALUES (102008, 'disk is full', 2)")
    crowd(standin, "a", "b")
    standin.run("UPDATE citus_lab.settings SET retry_delay_factor = 0.1")
    standin.run("SELECT citus_rebalance_start()")

    def waiting() -> Any:
        return standin.value("SELECT details -> 'tasks' FROM citus_rebalance_status()")

    await_true(lambda: any(task["retried"] == 1 and task["state"] == "runnable" for task in waiting()))
    (task,) = waiting()

    assert task["message"].startswith("ERROR: disk is full\nCONTEXT: Citus Background Task Queue Executor: citus")
    assert task["message"].endswith("/postgres for (1/1)\n")
    assert "hosts" not in task
    assert standin.value("SELECT state FROM citus_rebalance_status()") == "running"
    standin.await_job()
    assert tasks(standin) == [(1, "done", 2, "SELECT 1\n")]


@pytest.mark.parametrize(("failure", "seconds"), [(1, 5), (2, 20), (3, 60), (32, 60), (33, None)])
def test_the_delay_before_each_retry_is_that_of_citus(standin: Standin, failure: int, seconds: int | None) -> None:
    assert standin.value("SELECT extract(epoch FROM citus_lab.retry_delay(%s))::int", failure) == seconds


def test_a_move_that_never_works_fails_the_job_after_33_tries(standin: Standin, ticker: Ticker) -> None:
    ticker.stop()
    crowd(standin, "a", "b", "c", "d")
    standin.run("INSERT INTO citus_lab.fault (message, remaining) VALUES ('no way', 1000)")
    standin.run("SELECT citus_rebalance_start()")
    standin.run("UPDATE pg_dist_background_task SET retry_count = 32 WHERE task_id = 1")
    standin.run("UPDATE pg_dist_background_task SET retry_count = 31 WHERE task_id = 2")
    ticker.start()

    await_true(lambda: standin.value("SELECT state FROM citus_rebalance_status()") == "failing")
    standin.await_job("failed")

    assert [(number, status, retries) for number, status, retries, _ in tasks(standin)] == [
        (1, "error", 33),
        (2, "error", 33),
    ]
    assert len(standin.value("SELECT details -> 'tasks' FROM citus_rebalance_status()")) == 2
    assert standin.placement() == dict.fromkeys("abcd", 7000)
    refusal = standin.session().refused("SELECT citus_job_wait(1, 'finished')")
    assert refusal.text == 'Job reached terminal state "failed" instead of desired state "finished"'
    standin.run("SELECT citus_job_wait(1)")


def test_moves_that_wait_for_a_failed_one_are_not_run(standin: Standin, ticker: Ticker) -> None:
    """A move to a node that an earlier move empties waits for it."""
    ticker.stop()
    standin.make_schemas("a", "b", "c", "d")
    standin.run("UPDATE pg_dist_placement SET groupid = 0")
    standin.run("SELECT citus_lab.schedule(ARRAY[102008, 102009], ARRAY[1, 2], ARRAY[2, 1], 'auto', false)")
    standin.run("INSERT INTO citus_lab.fault (shard_id, message, remaining) VALUES (102008, 'no way', 1000)")
    standin.run("UPDATE pg_dist_background_task SET retry_count = 32 WHERE task_id = 1")
    assert standin.value("SELECT status FROM pg_dist_background_task WHERE task_id = 2") == "blocked"

    ticker.start()
    standin.await_job("failed")

    assert [status for _, status, _, _ in tasks(standin)] == ["error", "unscheduled"]


def test_a_job_started_on_a_worker_fails_there_and_is_seen_only_there(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b")
    worker = standin.session(node=2)

    assert worker.value("SELECT citus_rebalance_start()") == 1
    await_true(lambda: worker.value("SELECT retry_count FROM pg_dist_background_task") > 0)

    assert worker.value("SELECT message FROM pg_dist_background_task").startswith(
        "ERROR: operation is not allowed on this node\nHINT: Connect to the coordinator and run it again.\nCONTEXT:"
    )
    assert worker.value("SELECT state FROM citus_rebalance_status()") == "running"
    assert worker.refused("SELECT citus_rebalance_stop()").text == "operation is not allowed on this node"
    assert standin.run("SELECT * FROM citus_rebalance_status()") == []
    assert standin.placement() == {"a": 7000, "b": 7000}


def test_a_node_that_is_down_fails_every_move(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b")
    standin.add_node(7002)
    standin.run("SELECT citus_rebalance_start()")
    standin.run("UPDATE citus_lab.host SET up = false WHERE nodeport = 7002")
    await_true(lambda: tasks(standin)[0][2] > 0)

    assert "connection to the remote node postgres@localhost:7002 failed" in tasks(standin)[0][3]
    standin.run("UPDATE citus_lab.host SET up = true")
    standin.await_job()


def test_a_ticker_that_loses_its_server_session_goes_on(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b")
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '60 s'")
    standin.run("SELECT citus_rebalance_start()")
    await_true(lambda: tasks(standin)[0][1] == "running")
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '0.05 s'")

    standin.run("SELECT pg_terminate_backend(pid) FROM pg_dist_background_task")

    standin.await_job()
    assert tasks(standin) == [(1, "done", 0, "SELECT 1\n")]
