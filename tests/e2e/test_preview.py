"""A preview of a running cluster, of its snapshot, and what the run then reports beside it."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tests.e2e.test_scale_out import connect, make_tenants
from tests.fix_lab import Project


def test_preview_of_the_snapshot_is_the_preview_of_the_cluster_and_the_run_learns(
    lab_project: tuple[Project, str],
) -> None:
    project, _engine = lab_project
    make_tenants(project)
    saved = project.folder / "cluster.json"
    before = project.stack.read_text("utf-8")
    assert project.call("snapshot", "-o", str(saved)).returncode == 0
    live = project.call("preview", "--nodes", "6", "--format", "json")
    assert live.returncode == 0, live.stderr

    offline = project.call("preview", "--nodes", "6", "--format", "json", "--snapshot", str(saved))
    assert json.loads(offline.stdout) == json.loads(live.stdout)
    assert project.stack.read_text("utf-8") == before
    password = Path(project.folder, *_password_file(project)).read_text("utf-8").strip()
    assert password not in saved.read_text("utf-8") + live.stdout

    option = json.loads(live.stdout)["options"][0]
    grown = project.call("scale-out", "--nodes", "6", "--yes", "--json", "--transfer-mode", "block_writes")
    assert grown.returncode == 0, grown.stderr
    report = json.loads(grown.stdout)
    # Sizes are those of the moment; placement must be as predicted.
    assert [node["shard_groups"] for node in report["after"]] == [node["shard_groups"] for node in option["after"]]
    assert report["estimate"]["took"] > 0
    assert report["estimate"]["runs"] == 0

    with connect(project) as admin:
        rows = admin.execute("SELECT moves, estimated_seconds, seconds FROM orchestrator.run_timing").fetchall()
    assert [(moves > 0, seconds > 0) for moves, _, seconds in rows] == [(True, True)]
    again = project.call("preview", "--nodes", "8", "--format", "json")
    assert json.loads(again.stdout)["options"][0]["seconds"]["runs"] == 1


def _password_file(project: Project) -> tuple[str, ...]:
    import yaml

    config = yaml.safe_load(project.stack.read_text("utf-8"))["config"]
    return (str(config["elastic-cluster:administratorPassword"]["file"]),)


@pytest.mark.slow
def test_the_base_cost_that_the_advice_names_can_be_set_by_the_administrator(lab_project: tuple[Project, str]) -> None:
    """The setting is the administrator's own, and the next preview goes by it."""
    project, engine = lab_project
    make_tenants(project)
    with connect(project) as admin:
        try:
            admin.execute("ALTER ROLE clusteradmin SET citus.rebalancer_by_disk_size_base_cost = '1MB'")
        except psycopg.errors.InsufficientPrivilege:
            assert engine == "embedded"
            return
    saved = project.folder / "cluster.json"
    assert project.call("snapshot", "-o", str(saved)).returncode == 0
    strategies = {row["name"]: row for row in json.loads(saved.read_text("utf-8"))["strategies"]}
    assert strategies["by_disk_size"]["base_cost"] == 2**20
