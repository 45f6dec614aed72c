"""Where statements are found: SQL files, strings in Python; lines, exceptions, exit codes, JSON and SARIF."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.lint.run import lint_paths
from tests.fix_lab import Project

TABLE = "CREATE TABLE orders (tenant_id bigint, id bigint);\nSELECT create_distributed_table('orders', 'tenant_id');\n"


def found(tmp_path: Path, name: str, text: str, port: str | None = None) -> list[tuple[str, int]]:
    (tmp_path / name).write_text(text, "utf-8")
    findings, _ = lint_paths((tmp_path,), port, (), tmp_path)
    return [(finding.rule, finding.line) for finding in findings]


def test_a_statement_is_named_by_its_first_line(tmp_path: Path) -> None:
    text = "-- comment\n\nSET search_path\n  TO x;\n/* more\n */ LISTEN a;\n"
    assert found(tmp_path, "a.sql", text, "pooled") == [("EC005", 3), ("EC002", 6)]
    assert found(tmp_path, "a.sql", text) == []


def test_exceptions_count_for_their_statement_and_rule(tmp_path: Path) -> None:
    text = "LISTEN a; -- noqa\nLISTEN b; -- noqa: EC002\nLISTEN c; -- noqa: EC001, EC005\nLISTEN\n d; -- noqa: EC002\n"
    assert found(tmp_path, "a.sql", text, "pooled") == [("EC002", 3)]


def test_strings_in_python_that_reach_the_driver(tmp_path: Path) -> None:
    text = """
from psycopg import sql
LATER = "LISTEN jobs"
NOT_SENT = "LISTEN other"
def work(conn, name, cursor, text):
    conn.execute("SET statement_timeout = '5s'")
    conn.execute(LATER)
    conn.execute(f"SET my.tenant = '{name}'")
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(name)))
    cursor.execute("SELECT pg_advisory_lock(%s)", (name,))
    cursor.execute(
        "SET LOCAL ROLE x; "
        "SET lock_timeout = %(t)s"
    )
    conn.execute(text("SELECT pg_advisory_lock(:key)"))
    conn.execute("SET role x")  # noqa: EC005
    conn.execute("please listen")
    conn.execute(name)
"""
    rules = found(tmp_path, "a.py", text)
    expected = [("EC005", 6), ("EC002", 7), ("EC005", 8), ("EC005", 9), ("EC004", 10), ("EC005", 12), ("EC004", 15)]
    assert rules == expected


def test_tables_of_migrations_are_known_in_python(tmp_path: Path) -> None:
    (tmp_path / "001.sql").write_text(TABLE, "utf-8")
    text = """
def work(conn):
    conn.execute("SELECT * FROM orders WHERE id = %s", (1,))
    conn.execute("SELECT * FROM orders WHERE tenant_id = %s", (1,))
    conn.execute("SELECT * FROM unknown WHERE id = %s", (1,))
"""
    assert found(tmp_path, "a.py", text) == [("EC201", 3)]


def test_what_cannot_be_parsed_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, "a.sql", "\\connect x\nSELECT 1;\nSELEKT 2;\n") == [("EC000", 3)]
    (tmp_path / "a.sql").unlink()
    assert found(tmp_path, "a.py", "def x(:\n") == [("EC000", 1)]


def test_services_of_the_stack_say_what_is_distributed(project: Project, tmp_path: Path) -> None:
    project.stack.write_text(
        """config:
  elastic-cluster:name: lab-test
  elastic-cluster:resourceGroup: lab
  elastic-cluster:location: northeurope
  elastic-cluster:services:
    - {name: shop, sharding: row, distributionColumn: tenant_id, migrations: [../sql]}
    - {name: other, migrations: [../other]}
""",
        "utf-8",
    )
    for name, text in (
        ("sql", "CREATE TABLE orders (tenant_id bigint, id bigint PRIMARY KEY);\n"),
        ("other", "CREATE TABLE o (id bigint PRIMARY KEY, s bigint REFERENCES shop.orders);\n"),
    ):
        (project.folder / name).mkdir()
        (project.folder / name / "1.sql").write_text(text, "utf-8")
    run = project.call("lint", "sql", "other", "--stack", "local", "--format", "json")
    assert run.returncode == 1
    assert [finding["rule"] for finding in json.loads(run.stdout)["findings"]] == ["EC101", "EC102"]
    assert project.call("lint", "sql", "other").returncode == 0


def test_exit_codes(project: Project) -> None:
    (project.folder / "fine.sql").write_text("SELECT 1;\n", "utf-8")
    assert project.call("lint", "fine.sql").returncode == 0
    (project.folder / "bad.sql").write_text("LISTEN a;\n", "utf-8")
    run = project.call("lint", "bad.sql", "--port", "balanced")
    assert run.returncode == 1
    assert "bad.sql:1: EC002" in run.stdout
    gone = project.call("lint", "gone.sql")
    assert gone.returncode == 2
    assert "gone.sql cannot be checked: there is no such file or folder" in gone.stderr
