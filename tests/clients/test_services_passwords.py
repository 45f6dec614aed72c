"""Passwords of services against real servers: where they come from, and that nothing but the role is told them."""

from __future__ import annotations

import stat
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.cli.stack.declared import DeclaredServices
from orchestrator.clients.services.services import ServicesClient
from orchestrator.core.planning.steps_services import EnsureRole
from tests.fix_services import Stack, whats


class TestPasswords:
    def test_a_new_value_in_the_environment_becomes_the_new_password(self, stack: Stack) -> None:
        stack.environment["PW"] = "first-password"
        user = stack.declare("user", password={"env": "PW"})
        stack.apply()
        stack.environment["PW"] = "second-password"
        assert [type(step) for step in stack.plan()] == [EnsureRole]
        stack.apply()
        assert stack.plan() == ()
        stack.as_service(user).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            stack.connect(user=user.role_name, password="first-password")

    def test_an_unset_variable_is_refused_for_a_new_role_and_leaves_an_old_one_alone(self, stack: Stack) -> None:
        stack.declare("user", password={"env": "PW"})
        assert "the environment variable PW is not set" in whats(stack.problems())
        stack.environment["PW"] = "secret"
        stack.apply()
        del stack.environment["PW"]
        assert stack.problems() == ()
        assert stack.plan() == ()

    def test_a_file_that_others_can_read_is_refused(self, stack: Stack) -> None:
        file = stack.folder / "user.password"
        file.write_text("from-a-file\n")
        file.chmod(0o644)
        user = stack.declare("user", password={"file": "user.password"})
        assert "mode 0644" in whats(stack.problems())
        assert f"chmod 600 {file}" in whats(stack.problems())
        file.chmod(0o600)
        stack.apply()
        stack.connect(user=user.role_name, password="from-a-file").close()

    def test_a_generated_password_is_kept_in_a_private_file_and_used_again(self, stack: Stack) -> None:
        user = stack.declare("user")
        stack.apply()
        file = stack.folder / ".secrets" / "test" / f"{user.role_name}.password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert len(file.read_text().strip()) >= 24
        stack.connect(user=user.role_name, password=file.read_text().strip()).close()
        assert list(file.parent.iterdir()) == [file]

    def test_a_role_whose_generated_password_is_elsewhere_keeps_it(self, stack: Stack) -> None:
        """Another person's machine: a new password here would lock out the running service."""
        user = stack.declare("user")
        stack.apply()
        file = stack.folder / ".secrets" / "test" / f"{user.role_name}.password"
        file.rename(stack.folder / "away")
        with stack.client() as client:
            declared = DeclaredServices("test", stack.services, {}, stack.passwords, stack.cluster.admin_login, client)
            steps, (notice,) = declared.plan()
        assert steps == ()
        assert not file.exists()
        assert f"Role {user.role_name}: there already, and its generated password is not on this machine" in notice

    def test_the_server_gets_a_verifier_and_never_the_password(self, stack: Stack) -> None:
        """pg_stat_activity shows the statement as the server received it."""
        stack.environment["PW"] = "in-clear-nowhere"
        user = stack.declare("user", password={"env": "PW"})
        step = stack.plan()[0]
        with stack.connect() as watched, stack.connect() as watching:
            pid = watched.info.backend_pid
            client = ServicesClient(lambda **_: watched, stack.cluster.admin_login, stack.passwords, {})
            seen = []
            original = watched.execute

            def execute(query: Any, *args: Any, **options: Any) -> Any:
                seen.append(query.as_string(watched) if isinstance(query, sql.Composable) else str(query))
                return original(query, *args, **options)

            watched.execute = execute  # type: ignore[method-assign]
            client.ensure(step)
            last = watching.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert last is not None
        assert any("SCRAM-SHA-256$" in statement for statement in seen)
        assert not any("in-clear-nowhere" in statement for statement in [*seen, last[0]])
        stack.connect(user=user.role_name, password="in-clear-nowhere").close()
