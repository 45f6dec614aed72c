"""The lab's verbs on the engine that every machine has: up, status, psql, down, side by side, and after a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import yaml

from orchestrator.lab.home import LabHome
from tests.fix_lab import Project, engines
from tests.fix_project import _project

pytestmark = pytest.mark.skipif(
    not engines()["embedded"].available, reason=f"engine embedded: {engines()['embedded'].reason}"
)


def started(project: Project) -> Project:
    done = project.call("lab", "up", "--engine", "embedded", "--nodes", "3")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def up(project: Project) -> Project:
    """A lab of the test's own, for those that stop, kill or change it."""
    return started(project)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    """A lab that tests only look at."""
    made = started(_project(tmp_path_factory.mktemp("lab") / "project", lab_base))
    yield made
    made.call("lab", "down", "--delete")


def home(project: Project, name: str = "local") -> LabHome:
    return LabHome.of(project.folder, name, Path(project.environment["ORCHESTRATOR_LAB_HOME"]))


def endpoint(project: Project, name: str = "local") -> dict[str, Any]:
    text = (project.folder / "stacks" / f"Pulumi.{name}.yaml").read_text("utf-8")
    return yaml.safe_load(text)["config"]["elastic-cluster:endpoint"]


def connect(project: Project, port: str = "direct", user: str = "clusteradmin") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1",
        port=endpoint(project)["ports"][port],
        dbname="citus",
        user=user,
        password=home(project).read().admin_password,
        sslmode="disable",
        autocommit=True,
    )


def test_status_says_which_engine_runs_and_that_placement_is_simulated(lab: Project) -> None:
    shown = json.loads(lab.call("lab", "status", "--json").stdout)
    assert (shown["running"], shown["engine"], shown["nodes"], shown["stack"]) == (True, "embedded", 3, "local")
    assert shown["placement_simulated"] is True
    assert {engine["engine"] for engine in shown["engines"]} == {"docker", "native", "embedded"}
    assert "placement is simulated" in lab.call("lab", "status").stdout
    assert json.loads(lab.call("status", "--json").stdout)["engine"] == "embedded"


def test_up_again_changes_nothing_and_more_nodes_are_azures_business(lab: Project) -> None:
    before = lab.stack.read_text("utf-8")
    again = lab.call("lab", "up")
    assert again.returncode == 0
    assert lab.stack.read_text("utf-8") == before
    refused = lab.call("lab", "up", "--nodes", "5")
    assert refused.returncode == 2
    assert "scale-out --stack local --nodes 5" in refused.stderr
    fewer = lab.call("lab", "up", "--nodes", "2")
    assert fewer.returncode == 2
    assert "cannot lose nodes" in fewer.stderr


def test_the_administrator_is_no_superuser_and_has_what_azures_has(lab: Project) -> None:
    with connect(lab) as admin:
        row = admin.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, pg_has_role('azure_pg_admin', 'MEMBER') FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
        assert row == (False, True, True, True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute("SELECT citus_add_node('localhost', 1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute("COPY pg_class TO PROGRAM 'true'")


def test_the_balanced_port_leads_to_every_node(lab: Project) -> None:
    roles = set()
    for _ in range(6):
        with connect(lab, "balanced") as session:
            roles.add(session.execute("SELECT citus_is_coordinator()").fetchone())
    assert roles == {(True,), (False,)}


def test_psql_or_the_way_to_connect_without_it(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("psql"):
        shown = lab.run("lab", "psql", "--", "-Atc", "SELECT current_user")
        assert shown.stdout.strip() == "clusteradmin"
    without = lab.call("lab", "psql", env={"PATH": "/nonexistent"})
    assert without.returncode == 0
    assert f":{endpoint(lab)['ports']['direct']}/citus" in without.stdout
    password = home(lab).read().admin_password
    assert password not in without.stdout
    assert str(home(lab).password_file) in without.stdout


def test_secrets_lie_in_files_that_only_their_owner_can_read(lab: Project) -> None:
    for path in (home(lab).password_file, home(lab).folder / "lab.json", home(lab).folder / "running.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = home(lab).read().superuser_password
    assert secret not in home(lab).log_file.read_text("utf-8", errors="replace")
    assert all(secret not in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


def test_everything_listens_on_loopback_only(lab: Project) -> None:
    pid = home(lab).running().pid  # type: ignore[union-attr]
    listening = [c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_labs_side_by_side_do_not_meet(up: Project) -> None:
    second = up.call("lab", "up", "--name", "other", "--engine", "embedded")
    try:
        assert second.returncode == 0, second.stderr
        ports = [
            port for name in ("local", "other") for port in endpoint(up, name)["ports"].values() if port is not None
        ]
        assert len(set(ports)) == len(ports)
        assert len(json.loads(up.call("status", "--stack", "other", "--json").stdout)["nodes"]) == 2
        assert len(json.loads(up.call("status", "--json").stdout)["nodes"]) == 3
    finally:
        assert up.call("lab", "down", "--name", "other", "--delete").returncode == 0
    assert up.call("status").returncode == 0


def test_killed_with_everything_running_the_next_up_cleans_and_keeps_the_data(up: Project) -> None:
    with connect(up) as admin:
        admin.execute("CREATE SCHEMA mine")
        admin.execute("CREATE TABLE mine.kept (id int)")
        admin.execute("INSERT INTO mine.kept VALUES (42)")
    os.kill(home(up).running().pid, signal.SIGKILL)  # type: ignore[union-attr]
    ports = endpoint(up)["ports"]
    gone = up.call("status")
    assert gone.returncode in {0, 2}
    again = up.call("lab", "up")
    assert again.returncode == 0, again.stderr
    assert endpoint(up)["ports"]["direct"] == ports["direct"]
    with connect(up) as admin:
        assert admin.execute("SELECT id FROM mine.kept").fetchone() == (42,)
    assert len(json.loads(up.call("status", "--json").stdout)["nodes"]) == 3


def test_killed_and_then_deleted_leaves_nothing(up: Project) -> None:
    folder = home(up).folder
    os.kill(home(up).running().pid, signal.SIGKILL)  # type: ignore[union-attr]
    assert up.call("lab", "down", "--delete").returncode == 0
    assert not folder.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


def test_down_keeps_the_data_and_a_taken_port_is_replaced(up: Project) -> None:
    assert up.call("lab", "down").returncode == 0
    assert up.call("status").returncode == 2
    balanced = endpoint(up)["ports"]["balanced"]
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", balanced))
        squatter.listen()
        assert up.call("lab", "up").returncode == 0
        assert endpoint(up)["ports"]["balanced"] != balanced
    assert len(json.loads(up.call("status", "--json").stdout)["nodes"]) == 3


def test_a_lab_that_is_not_there(project: Project) -> None:
    assert "is not made yet" in project.call("lab", "status").stdout
    assert "There is no lab local" in project.call("lab", "down").stdout
    assert project.call("lab", "psql").returncode != 0


def test_comments_and_services_of_the_users_stack_file_survive_up(up: Project) -> None:
    up.stack.write_text(up.stack.read_text("utf-8") + "    # mine\n    - name: extra\n", "utf-8")
    assert up.call("lab", "down").returncode == 0
    assert up.call("lab", "up").returncode == 0
    assert "    # mine\n    - name: extra\n" in up.stack.read_text("utf-8")
