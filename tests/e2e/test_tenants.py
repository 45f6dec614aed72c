"""Many tenants from one template, on every engine: made several at once, whole or not at all, nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_scale_out import connect
from tests.fix_lab import Project

TENANTS = 40
MANY = 100
TABLE = "CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL);\nCREATE INDEX ON items (name);\n"


def declare(project: Project, **template: Any) -> None:
    folder = project.folder / "stacks" / "tenant"
    folder.mkdir(exist_ok=True)
    (folder / "001.sql").write_text(TABLE, "utf-8")
    path = project.folder / "stacks" / "Pulumi.local.yaml"
    document = yaml.safe_load(path.read_text("utf-8"))
    values = {
        "keys": {"range": {"from": 1, "to": TENANTS, "width": 3}},
        "service": {"name": "tenant_{key}", "migrations": ["tenant"]},
    }
    document["config"]["elastic-cluster:services"] = []
    document["config"]["elastic-cluster:serviceTemplates"] = [values | template]
    path.write_text(yaml.safe_dump(document), "utf-8")


def made(project: Project) -> list[tuple[str, str, str]]:
    """Schema, owner of its table, and the role that the migration was recorded for: whole tenants only."""
    with connect(project) as admin:
        return admin.execute(  # type: ignore[no-any-return]
            "SELECT space.nspname, owner.rolname, ran.service FROM pg_dist_schema tenant"
            " JOIN pg_namespace space ON space.oid = tenant.schemaid"
            " JOIN pg_class class ON class.relnamespace = space.oid AND class.relname = 'items'"
            " JOIN pg_roles owner ON owner.oid = class.relowner AND owner.oid = space.nspowner AND owner.rolcanlogin"
            " LEFT JOIN orchestrator.migration ran ON ran.service = space.nspname ORDER BY 1"
        ).fetchall()


def names() -> list[tuple[str, str, str]]:
    return [(f"tenant_{number:03}",) * 3 for number in range(1, TENANTS + 1)]  # type: ignore[misc]


def test_tenants_are_made_once_and_each_can_work(lab_project: tuple[Project, str]) -> None:
    project, _engine = lab_project
    declare(project)
    done = project.call("apply", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    titles = [step["title"] for step in json.loads(done.stdout)["steps"]]
    assert f"make {TENANTS} services, several at once" in titles
    assert made(project) == names()
    again = project.call("apply", "--yes", "--json")
    assert json.loads(again.stdout)["outcome"] == "nothing to do"
    password = (project.folder / ".secrets" / "local" / "tenant_007.password").read_text("utf-8").strip()
    with connect(project, "tenant_007", password) as tenant:
        tenant.execute("INSERT INTO items (name) VALUES ('mine')")
        assert tenant.execute("SELECT id, name FROM items").fetchall() == [(1, "mine")]


ROLES = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenant%'"
SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant%'"
TABLES = "SELECT count(*) FROM pg_dist_schema"


@pytest.mark.slow
@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(SCHEMAS, id="schemas"),
        pytest.param(ROLES, id="roles", marks=pytest.mark.slow),
        pytest.param(TABLES, id="tables", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_the_next_run_makes_only_what_is_missing(lab_project: tuple[Project, str], seen: str) -> None:
    """Killed as soon as the first batch has its roles, its schemas, its tables: others are somewhere else by then."""
    project, engine = lab_project
    declare(project, keys={"range": {"from": 1, "to": MANY, "width": 3}})
    kill_when(project, seen)
    before = tables_and_records(project)
    assert len(before) < MANY
    done = project.call("apply", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    titles = [step["title"] for step in json.loads(done.stdout)["steps"]]
    making = [title for title in titles if title.startswith("make ") and title.endswith("at once")]
    assert all(int(title.split()[1]) <= MANY - len(before) for title in making), titles
    after = tables_and_records(project)
    assert len(after) == len(made(project)) == MANY
    assert {name: after[name] for name in before} == before, "what was whole stays as it is"
    assert json.loads(project.call("apply", "--yes", "--json").stdout)["outcome"] == "nothing to do"
    if engine == "native":
        assert "tuple concurrently" not in server_logs(project)


def kill_when(project: Project, seen: str) -> None:
    command = [sys.executable, "-m", "orchestrator", "apply", "--yes"]
    pause = threading.Event()
    with (
        connect(project) as admin,
        subprocess.Popen(
            command, cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process,
    ):
        while process.poll() is None and admin.execute(seen).fetchone() == (0,):
            pause.wait(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)


def tables_and_records(project: Project) -> dict[str, tuple[Any, ...]]:
    """Of whole tenants: the identity of their table, and when their migration ran."""
    with connect(project) as admin:
        rows = admin.execute(
            "SELECT service, (quote_ident(service) || '.items')::regclass::oid, applied_at FROM orchestrator.migration"
            if admin.execute("SELECT to_regclass('orchestrator.migration')").fetchone() != (None,)
            else "SELECT '' WHERE false"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def server_logs(project: Project) -> str:
    status = json.loads(project.call("lab", "status", "--json").stdout)
    logs = (Path(status["log"]).parent / "native").glob("node*/server.log")
    return "".join(log.read_text("utf-8", "replace") for log in logs)


def test_keys_can_come_from_the_cluster_itself(lab_project: tuple[Project, str]) -> None:
    project, _engine = lab_project
    declare(project, keys={"query": "SELECT 'q' || i FROM generate_series(1, 3) i"})
    done = project.call("apply", "--yes")
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in made(project)] == ["tenant_q1", "tenant_q2", "tenant_q3"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"file": "nobody.txt"}, "nobody.txt cannot be read"),
        ({"query": "DROP TABLE x"}, "keys of a service template"),
        ({"query": "DELETE FROM orchestrator.migration RETURNING name"}, "keys of a service template"),
    ],
)
def test_keys_that_cannot_be_had_are_refused(lab_project: tuple[Project, str], keys: dict[str, str], said: str) -> None:
    project, _engine = lab_project
    declare(project, keys=keys)
    done = project.call("apply", "--yes")
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
