"""A plain PostgreSQL with pg_stat_statements, as an application would have it; a database of its own for each test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.lab.embedded import _wheel_binaries, availability
from orchestrator.lab.postgres import HOST, PostgresServer, free_port, reachable_binaries

PASSWORD = "plain-password"
_numbers = itertools.count()


@dataclass(frozen=True)
class Plain:
    """One database. The application's role is `app`, its administrator is no superuser and has pg_monitor."""

    port: int
    name: str
    roles: list[str] = field(default_factory=list)

    def url(self, role: str = "postgres") -> str:
        return f"postgresql://{role}@{HOST}:{self.port}/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {"ORCHESTRATOR_ADMIN_PASSWORD": PASSWORD, "ORCHESTRATOR_URL": self.url()}

    def connect(self, role: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.port, dbname=self.name, user=role, password=PASSWORD, sslmode="disable",
            autocommit=True, **options,
        )  # fmt: skip

    def run(self, statements: Sequence[str], calls: int = 1, role: str = "postgres") -> None:
        with closing(self.connect(role)) as connection:
            for statement in statements:
                for _ in range(calls):
                    connection.execute(statement.encode())

    def role(self, name: str, *grants: str) -> None:
        """A role that logs in, a member of `grants`."""
        self.roles.append(name)
        self.run([f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'", *(f"GRANT {one} TO {name}" for one in grants)])


@pytest.fixture(scope="session")
def plain_server() -> Iterator[PostgresServer]:
    binaries = _wheel_binaries()
    if binaries is None:
        pytest.skip(availability().reason)
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-plain-", dir="/var/tmp"))
    folder.chmod(0o711)
    server = PostgresServer(folder / "data", reachable_binaries(binaries, folder / "binaries"), free_port())
    server.initdb("postgres", PASSWORD)
    server.write_hba(["host all all 127.0.0.1/32 scram-sha-256"])
    server.configure({
        "shared_preload_libraries": "pg_stat_statements", "synchronous_commit": "off", "jit": "off",
        "autovacuum": "off", "lc_messages": "C",
    })  # fmt: skip
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def plain_databases(plain_server: PostgresServer) -> Iterator[Callable[[], Plain]]:
    """Makes a database."""
    base = Plain(plain_server.port, "postgres")

    def make() -> Plain:
        made = Plain(plain_server.port, f"plain{next(_numbers)}", base.roles)
        base.run([f"CREATE DATABASE {made.name}"])
        made.run(["CREATE EXTENSION pg_stat_statements"])
        return made

    yield make
    with closing(base.connect()) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'plain%'").fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def plain(plain_databases: Callable[[], Plain]) -> Plain:
    return plain_databases()
