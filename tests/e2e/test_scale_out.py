"""The main job as a user does it: lab up, apply, data, scale-out, again, interrupted, continued."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.fix_lab import Project

TENANTS = 8


def config(project: Project) -> dict[str, Any]:
    return yaml.safe_load(project.stack.read_text("utf-8"))["config"]


def connect(project: Project, role: str | None = None, password: str | None = None, port: str = "direct") -> Any:
    values = config(project)
    file = values["elastic-cluster:administratorPassword"]["file"]
    admin_password = Path(file).read_text("utf-8")
    return psycopg.connect(
        host="127.0.0.1",
        port=values["elastic-cluster:endpoint"]["ports"][port],
        dbname="citus",
        user=role or "clusteradmin",
        password=password or admin_password,
        sslmode="disable",
        autocommit=True,
    )


def make_tenants(project: Project) -> None:
    """Distributed schemas with some rows, made by hand as somebody without the orchestrator would."""
    with connect(project) as admin:
        for number in range(TENANTS):
            admin.execute(f"CREATE SCHEMA tenant{number}")
            admin.execute(f"SELECT citus_schema_distribute('tenant{number}')")
            admin.execute(f"CREATE TABLE tenant{number}.t (id bigint PRIMARY KEY, payload text)")
            rows = f"SELECT i, repeat('x', 100) FROM generate_series(1, {500 * (number + 1)}) i"
            admin.execute(f"INSERT INTO tenant{number}.t {rows}")


def count_rows(project: Project, port: str = "direct") -> list[int]:
    with connect(project, port=port) as admin:
        return [admin.execute(f"SELECT count(*) FROM tenant{n}.t").fetchone()[0] for n in range(TENANTS)]


def status(project: Project) -> dict[str, Any]:
    shown = project.call("status", "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_from_four_to_eight_nodes(lab_project: tuple[Project, str]) -> None:
    project, engine = lab_project
    applied = project.call("apply", "--yes", "--json")
    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout)["outcome"] == "done"
    make_tenants(project)
    rows = count_rows(project)
    text = project.stack.read_text("utf-8")

    grown = project.run(
        "scale-out", "--stack", "local", "--nodes", "8", "--yes", "--json", "--transfer-mode", "block_writes"
    )
    assert grown.returncode == 0, grown.stderr
    report = json.loads(grown.stdout)
    assert report["outcome"] == "done"
    assert (report["nodes_before"], report["nodes_after"]) == (4, 8)
    assert report["placement_simulated"] == (engine == "embedded")
    assert report["moves_planned"] >= 3

    seen = status(project)
    assert set(seen) >= {"stack", "engine", "nodes", "skew", "services", "rebalance_job"}
    assert (seen["stack"], seen["engine"], seen["rebalance_job"]) == ("local", engine, None)
    assert len(seen["nodes"]) == 8
    assert all(node["active"] and node["should_have_shards"] for node in seen["nodes"])
    assert set(seen["nodes"][0]) >= {"node_id", "host", "port", "active", "should_have_shards", "shard_groups", "bytes"}
    assert sum(node["shard_groups"] for node in seen["nodes"]) == TENANTS + 3
    assert max(node["shard_groups"] for node in seen["nodes"]) <= 2
    assert count_rows(project) == rows
    assert count_rows(project, "balanced") == rows
    assert project.stack.read_text("utf-8") == re.sub(r"nodes: 4", "nodes: 8", text, count=1)
    with connect(project) as admin:
        for name in ("citus.max_background_task_executors", "citus.max_background_task_executors_per_node"):
            assert admin.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("1",)

    again = project.call("scale-out", "--stack", "local", "--nodes", "8", "--yes", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["outcome"] == "nothing to do"
    assert json.loads(again.stdout)["steps"] == []
    second = project.call("apply", "--yes")
    assert second.returncode == 0
    assert "Nothing to do" in second.stdout


@pytest.mark.slow
def test_interrupted_and_continued(lab_project: tuple[Project, str]) -> None:
    """Ctrl-C while shards move: exit code 130, and the same command does what is left."""
    project, _ = lab_project
    make_tenants(project)
    rows = count_rows(project)
    run = project.start("scale-out", "--nodes", "8", "--yes", "--events")
    assert run.stdout is not None
    for line in run.stdout:
        event = json.loads(line)
        if event["type"] == "step_progress" and event.get("total") and "moving" in event["text"]:
            break
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Run the same command to continue" in errors
    assert "Traceback" not in errors

    continued = project.call("scale-out", "--nodes", "8", "--yes", "--json")
    assert continued.returncode == 0, continued.stderr
    seen = status(project)
    assert len(seen["nodes"]) == 8
    assert seen["rebalance_job"] is None
    assert max(node["shard_groups"] for node in seen["nodes"]) == 1
    assert count_rows(project) == rows
    last = project.call("scale-out", "--nodes", "8", "--yes", "--json")
    assert json.loads(last.stdout)["outcome"] == "nothing to do"
