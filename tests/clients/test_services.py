"""Services against real servers: what `apply` reads, plans, refuses and makes, and that a second run finds nothing."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from orchestrator.core.errors import DatabaseError
from orchestrator.core.planning.steps_services import EnsureRole, RunMigration
from tests.fix_services import USERS, Stack, whats


def test_a_declared_service_can_work_after_one_run_and_a_second_run_finds_nothing(stack: Stack) -> None:
    user = stack.declare("user", {"001_users.sql": USERS})
    stack.apply()
    with stack.as_service(user) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('Ann')")
        assert conn.execute("SELECT name FROM users").fetchall() == [("Ann",)]
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
    rows = stack.admin(f"SELECT count(*) FROM citus_schemas WHERE schema_name::text = '{user.schema_name}'")
    assert rows == [(1,)]
    assert stack.plan() == ()
    assert stack.problems() == ()


def test_every_beginning_of_a_plan_can_be_continued_by_a_new_run(stack: Stack) -> None:
    """Killed after any step: the next run does what is left, and nothing twice."""
    stack.declare("reader")
    stack.declare("owner", {"001.sql": USERS, "002.sql": "INSERT INTO users (name) VALUES ('Ann');"},
                  grants=[{"role": stack.name("reader")}])  # fmt: skip
    planned = stack.plan()
    assert len(planned) >= 7
    for _ in planned:
        steps = stack.plan()
        if not steps:
            break
        stack.apply(steps[:1])
    assert stack.plan() == ()
    with stack.as_service(stack.services[0]) as conn:
        rows = conn.execute(sql.SQL("SELECT name FROM {}.users").format(sql.Identifier(stack.name("owner"))))
        assert rows.fetchall() == [("Ann",)]


def test_repeating_steps_that_took_effect_already_changes_nothing(stack: Stack) -> None:
    user = stack.declare("user", {"001.sql": USERS, "002.sql": "INSERT INTO users (name) VALUES ('Ann');"})
    steps = stack.plan()
    stack.apply(steps)
    stack.apply(steps)
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (1,)
    assert stack.plan() == ()


def test_a_name_that_needs_quotes_works_everywhere(stack: Stack) -> None:
    other = stack.declare("reader", full_name=f"Re-Ader {stack.suffix}")
    odd = stack.declare("odd", {"001.sql": USERS}, full_name=f"My-Svc.1 {stack.suffix}",
                        grants=[{"role": other.name}], schema=f"It's %s {stack.suffix}")  # fmt: skip
    stack.apply()
    with stack.as_service(odd) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('Ann')")
    with stack.as_service(other) as conn:
        query = sql.SQL("SELECT name FROM {}").format(sql.Identifier(odd.schema_name, "users"))
        assert conn.execute(query).fetchall() == [("Ann",)]
    assert stack.plan() == ()


def test_a_grant_covers_tables_of_today_and_of_later_migrations(stack: Stack) -> None:
    reader = stack.declare("reader")
    owner = stack.declare("owner", {"001.sql": USERS}, grants=[{"role": reader.name}])
    stack.apply()
    stack.declare("owner", {"002.sql": "CREATE TABLE orders (id bigint PRIMARY KEY);"}, grants=[{"role": reader.name}])
    stack.apply()
    with stack.as_service(reader) as conn:
        for table in ("users", "orders"):
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(owner.schema_name, table))
            assert conn.execute(query).fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(owner.schema_name, "users")))
    assert stack.plan() == ()


def test_a_grant_to_a_role_that_nobody_declares_is_refused(stack: Stack) -> None:
    stack.declare("owner", grants=[{"role": stack.name("nobody")}])
    assert f"there is no role {stack.name('nobody')}" in whats(stack.problems())


def test_role_settings_that_somebody_changed_are_put_right(stack: Stack) -> None:
    user = stack.declare("user", connection_limit=7, schema=stack.name("data"))
    stack.apply()
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
    stack.admin(
        f"ALTER ROLE {user.role_name} NOLOGIN CONNECTION LIMIT 3",
        f"ALTER ROLE {user.role_name} IN DATABASE {stack.cluster.database} SET search_path TO elsewhere",
    )
    assert [type(step) for step in stack.plan()] == [EnsureRole]
    stack.apply()
    assert stack.plan() == ()
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
        limit = conn.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user").fetchone()
    assert limit == (7,)


class TestMigrations:
    def test_a_failing_statement_is_named_with_its_line_and_leaves_nothing_behind(self, stack: Stack) -> None:
        user = stack.declare("user", {"001.sql": f"{USERS}\n\nINSERT INTO users (nome)\n  VALUES ('Ann');"})
        with pytest.raises(DatabaseError) as caught:
            stack.apply()
        assert 'column "nome" of relation "users" does not exist' in caught.value.message
        assert "001.sql, line 3" in caught.value.message
        state = stack.observe()
        assert state.schemas[user.schema_name].tables == {}
        assert state.migrations.get(user.name, ()) == ()

    def test_a_migration_that_changed_after_it_ran_is_refused(self, stack: Stack) -> None:
        stack.declare("user", {"001.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": USERS + "-- changed"})
        assert "it was changed after it ran" in whats(stack.problems())

    def test_a_new_migration_before_one_that_ran_is_refused(self, stack: Stack) -> None:
        stack.declare("user", {"002.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": "SELECT 1;"})
        assert "comes before 002.sql" in whats(stack.problems())

    def test_percent_signs_and_braces_reach_the_server_as_they_are(self, stack: Stack) -> None:
        text = "CREATE TABLE t (a text);\nINSERT INTO t VALUES ('100 % {0} %s'), (format('%I', 'a b'));"
        user = stack.declare("user", {"001.sql": text})
        stack.apply()
        with stack.as_service(user) as conn:
            assert conn.execute("SELECT a FROM t ORDER BY a").fetchall() == [('"a b"',), ("100 % {0} %s",)]

    def test_a_migration_cannot_touch_another_service(self, stack: Stack) -> None:
        stack.declare("victim", {"001.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": f"DROP TABLE {stack.name('victim')}.users;"})
        with pytest.raises(DatabaseError, match=r"permission denied for schema|must be owner of table"):
            stack.apply()

    def test_the_text_that_was_planned_is_the_text_that_runs(self, stack: Stack) -> None:
        stack.declare("user", {"001.sql": USERS})
        steps = stack.plan()
        stack.declare("user", {"001.sql": "CREATE TABLE something_else (id int);"})
        with pytest.raises(DatabaseError, match="not the one that was planned"):
            stack.apply(steps)
        assert RunMigration in [type(step) for step in stack.plan()]


def test_an_orchestrator_schema_is_the_admins_alone(stack: Stack) -> None:
    user = stack.declare("user", {"001.sql": USERS})
    stack.apply()
    with stack.as_service(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM orchestrator.migration")
    assert stack.admin(f"SELECT has_schema_privilege('{user.role_name}', 'orchestrator', 'USAGE')") == [(False,)]
    query = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text LIKE 'orchestrator.%'"
    assert stack.admin(query) == [(0,)]
