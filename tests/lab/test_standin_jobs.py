"""Background rebalance jobs of the stand-in: what a person or a program sees of them from start to end."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from orchestrator.lab.ticker import Ticker
from tests.fix_standin import Message, Standin, await_true
from tests.lab.standin_crowd import crowd, tasks

STARTED = (
    "Rebalance scheduled as background job",
    "To monitor progress, run: SELECT * FROM citus_rebalance_status();",
)


def test_a_job_is_scheduled_runs_and_finishes(standin: Standin, ticker: Ticker) -> None:
    ticker.stop()
    crowd(standin, "a", "b", "c", "d")

    assert standin.value("SELECT citus_rebalance_start()") == 1
    assert standin.session().messages == [Message("NOTICE", "00000", "Scheduled 2 moves as job 1", *STARTED)]
    assert standin.run("SELECT * FROM citus_rebalance_status()") == [
        (1, "scheduled", "rebalance", "Rebalance all colocation groups", None, None,
         {"tasks": [], "task_state_counts": {"runnable": 2}})
    ]  # fmt: skip
    assert standin.run("SELECT owner::text, pid, command, nodes_involved FROM pg_dist_background_task") == [
        ("postgres", 0, "SELECT pg_catalog.citus_move_shard_placement(102008,1,2,'auto')", [1, 2]),
        ("postgres", 0, "SELECT pg_catalog.citus_move_shard_placement(102009,1,2,'auto')", [1, 2]),
    ]

    ticker.start()
    standin.run("SELECT citus_rebalance_wait()")

    assert standin.session().messages == []
    state, started, finished, details = standin.run(
        "SELECT state, started_at, finished_at, details FROM citus_rebalance_status()"
    )[0]
    assert (state, details) == ("finished", {"tasks": [], "task_state_counts": {"done": 2}})
    assert started < finished
    assert tasks(standin) == [(1, "done", 0, "SELECT 1\n"), (2, "done", 0, "SELECT 1\n")]
    assert standin.placement() == {"a": 7001, "b": 7001, "c": 7000, "d": 7000}


def test_a_running_move_shows_its_phase_and_bytes(standin: Standin, ticker: Ticker) -> None:
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '2 s'")
    standin.make_schemas("a", "b", rows=5000)
    standin.run("UPDATE pg_dist_placement SET groupid = 0")
    size = standin.value("SELECT pg_total_relation_size('a.t')")
    standin.run("SELECT citus_rebalance_start()")
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        state, details = standin.run("SELECT state, details FROM citus_rebalance_status(raw => true)")[0]
        seen.extend(task for task in details["tasks"] if task["state"] == "running")
        return bool(state == "finished")

    await_true(ended)

    assert seen[0]["hosts"] == {"source": "localhost:7000", "target": "localhost:7001"}
    assert {task["size"]["source"] for task in seen} == {size}
    copied = [task["size"]["target"] for task in seen]
    assert copied == sorted(copied)
    assert copied[-1] == size
    phases = list(dict.fromkeys(task["phase"] for task in seen))
    assert phases[:3] == ["Setting Up", "Copying Data", "Catching Up"]
    assert seen[0]["LSN"]["target"] is None
    assert seen[-1]["LSN"]["target"] is not None


def test_progress_names_every_table_that_moves(standin: Standin, ticker: Ticker) -> None:
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '30 s'")
    standin.make_schemas("a", "b")
    standin.run("CREATE TABLE a.second (id int PRIMARY KEY)")
    standin.run("UPDATE pg_dist_placement SET groupid = 0")
    standin.run("SELECT citus_rebalance_start()")

    await_true(lambda: bool(standin.run("SELECT * FROM get_rebalance_progress()")))

    assert standin.run(
        "SELECT table_name::text, sourceport, targetport, progress, operation_type FROM get_rebalance_progress()"
    ) == [("a.t", 7000, 7001, 1, "move"), ("a.second", 7000, 7001, 1, "move")]


def test_a_second_start_is_refused_while_one_runs(standin: Standin) -> None:
    crowd(standin, "a", "b")
    standin.run("SELECT citus_rebalance_start()")

    for statement in (
        "SELECT citus_rebalance_start()",
        "SELECT citus_drain_node('localhost', 7001)",
        "SELECT rebalance_table_shards()",
    ):
        refusal = standin.session().refused(statement)
        assert (refusal.sqlstate, refusal.text) == ("XX000", "A rebalance is already running as job 1")
        assert refusal.detail == "A rebalance was already scheduled as background job"


def test_a_start_in_an_open_transaction_makes_another_start_wait_its_turn(standin: Standin) -> None:
    crowd(standin, "a", "b")
    with standin.connect() as other, other.transaction(force_rollback=True):
        other.execute("SELECT citus_rebalance_start()")

        refusal = standin.session().refused("SELECT citus_rebalance_start()")

    assert (refusal.sqlstate, refusal.text) == ("XX000", "could not acquire the lock required to rebalance a.t")
    assert standin.value("SELECT citus_rebalance_start()") is not None


def test_schemas_can_be_made_and_moved_while_a_rebalance_is_planned(standin: Standin) -> None:
    crowd(standin, "a", "b")
    standin.run("SELECT citus_rebalance_start()")

    standin.make_schemas("meanwhile")
    standin.run("SELECT citus_schema_move('b', 2, 'block_writes')")

    assert standin.placement()["b"] == 7001


def test_a_move_done_by_hand_meanwhile_does_not_fail_its_task(standin: Standin, ticker: Ticker) -> None:
    ticker.stop()
    crowd(standin, "a", "b")
    standin.run("SELECT citus_rebalance_start()")
    standin.run("SELECT citus_schema_move('a', 2, 'block_writes')")

    ticker.start()
    standin.await_job()

    assert tasks(standin) == [(1, "done", 0, "SELECT 1\n")]


def test_a_stopped_job_keeps_what_is_done(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b", "c", "d", "e", "f")
    standin.run("SELECT citus_rebalance_start()")
    await_true(lambda: tasks(standin)[0][1] == "done")
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '60 s'")
    await_true(lambda: standin.value("SELECT count(*) FROM pg_dist_background_task WHERE status = 'running'") == 1)

    standin.run("SELECT citus_rebalance_stop()")
    standin.await_job("cancelled")

    statuses = [status for _, status, _, _ in tasks(standin)]
    assert statuses[0] == "done"
    assert statuses[-1] == "cancelled"
    assert any("canceling statement due to user request" in message for *_, message in tasks(standin))
    assert standin.placement()["a"] == 7001
    assert standin.session().refused("SELECT citus_rebalance_stop()").text == "no ongoing rebalance that can be stopped"
    left = statuses.count("cancelled")
    standin.run("SELECT citus_rebalance_start()")
    assert standin.session().messages[-1].text == f"Scheduled {left} moves as job 2"


def test_only_members_of_the_owner_may_stop_a_job(standin: Standin) -> None:
    crowd(standin, "a", "b")
    standin.run("SELECT citus_rebalance_start()")
    standin.run("CREATE ROLE stranger LOGIN")

    assert standin.session("stranger").refused("SELECT citus_job_cancel(1)").sqlstate == "42501"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT citus_job_wait(99)", "no job found for job with jobid: 99"),
        ("SELECT citus_job_cancel(99)", "could not find background jobs entry for job_id: 99"),
        ("SELECT citus_rebalance_start('nosuch')", "could not find rebalance strategy with name nosuch"),
    ],
)
def test_what_does_not_exist_is_named(standin: Standin, statement: str, text: str) -> None:
    crowd(standin, "a", "b")
    assert standin.session().refused(statement).text == text


def test_waiting_without_a_job_is_only_a_warning(standin: Standin) -> None:
    standin.run("SELECT citus_rebalance_wait()")

    assert standin.session().messages == [Message("WARNING", "01000", "no ongoing rebalance that can be waited on")]


@pytest.mark.parametrize(("in_all", "per_node", "at_once"), [(1, 2, 1), (4, 1, 2), (4, 2, 4)])
def test_both_executor_settings_limit_how_many_moves_run(
    standin: Standin, ticker: Ticker, in_all: int, per_node: int, at_once: int
) -> None:
    """From 2 to 4 nodes; the numbers are those measured on Citus 13.2.2."""
    standin.make_schemas(*(f"s{number}" for number in range(16)))
    standin.add_node(7002)
    standin.add_node(7003)
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '0.3 s'")
    for name, value in (("", in_all), ("_per_node", per_node)):
        standin.run(f"ALTER SYSTEM SET citus.max_background_task_executors{name} = {value}")
    standin.run("SELECT pg_reload_conf()")
    running: list[int] = []
    try:
        standin.run("SELECT citus_rebalance_start()")
        await_true(
            lambda: (
                running.append(standin.value("SELECT count(*) FROM pg_dist_background_task WHERE status = 'running'"))
                or standin.value("SELECT state FROM citus_rebalance_status()") == "finished"
            )
        )
    finally:
        standin.run("ALTER SYSTEM RESET citus.max_background_task_executors")
        standin.run("ALTER SYSTEM RESET citus.max_background_task_executors_per_node")
        standin.run("SELECT pg_reload_conf()")

    assert max(running) == at_once


def test_old_copies_are_listed_until_they_are_dropped(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b")
    standin.run("SELECT citus_rebalance_start()")
    standin.await_job()

    assert standin.run("SELECT object_type, object_name, node_group_id, policy_type FROM pg_dist_cleanup") == [
        (1, "a.t_102008", 0, 2)
    ]
    standin.run("UPDATE citus_lab.cleanup SET created_at = created_at - interval '15 s'")
    await_true(lambda: standin.run("SELECT * FROM pg_dist_cleanup") == [])


def test_new_nodes_get_reference_tables_before_anything_moves(standin: Standin, ticker: Ticker) -> None:
    standin.run("CREATE TABLE public.colours (id int PRIMARY KEY)")
    standin.run("SELECT create_reference_table('public.colours')")
    crowd_names = ("a", "b", "c", "d", "e", "f")
    standin.make_schemas(*crowd_names)
    standin.add_node(7002)
    ticker.stop()
    standin.run("SELECT citus_rebalance_start()")

    rows = standin.run(
        "SELECT task_id, status, command, (SELECT array_agg(depends_on) FROM pg_dist_background_task_depend d"
        " WHERE d.task_id = t.task_id) FROM pg_dist_background_task t ORDER BY task_id"
    )
    assert rows[0] == (1, "runnable", "SELECT pg_catalog.replicate_reference_tables('auto')", None)
    assert all(status == "blocked" and waits == [1] for _, status, _, waits in rows[1:])

    ticker.start()
    standin.await_job()
    assert standin.run("SELECT nodeport FROM citus_shards WHERE citus_table_type = 'reference' ORDER BY 1") == [
        (7000,), (7001,), (7002,)
    ]  # fmt: skip


def test_a_table_without_a_key_stops_the_start_of_an_online_rebalance(standin: Standin) -> None:
    standin.run("CREATE SCHEMA nopk")
    standin.run("SELECT citus_schema_distribute('nopk')")
    standin.run("CREATE TABLE nopk.b (id int)")
    standin.run("INSERT INTO nopk.b SELECT generate_series(1, 5000)")
    standin.make_schemas("a")
    standin.run("UPDATE pg_dist_placement SET groupid = 0")

    refusal = standin.session().refused("SELECT citus_rebalance_start()")

    assert refusal == Message(
        "ERROR",
        "0A000",
        "cannot use logical replication to transfer shards of the relation b since it doesn't have a REPLICA IDENTITY "
        "or PRIMARY KEY",
        "UPDATE and DELETE commands on the shard will error out during logical replication unless there is a REPLICA "
        "IDENTITY or PRIMARY KEY.",
        "If you wish to continue without a replica identity set the shard_transfer_mode to 'force_logical' or "
        "'block_writes'.",
    )
    assert standin.run("SELECT * FROM pg_dist_background_job") == []
    assert standin.value("SELECT citus_rebalance_start(shard_transfer_mode => 'block_writes')") is not None


def test_waiting_sessions_return_when_the_job_ends(standin: Standin, ticker: Ticker) -> None:
    crowd(standin, "a", "b")
    standin.run("UPDATE citus_lab.settings SET logical_fixed = '0.5 s'")
    standin.run("SELECT citus_rebalance_start()")
    returned = threading.Event()

    def wait(conn: psycopg.Connection[Any]) -> None:
        conn.execute("SELECT citus_job_wait(1, 'finished')")
        returned.set()

    with standin.connect() as other:
        thread = threading.Thread(target=wait, args=(other,))
        thread.start()
        standin.await_job()
        thread.join(10)

    assert returned.is_set()
