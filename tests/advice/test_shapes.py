"""Advice about databases of known shapes, read from a real PostgreSQL by the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.clients.advice.advice import AdviceReader
from tests.advice.shapes import ANALYTIC, BY_COLUMN, BY_SCHEMA, NO_COLUMN
from tests.fix_lab import Project
from tests.fix_plain import Plain

SHAPES = {"column": BY_COLUMN, "schema": BY_SCHEMA, "none": NO_COLUMN, "analytic": ANALYTIC}
LARGE = "data: {sizeGb: 40000}\n"


@pytest.fixture(scope="module")
def shaped(plain_databases: Callable[[], Plain]) -> Callable[[str], Plain]:
    made: dict[str, Plain] = {}

    def get(name: str) -> Plain:
        if name not in made:
            made[name] = SHAPES[name].make(plain_databases())
        return made[name]

    return get


def advised(project: Project, plain: Plain, answers: str = "", **environment: str) -> dict[str, Any]:
    (project.folder / "answers.yaml").write_text(answers)
    run = project.call("advise", "--answers", "answers.yaml", "--json", env=plain.environment | environment)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize(
    ("shape", "small", "large", "sharding"),
    [
        ("column", "flexible server", "elastic cluster", {"kind": "row", "by": "tenant_id"}),
        ("schema", "flexible server", "elastic cluster", {"kind": "schema", "by": "schema"}),
        ("none", "flexible server", "flexible server", None),
        ("analytic", "flexible server", "elastic cluster", {"kind": "row", "by": "device_id"}),
    ],
)
def test_the_shape_decides(
    project: Project, shaped: Callable[[str], Plain], shape: str, small: str, large: str, sharding: Any
) -> None:
    plain = shaped(shape)
    found = advised(project, plain)
    assert (found["advice"], found["sharding"]) == (small, sharding), found["reasons"]
    found = advised(project, plain, LARGE)
    assert (found["advice"], found["sharding"]) == (large, sharding), found["reasons"]
    assert found["analytic"] == (shape == "analytic")


def broken(found: dict[str, Any], scenario: str) -> str:
    return " | ".join(name for one in found["breaks"] if scenario in one["scenario"] for name in one["objects"])


def test_what_breaks_is_named(project: Project, shaped: Callable[[str], Plain]) -> None:
    found = advised(project, shaped("column"))
    keys = broken(found, "unique keys")
    assert "invoices_pkey on public.invoices (id)" in keys
    assert "invoices_number_key" in keys
    assert "orders_pkey" not in keys
    assert "public.invoices.id (integer)" in broken(found, "serial")
    assert "number LIKE" in broken(found, "over all tenants")
    assert "LISTEN orders_changed" in broken(found, "PgBouncer")
    assert found["candidates"][0]["references"] == ["public.countries"]
    assert found["candidates"][0]["columns"]["public.tenants"] == "id"


def test_schemas_that_are_joined_are_named(project: Project, shaped: Callable[[str], Plain]) -> None:
    found = advised(project, shaped("schema"))
    assert "t1.orders a JOIN t2.orders" in broken(found, "several schemas")
    assert "public.currencies" in broken(found, "schema public")


def test_what_cannot_be_cut_says_what_would_be_needed(project: Project, shaped: Callable[[str], Plain]) -> None:
    found = advised(project, shaped("none"), LARGE)
    assert "limits" in found["headline"]
    assert any("at least 90 % of the calls" in text for text in found["changes"]), found["changes"]


def test_a_role_that_sees_little_says_so(project: Project, shaped: Callable[[str], Plain]) -> None:
    plain = shaped("column")
    plain.role("nobody_special")
    plain.role("watcher", "pg_monitor")
    url = plain.url("nobody_special")
    unseen = " ".join(advised(project, plain, ORCHESTRATOR_URL=url)["notSeen"])
    assert "sessions: needs the role pg_monitor" in unseen
    assert "statements" in unseen
    assert "needs SELECT" in unseen
    found = advised(project, plain, ORCHESTRATOR_URL=plain.url("watcher"))
    assert "pg_monitor" not in " ".join(found["notSeen"])
    assert found["candidates"][0]["routed"] > 0.9
    assert found["candidates"][0]["hottest"] is None


def test_nothing_is_written(project: Project, shaped: Callable[[str], Plain]) -> None:
    plain = shaped("none")
    with plain.connect() as connection:
        query = "SELECT xact_commit >= 0, tup_inserted + tup_updated + tup_deleted, temp_files FROM pg_stat_database"
        query += " WHERE datname = current_database()"
        before = connection.execute(query).fetchone()
        advised(project, plain)
        connection.execute("SELECT pg_stat_clear_snapshot()")
        assert connection.execute(query).fetchone() == before


@pytest.mark.parametrize("form", [(), ("--markdown",)])
def test_the_page_has_the_answer_first(project: Project, shaped: Callable[[str], Plain], form: tuple[str, ...]) -> None:
    run = project.call("advise", *form, env=shaped("column").environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.lstrip("# ").startswith("Flexible server. Should one server no longer reach")
    for title in ("Why", "What breaks on an elastic cluster", "Cost a month", "What would change the answer"):
        assert title in run.stdout


def test_the_password_is_not_taken_from_arguments(project: Project, plain: Plain) -> None:
    run = project.call("advise", "--url", plain.url().replace("postgres@", "postgres:secret@"))
    assert run.returncode == 2
    assert "secret" not in run.stderr
    assert "ORCHESTRATOR_ADMIN_PASSWORD" in run.stderr


def test_a_wrong_password_is_one_sentence(project: Project, plain: Plain) -> None:
    run = project.call("advise", "--url", plain.url(), env={"ORCHESTRATOR_ADMIN_PASSWORD": "wrong"})
    assert run.returncode == 2
    assert "password authentication failed" in run.stderr
    assert "Traceback" not in run.stderr


def test_watching_measures_what_happens_meanwhile(project: Project, plain: Plain) -> None:
    plain.run(["CREATE TABLE busy (id bigint)"])
    run = replace(project, environment=project.environment | plain.environment).start(
        "advise", "--watch", "3", "--json"
    )
    with plain.connect() as connection:
        while run.poll() is None:
            connection.execute("INSERT INTO busy SELECT generate_series(1, 1000)")
    out, err = run.communicate()
    assert run.returncode == 0, err
    load = json.loads(out)["database"]["load"]
    assert 3 <= load["seconds"] < 60
    assert load["rows_written"] > 1000
    assert load["wal_bytes"] > 0


def test_answers_are_checked_with_their_line(project: Project, tmp_path: Path) -> None:
    (project.folder / "a.yaml").write_text("data:\n  sizeGb: 5\n  tenantColum: x\npeak:\n  cpuPercent: 200\n")
    run = project.call("advise", "--answers", "a.yaml")
    assert run.returncode == 2
    assert "a.yaml:3 data.tenantColum: unknown key (did you mean tenantColumn?)" in run.stderr
    assert "a.yaml:5 peak.cpuPercent" in run.stderr


def test_the_empty_questionnaire_is_valid_and_answers_decide(project: Project) -> None:
    empty = project.call("advise", "--questionnaire").stdout
    (project.folder / "q.yaml").write_text(empty)
    run = project.call("advise", "--answers", "q.yaml")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Flexible server.")
    (project.folder / "q.yaml").write_text(
        "data: {sizeGb: 30000, tenancy: column, tenantColumn: customer_id, tenants: 900, coveredPercent: 95,\n"
        "  largestTenantPercent: 4}\nqueries: {oneTenantPercent: 97}\n"
    )
    run = project.call("advise", "--answers", "q.yaml")
    assert run.stdout.startswith("Elastic cluster of 2 nodes, sharded by row, by customer_id.")


def test_nothing_to_read_is_refused(project: Project) -> None:
    run = project.call("advise")
    assert run.returncode == 2
    assert "--questionnaire" in run.stderr


def test_a_partitioned_table_counts_once_with_all_that_is_in_it(plain: Plain) -> None:
    plain.run([
        "CREATE TABLE events (tenant bigint NOT NULL, at date, PRIMARY KEY (tenant, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO events SELECT i, '2026-01-05'::date + i % 2 * 31 FROM generate_series(1, 3000) i",
        "ANALYZE",
    ])  # fmt: skip
    with plain.connect() as connection:
        (table,) = AdviceReader(connection).read().database.tables
    assert (table.title, table.rows, table.inherits) == ("public.events", 3000, False)
    assert table.bytes > 100_000
    tenant = table.column("tenant")
    assert tenant is not None
    assert tenant.distinct == pytest.approx(3000, rel=0.05)
