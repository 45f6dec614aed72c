"""Direct moves by the command itself, on every engine: done, undone, stopped from another terminal, guarded."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.fix_lab import Project
from tests.fix_standin import await_true


def connect(project: Project) -> psycopg.Connection[Any]:
    config = yaml.safe_load(project.stack.read_text("utf-8"))["config"]
    endpoint = config["elastic-cluster:endpoint"]
    password = Path(config["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8")
    port = endpoint["ports"]["direct"]
    dsn = f"host=127.0.0.1 port={port} dbname=citus user=clusteradmin sslmode=disable"
    return psycopg.connect(dsn, password=password, autocommit=True)


def crowd(project: Project, count: int, rows: int = 10) -> None:
    """Distributed schemas that are all on the first node."""
    with connect(project) as admin:
        for number in range(count):
            admin.execute(f"CREATE SCHEMA s{number}")
            admin.execute(f"SELECT citus_schema_distribute('s{number}')")
            admin.execute(f"CREATE TABLE s{number}.t (id bigint PRIMARY KEY, v text)")
            admin.execute(f"INSERT INTO s{number}.t SELECT i, repeat('x', 500) FROM generate_series(1, {rows}) i")
            if placement(project)[f"s{number}"] != 1:
                admin.execute(f"SELECT citus_schema_move('s{number}', 1, 'block_writes')")
        admin.execute("CALL citus_cleanup_orphaned_resources()")


def placement(project: Project) -> dict[str, int]:
    with connect(project) as admin:
        rows = admin.execute(
            "SELECT logicalrelid::regclass::text, nodeid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)"
            " JOIN pg_dist_node USING (groupid)"
        ).fetchall()
    return {name.split(".")[0]: node for name, node in rows}


def leftovers(project: Project) -> int:
    with connect(project) as admin:
        return int(admin.execute("SELECT count(*) FROM pg_dist_cleanup").fetchone()[0])  # type: ignore[index]


until = partial(await_true, seconds=60)


def wait_for(running: subprocess.Popen[str], text: str) -> str:
    """The first line of its output with this text in it."""
    assert running.stdout is not None
    for line in running.stdout:
        if text in line:
            return line
    raise AssertionError(running.communicate()[1])


def test_a_rebalance_is_recorded_and_can_be_undone_also_the_undoing(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 8)
    before = placement(project)
    done = project.call("rebalance", "--yes", "--json", "--moves", "direct", "--max-write-pause", "5000")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"][0]["title"] == "rebalance with by_disk_size: 6 direct moves, 2 at once"
    assert "direct, as asked for" in report["notices"][0]
    after = placement(project)
    assert sorted(after.values()) == [1, 1, 2, 2, 3, 3, 4, 4]
    runs = json.loads(project.call("runs", "--json").stdout)
    assert [(run["run"], run["moves"], run["way"], run["outcome"]) for run in runs] == [(1, 6, "direct", "done")]
    undone = project.call("rebalance", "--undo", "1", "--yes", "--json")
    assert undone.returncode == 0, undone.stderr
    assert placement(project) == before
    assert leftovers(project) == 0
    again = project.call("rebalance", "--undo", "1", "--yes")
    assert "Everything that run 1 moved is where it was before." in again.stdout
    redone = project.call("rebalance", "--undo", "2", "--yes")
    assert redone.returncode == 0, redone.stderr
    assert placement(project) == after
    name = next(schema for schema, node in after.items() if node != 1)
    with connect(project) as admin:
        admin.execute(f"DROP SCHEMA {name} CASCADE")
    refused = project.call("rebalance", "--undo", "1", "--yes")
    assert refused.returncode == 2
    assert f"{name} (shard " in refused.stderr
    assert "is gone" in refused.stderr


@pytest.mark.slow
def test_what_citus_moved_in_its_own_job_can_be_undone(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 5)
    before = placement(project)
    done = project.call("rebalance", "--yes", "--moves", "job", "--transfer-mode", "block_writes")
    assert done.returncode == 0, done.stderr
    assert placement(project) != before
    undone = project.call("rebalance", "--undo", "1", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert placement(project) == before


@pytest.mark.parametrize("way", ["direct", pytest.param("job", marks=pytest.mark.slow)])
def test_a_rebalance_is_stopped_from_another_terminal_and_leaves_a_clean_cluster(
    lab_project: tuple[Project, str], way: str
) -> None:
    project, _ = lab_project
    crowd(project, 8, rows=40000)
    options = ("--moves", way, "--transfer-mode", "force_logical", "--parallel", "1")
    running = project.start("rebalance", "--yes", "--events", *options)
    wait_for(running, "move_started")
    stopped = project.call("rebalance", "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout == "Stopped run 1.\n"
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Stopped, as asked for from elsewhere: " in error
    assert leftovers(project) == 0
    with connect(project) as admin:
        slots = admin.execute("SELECT count(*) FROM pg_replication_slots").fetchone()
        settings = admin.execute("SELECT count(*) FROM orchestrator.kept_setting").fetchone() if way == "job" else (0,)
    assert (slots, settings) == ((0,), (0,))
    assert set(placement(project).values()) != {1, 2, 3, 4}
    assert json.loads(project.call("runs", "--json").stdout)[0]["outcome"] == "stopped"
    rest = project.call("rebalance", "--yes", "--moves", "direct", "--max-write-pause", "10000")
    assert rest.returncode == 0, rest.stderr
    assert sorted(placement(project).values()) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_nothing_to_stop_is_no_mistake(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    stopped = project.call("rebalance", "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "No rebalance is running; nothing was stopped.\n")


@pytest.mark.slow
def test_a_killed_run_s_moves_can_be_stopped_too(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 4, rows=40000)
    running = project.start("rebalance", "--yes", "--events", "--moves", "direct", "--transfer-mode", "force_logical")
    wait_for(running, "move_started")
    running.kill()
    running.communicate()
    until(lambda: project.call("rebalance", "--stop").returncode == 0)
    assert leftovers(project) == 0
    done = project.call("rebalance", "--yes", "--moves", "direct", "--max-write-pause", "10000")
    assert done.returncode == 0, done.stderr
    assert sorted(placement(project).values()) == [1, 2, 3, 4]


@pytest.mark.parametrize("limit", ["window", "p99"])
def test_held_back_by_its_guard_a_rebalance_waits_and_says_so(lab_project: tuple[Project, str], limit: str) -> None:
    """Outside its window, and while the probe is slower than it may be, which here it always is."""
    project, engine = lab_project
    if limit == "p99" and engine == "embedded":
        pytest.skip("engine embedded: simulated moves are over before a guard can look")
    crowd(project, 8)
    hour = (time.localtime().tm_hour + 6) % 24
    options = ("--window", f"{hour}:00-{hour}:30") if limit == "window" else ("--max-p99", "0.001", "--parallel", "1")
    options = (*options, "--transfer-mode", "force_logical")
    running = project.start("rebalance", "--yes", "--events", *options)
    expected = {"window": "the window opens in ", "p99": "the limit is 0.001 ms"}[limit]
    assert expected in wait_for(running, "Moves are paused")
    stopped = project.call("rebalance", "--stop")
    assert stopped.stdout == "Stopped run 1.\n"
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert list(placement(project).values()).count(1) >= (8 if limit == "window" else 3)


def test_limits_that_nothing_can_hold_are_refused(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    cpu = project.call("rebalance", "--yes", "--max-cpu", "50")
    assert cpu.returncode == 2
    assert "has no metric cpu_percent of this cluster" in cpu.stderr
    both = project.call("rebalance", "--yes", "--max-p99", "50", "--moves", "job")
    assert both.returncode == 2
    assert "--max-p99 cannot slow down Citus' background job" in both.stderr
