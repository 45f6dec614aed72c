"""`orchestrator doctor` on a real lab: well, and with something wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.lab.balancer import Balancer
from orchestrator.lab.engine import Address
from orchestrator.lab.pgbouncer import find_pgbouncer, pgbouncer_version
from orchestrator.lab.postgres import free_ports
from tests.e2e.test_scale_out import connect
from tests.fix_lab import Project, engines
from tests.fix_project import _project


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    if not engines()["native"].available:
        pytest.skip(f"engine native: {engines()['native'].reason}")
    made = _project(tmp_path_factory.mktemp("doctor") / "project", lab_base)
    assert made.call("lab", "up", "--engine", "native", "--nodes", "2").returncode == 0
    applied = made.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    yield made
    made.call("lab", "down", "--delete")


def service_dsn(lab: Project, service: str, port: str) -> str:
    printed = lab.call("connection", service, "--port", port, "--show-password")
    assert printed.returncode == 0, printed.stderr
    return printed.stdout.strip()


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
    for what in ("LISTEN/NOTIFY", "advisory locks"):
        assert checks["user", "direct", what]["seen"] == "work"
        assert "use the direct port" in checks["user", "balanced", what]["seen"]
    if ("user", "pooled", "session") in checks:
        assert "shared" in checks["user", "pooled", "session"]["seen"]
        with connect(lab, port="pooled") as admin:
            assert admin.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    with connect(lab) as admin:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1869767528"
        assert admin.execute(held).fetchone() == (0,)


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


def with_ports(lab: Project, **ports: int) -> str:
    """The stack file with other port numbers; the text that it had."""
    before = lab.stack.read_text()
    text = before
    for name, number in ports.items():
        text = re.sub(rf"\b{name}: \d+", f"{name}: {number}", text)
    lab.stack.write_text(text)
    return before


def port_of(lab: Project, name: str) -> int:
    found = re.search(rf"\b{name}: (\d+)", lab.stack.read_text())
    assert found is not None, f"the lab has no {name} port"
    return int(found[1])


def has_pooled(lab: Project) -> bool:
    return "pooled:" in lab.stack.read_text()


def test_a_direct_port_that_is_a_pooler_is_seen(lab: Project) -> None:
    """Behind the number of the direct port stands PgBouncer: nothing that needs a session of its own works."""
    if not has_pooled(lab):
        pytest.skip("the lab has no pooled port: no pgbouncer was found")
    before = lab.stack.read_text()
    # PgBouncer refuses the start-up options that the direct port gets, so they must not hide what is tested here.
    pooled = port_of(lab, "pooled")
    with_ports(lab, direct=pooled)
    try:
        code, checks = examined(lab)
    finally:
        lab.stack.write_text(before)
    assert code == 1
    found = {what for service, port, what in ill(checks) if (service, port) == ("user", "direct")}
    assert found >= {"session", "LISTEN/NOTIFY", "advisory locks"} or found == {"answers"}
    if found == {"answers"}:
        assert "options" in checks["user", "direct", "answers"]["seen"]


def test_settings_that_another_client_left_in_the_pool_are_seen(lab: Project) -> None:
    if not has_pooled(lab):
        pytest.skip("the lab has no pooled port: no pgbouncer was found")
    with psycopg.connect(service_dsn(lab, "user", "pooled"), autocommit=True) as careless:
        careless.execute("SET statement_timeout = '7s'")
        careless.execute("SET search_path TO nowhere")
        try:
            code, checks = examined(lab)
        finally:
            careless.execute("RESET ALL")
    assert code == 1
    assert ("user", "pooled", "session settings") in ill(checks)
    said = checks["user", "pooled", "session settings"]["seen"]
    assert "search_path, statement_timeout" in said
    assert ("time", "pooled", "session settings") not in ill(checks)


def test_prepared_statements_that_are_promised_and_do_not_work_name_the_setting(lab: Project) -> None:
    """As on Azure the stack file promises them; the PgBouncer here may be older than the one that keeps them."""
    if not has_pooled(lab):
        pytest.skip("the lab has no pooled port: no pgbouncer was found")
    binary = find_pgbouncer()
    assert binary is not None
    before = lab.stack.read_text()
    lab.stack.write_text(re.sub(r", engine: \w+", "", before))
    try:
        code, checks = examined(lab)
    finally:
        lab.stack.write_text(before)
    check = checks["user", "pooled", "prepared statements"]
    if pgbouncer_version(binary) >= (1, 21):
        assert check["ok"]
    else:
        assert code == 1
        assert not check["ok"]
        assert "elastic-cluster:pgbouncer.maxPreparedStatements" in check["seen"]


@pytest.mark.slow
def test_a_node_that_the_balanced_port_never_reaches_is_named(lab: Project) -> None:
    """A node was added, and the load balancer knows nothing of it. Last, because the lab keeps the node."""
    old = port_of(lab, "direct")
    grown = lab.call("scale-out", "--nodes", "3", "--yes", "--no-rebalance")
    assert grown.returncode == 0, grown.stderr
    code, checks = examined(lab)
    assert ill(checks) == set(), checks
    assert checks["user", "balanced", "nodes"]["seen"] == "3 of 3 nodes answered"
    with connect(lab) as admin:
        nodes = admin.execute("SELECT groupid, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
    assert nodes[0][1] == old
    (number,) = free_ports(1)
    stale = Balancer(number, lambda: [Address("127.0.0.1", port) for _, port in nodes[:2]])
    stale.start()
    before = with_ports(lab, balanced=number)
    try:
        code, checks = examined(lab)
    finally:
        stale.stop()
        lab.stack.write_text(before)
    assert code == 1
    assert {(port, what) for _, port, what in ill(checks)} == {("balanced", "nodes")}
    said = checks["user", "balanced", "nodes"]["seen"]
    assert said.startswith("2 of 3 nodes answered")
    assert f"never those of group {nodes[2][0]}:" in said
