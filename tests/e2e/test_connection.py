"""Services connect with what `orchestrator connection` prints, through every port that the lab offers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fix_lab import Project
from tests.fix_project import _project

PORTS = ("direct", "balanced", "pooled")
WRITE = "INSERT INTO users (name, email) VALUES ('A', 'a@example.com')"
WHO = "SELECT current_user, current_schema"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    """Two nodes with the example services."""
    made = _project(tmp_path_factory.mktemp("connection") / "project", lab_base)
    assert made.call("lab", "up", "--nodes", "2").returncode == 0
    applied = made.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    yield made
    made.call("lab", "down", "--delete")


def asked(lab: Project, port: str, form: str, *more: str) -> str:
    run = lab.call("connection", "user", "--port", port, "--format", form, *more)
    if run.returncode == 2 and "not offered" in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    return str(run.stdout).strip()


@pytest.mark.parametrize("port", PORTS)
def test_psycopg_with_the_dsn_and_a_passfile(lab: Project, port: str, tmp_path: Path) -> None:
    passfile = tmp_path / "passfile"
    dsn = asked(lab, port, "dsn", "--passfile", str(passfile))
    assert passfile.stat().st_mode & 0o777 == 0o600
    assert passfile.read_text().strip().rsplit(":", 1)[1] not in dsn
    with psycopg.connect(dsn, prepare_threshold=None) as conn:
        conn.execute(WRITE)
        assert conn.execute(WHO).fetchone() == ("user_service", "user_service")
        if port != "pooled":
            assert conn.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("1min",)
    asked(lab, port, "dsn", "--passfile", str(passfile))
    assert len(passfile.read_text().splitlines()) == 1


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_psycopg_with_the_document(lab: Project, port: str, form: str) -> None:
    import yaml

    text = asked(lab, port, form, "--show-password")
    found: dict[str, Any] = json.loads(text) if form == "json" else yaml.safe_load(text)
    with psycopg.connect(**found["libpq"], **found["psycopg"]) as conn:
        for _ in range(8):
            conn.execute(WRITE)
        assert conn.execute(WHO).fetchone() == ("user_service", found["search_path"])


@pytest.mark.parametrize("port", PORTS)
def test_sqlalchemy_with_the_url(lab: Project, port: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(asked(lab, port, "sqlalchemy", "--show-password"), connect_args={"prepare_threshold": None})
    with engine.begin() as conn:
        conn.execute(text(WRITE))
        assert tuple(conn.execute(text(WHO)).one()) == ("user_service", "user_service")
    engine.dispose()


def test_psql_with_the_environment(lab: Project) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("no psql on PATH")
    script = f"set -e\n{asked(lab, 'direct', 'env')}\n{psql} -XAtc 'SELECT current_user, current_schema'"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "user_service|user_service", done.stderr


def test_a_missing_password_says_what_makes_it(project: Project, lab: Project) -> None:
    project.stack.write_text(lab.stack.read_text())
    run = project.call("connection", "user", "--show-password")
    assert run.returncode == 2
    assert "`orchestrator apply` makes it" in run.stderr
