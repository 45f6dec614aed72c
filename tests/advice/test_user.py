"""What a user meets on the way: rights and extensions that are missing, names that a terminal would obey, bad URLs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fix_lab import Project
from tests.fix_plain import PASSWORD, Plain

HOSTILE = 'a\x1b[31m\nb; DROP ""x'
RUN = ("--benchmark", "--yes", "--seconds", "1", "--max-clients", "1")


@pytest.fixture
def hostile(plain: Plain) -> Plain:
    plain.run([
        f'CREATE TABLE "{HOSTILE}" (tenant_id bigint, id bigint, "c%s{{}}" text, PRIMARY KEY (tenant_id, id))',
        f"INSERT INTO \"{HOSTILE}\" SELECT i % 50, i, 'x' FROM generate_series(1, 1000) i",
        "CREATE TABLE nothing (id bigint PRIMARY KEY, n int)",
        "ANALYZE",
        "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)",
        f"UPDATE \"{HOSTILE}\" SET \"c%s{{}}\" = 'y' WHERE tenant_id = 1 AND id = 1",
        "UPDATE nothing SET n = 1 WHERE id = 1",
    ])  # fmt: skip
    return plain


@pytest.mark.parametrize("form", [(), ("--markdown",)])
def test_names_never_reach_the_terminal_as_commands(project: Project, hostile: Plain, form: tuple[str, ...]) -> None:
    run = project.call("advise", *form, env=hostile.environment)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stdout
    assert "31m�b; DROP" in run.stdout


def test_statements_over_hostile_names_run_and_those_over_empty_tables_are_left_out(
    project: Project, hostile: Plain
) -> None:
    run = project.call("advise", *RUN, env=hostile.environment)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stdout + run.stderr
    assert "failed:" not in run.stderr
    assert "Left out: UPDATE nothing SET n = $1 WHERE id = $2: public.nothing has no rows" in run.stderr
    assert run.stderr.count("Runs: ") == 1


def test_with_nothing_to_run_it_says_what_is_missing(project: Project, plain_databases: Callable[[], Plain]) -> None:
    plain = plain_databases()
    assert "No statement that writes was recorded" in project.call("advise", *RUN, env=plain.environment).stderr
    plain.run(["CREATE TABLE t (id bigint PRIMARY KEY)", "INSERT INTO t VALUES (1)"])
    plain.role("sees_nothing")
    environment = plain.environment | {"ORCHESTRATOR_URL": plain.url("sees_nothing")}
    run = project.call("advise", *RUN, env=environment)
    assert (run.returncode, "needs the role pg_monitor" in run.stderr) == (2, True), run.stderr
    plain.run(["DROP EXTENSION pg_stat_statements"])
    run = project.call("advise", *RUN, env=plain.environment)
    assert (run.returncode, "pg_stat_statements is not there" in run.stderr) == (2, True), run.stderr


@pytest.mark.parametrize(
    ("url", "said", "fix"),
    [
        ("postgresql://nobody@127.0.0.1:{port}/{name}", "authentication failed", "holds the password of this role"),
        ("postgresql://postgres@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist', "Check the database"),
        ("postgresql://postgres@127.0.0.1:1/{name}", "Connection refused", "that the server runs"),
        ("postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=verify-full", "SSL", "?sslmode=disable"),
        ("postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=foo", "'foo' is no sslmode", "verify-full"),
        ("postgresql://postgres@nowhere.invalid/{name}", "resolve host", "Check host and port"),
    ],
)
def test_a_server_that_cannot_be_read_is_told_with_what_to_do(
    project: Project, plain: Plain, url: str, said: str, fix: str
) -> None:
    environment = {
        "ORCHESTRATOR_ADMIN_PASSWORD": PASSWORD,
        "ORCHESTRATOR_URL": url.format(port=plain.port, name=plain.name),
    }
    run = project.call("advise", env=environment)
    assert run.returncode == 2
    assert said in run.stderr
    assert fix in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
