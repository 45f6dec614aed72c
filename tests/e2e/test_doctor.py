"""`orchestrator doctor` on a real lab: well, and with something wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_scale_out import connect
from tests.fix_lab import Project, engines
from tests.fix_project import _project


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    if not engines()["native"].available:
        pytest.skip(f"engine native: {engines()['native'].reason}")
    made = _project(tmp_path_factory.mktemp("doctor") / "project", lab_base)
    assert made.call("lab", "up", "--engine", "native", "--nodes", "2").returncode == 0
    applied = made.run("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    yield made
    made.call("lab", "down", "--delete")


def examined(lab: Project) -> tuple[int, dict[tuple[str, str, str], dict[str, Any]]]:
    run = lab.call("doctor", "--json")
    assert not run.stderr, run.stderr
    ports = json.loads(run.stdout)["ports"]
    checks = {(port["service"], port["port"], check["what"]): check for port in ports for check in port["checks"]}
    return run.returncode, checks


def ill(checks: dict[tuple[str, str, str], dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {key for key, check in checks.items() if not check["ok"]}


def test_a_healthy_lab(lab: Project) -> None:
    code, checks = examined(lab)
    assert ill(checks) == set()
    assert code == 0
    assert checks["user", "balanced", "nodes"]["seen"] == "2 of 2 nodes answered"
    assert "kept" in checks["user", "direct", "session"]["seen"]
    if ("user", "pooled", "session") in checks:
        assert "shared" in checks["user", "pooled", "session"]["seen"]
        with connect(lab, port="pooled") as admin:
            assert admin.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_search_path_that_misses_the_schema_is_seen(lab: Project) -> None:
    with connect(lab) as admin:
        admin.execute("ALTER ROLE time_service SET search_path TO public")
    try:
        code, checks = examined(lab)
    finally:
        with connect(lab) as admin:
            admin.execute("ALTER ROLE time_service RESET search_path")
    assert code == 1
    assert ("time", "direct", "search_path") in ill(checks)
    assert {service for service, _, _ in ill(checks)} == {"time"}


def test_a_port_that_does_not_answer_leaves_the_others(lab: Project) -> None:
    text = lab.stack.read_text()
    lab.stack.write_text(re.sub(r"balanced: \d+", "balanced: 1", text))
    try:
        code, checks = examined(lab)
    finally:
        lab.stack.write_text(text)
    assert code == 1
    assert {(port, what) for _, port, what in ill(checks)} == {("balanced", "answers")}
    assert "refused" in checks["user", "balanced", "answers"]["seen"]


def test_a_role_that_may_not_log_in_is_seen(lab: Project) -> None:
    with connect(lab) as admin:
        admin.execute("ALTER ROLE ping_service NOLOGIN")
    try:
        code, checks = examined(lab)
    finally:
        with connect(lab) as admin:
            admin.execute("ALTER ROLE ping_service LOGIN")
    assert code == 1
    assert ("ping", "direct", "answers") in ill(checks)
