"""`scale-out --report`: the page of a real run names what moved, holds no secret, and can be rendered again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.test_scale_out import config, make_tenants, status
from tests.fix_lab import Project


def test_the_report_of_a_scale_out(lab_project: tuple[Project, str]) -> None:
    project, engine = lab_project
    make_tenants(project)
    run = project.call("scale-out", "--nodes", "6", "--yes", "--events", "--report", "run.html")
    assert run.returncode == 0, run.stderr
    page = (project.folder / "run.html").read_text("utf-8")

    report = json.loads(run.stdout.splitlines()[-1])
    assert report["moves"]
    assert all(move["outcome"] == "done" and move["at"] >= 0 for move in report["moves"])
    after = {node["node_id"]: node["shard_groups"] for node in status(project)["nodes"]}
    assert {load["node_id"]: load["shard_groups"] for load in report["after"]} == after
    for move in report["moves"]:
        assert f">{move['name']}</th>" in page
    assert "4 → 6" in page
    assert ("Placement is simulated" in page) == (engine == "embedded")
    password = Path(config(project)["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8")
    assert password not in page + run.stdout

    (project.folder / "events.jsonl").write_text(run.stdout, "utf-8")
    assert project.call("report", "events.jsonl", "-o", "again.html").returncode == 0
    assert (project.folder / "again.html").read_text("utf-8") == page
