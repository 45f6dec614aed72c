"""`orchestrator doctor --drill` on real labs: the coordinator goes and comes, and what services notice is reported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab.engine import EngineName
from tests.e2e.test_scale_out import config, connect
from tests.fix_lab import Project, engine_of
from tests.fix_project import _project
from tests.infra.arm_calls import Arm

ENGINES: tuple[EngineName, ...] = ("native", "embedded")


@pytest.fixture(scope="module", params=ENGINES)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    engine = engine_of(request, ENGINES)
    made = _project(tmp_path_factory.mktemp("drill") / "project", lab_base)
    assert made.call("lab", "up", "--engine", engine, "--nodes", "2").returncode == 0
    applied = made.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    yield made
    made.call("lab", "down", "--delete")


def started_at(lab: Project) -> Any:
    with connect(lab) as admin:
        (found,) = admin.execute("SELECT pg_postmaster_start_time()").fetchone()
    return found


def test_every_service_comes_back_and_retries_lose_nothing(lab: Project) -> None:
    before = started_at(lab)
    run = lab.call("doctor", "--drill", "--yes", "--json", "--service", "user", "--service", "time")
    assert run.returncode == 0, run.stderr + run.stdout
    document = json.loads(run.stdout)
    assert started_at(lab) > before
    assert document["recovered"] is True
    ports = {(port["service"], port["port"]): port for port in document["ports"]}
    assert {service for service, _ in ports} == {"user", "time"}
    assert {name for _, name in ports} >= {"direct", "balanced"}
    for port in ports.values():
        assert port["retrying"]["failed"] == 0
        assert port["retrying"]["requests"] > 5
    direct = ports["user", "direct"]["plain"]
    assert direct["failed"] >= 1
    assert 0 < direct["seconds"] <= document["longest_seconds"] < 60
    # Who is connected is told 57P01, or finds the connection closed; afterwards nobody answers at the port.
    ways = ("terminating connection", "closed the connection", "shutting down", "starting up", "refused")
    assert any(way in told["text"] for told in direct["told"] for way in ways), direct
    assert all("127.0.0.1" not in told["text"] for told in direct["told"])
    if ("user", "pooled") in ports:
        assert ports["user", "pooled"]["plain"]["failed"] >= 1
        assert any("PgBouncer does not hide a restart" in line for line in document["advice"])
    assert any("Run a transaction again" in line and "s at least" in line for line in document["advice"])
    # The same lab goes on afterwards, pooled port included.
    assert lab.call("doctor", "--service", "user").returncode == 0


def test_it_asks_first_and_without_a_yes_nothing_is_restarted(lab: Project) -> None:
    before = started_at(lab)
    run = lab.call("doctor", "--drill")
    assert run.returncode == 2
    assert "Nobody can be asked here" in run.stderr
    assert started_at(lab) == before


def test_a_service_that_cannot_connect_stops_the_drill_before_the_restart(lab: Project) -> None:
    before = started_at(lab)
    with connect(lab) as admin:
        admin.execute("ALTER ROLE ping_service NOLOGIN")
    try:
        run = lab.call("doctor", "--drill", "--yes")
    finally:
        with connect(lab) as admin:
            admin.execute("ALTER ROLE ping_service LOGIN")
    assert run.returncode == 2, run.stdout
    assert "ping does not work through the direct port now" in run.stderr
    assert "Nothing was restarted." in run.stderr
    assert started_at(lab) == before


def test_a_failover_needs_standbys(lab: Project) -> None:
    run = lab.call("doctor", "--drill", "--failover", "planned", "--yes")
    assert run.returncode == 2
    assert "has no standbys" in run.stderr
    assert "Nothing was restarted." in run.stderr


def test_people_read_what_each_port_noticed(lab: Project) -> None:
    run = lab.call("doctor", "--drill", "--yes", "--service", "user")
    assert run.returncode == 0, run.stderr
    assert "user through the direct port" in run.stdout
    assert re.search(r"without retries: \d+ of \d+ requests failed, back after \d+\.\d\d s", run.stdout)
    assert re.search(r"with retries: none of \d+ requests failed; the longest took", run.stdout)
    assert "Every service came back" in run.stdout


def test_an_unknown_service_is_refused(lab: Project) -> None:
    run = lab.call("doctor", "--service", "nobody")
    assert run.returncode == 2
    assert "declares no service 'nobody'" in run.stderr


def test_a_forced_failover_goes_through_the_control_plane(lab: Project) -> None:
    """With standbys, as the control plane has it: the lab has none and restarts."""
    values = config(lab)
    arm = Arm(values["elastic-cluster:endpoint"]["arm"], values["elastic-cluster:subscriptionId"])
    server = (
        f"/subscriptions/{arm.subscription}/resourceGroups/{values['elastic-cluster:resourceGroup']}"
        f"/providers/Microsoft.DBforPostgreSQL/flexibleServers/{values['elastic-cluster:name']}"
    )
    before = started_at(lab)
    arm.write("PATCH", server, "2026-10-01", {"properties": {"highAvailability": {"mode": "ZoneRedundant"}}})
    try:
        run = lab.call("doctor", "--failover", "forced", "--yes", "--json", "--service", "user")
    finally:
        arm.write("PATCH", server, "2026-10-01", {"properties": {"highAvailability": {"mode": "Disabled"}}})
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert (document["what"], document["recovered"]) == ("forced failover", True)
    assert started_at(lab) > before


@pytest.mark.parametrize(
    "endpoint", ["", "{host: 127.0.0.1, ports: {direct: 5432}}", "{host: elk.example, ports: {direct: 5432}}"]
)
def test_on_azure_a_plain_restart_is_refused(project: Project, endpoint: str) -> None:
    """Before anything is connected to; a tunnel or a private name lead to Azure too."""
    reached = f"  elastic-cluster:endpoint: {endpoint}\n" if endpoint else ""
    project.stack.with_name("Pulumi.prod.yaml").write_text(
        "config:\n  elastic-cluster:name: elk\n  elastic-cluster:resourceGroup: rg\n"
        "  elastic-cluster:location: northeurope\n  elastic-cluster:services:\n    - {name: user}\n" + reached,
        "utf-8",
    )
    run = project.call("doctor", "--drill", "--yes", "--stack", "prod")
    assert run.returncode == 2
    assert "stack prod is on Azure" in run.stderr
    assert "--failover planned" in run.stderr
