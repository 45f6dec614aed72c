"""A stack file's services on a running cluster, for tests of the client that makes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.services.migrations import read_migrations
from orchestrator.clients.services.passwords import Passwords, password_problems
from orchestrator.clients.services.services import ServicesClient
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem
from orchestrator.core.observed.state import ServicesState
from orchestrator.core.planning.checks_services import check_services
from orchestrator.core.planning.plan_services import plan_services
from orchestrator.core.planning.steps_services import ServiceStep
from tests.fix_lab import Cluster

USERS = "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);"


@dataclass
class Stack:
    """A stack file's services on a shared cluster, with names of their own."""

    cluster: Cluster
    folder: Path
    environment: dict[str, str]
    services: list[ServiceSpec] = field(default_factory=list)
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def name(self, name: str) -> str:
        return f"{name}_{self.suffix}"

    def declare(self, name: str, migrations: dict[str, str] | None = None, **options: Any) -> ServiceSpec:
        """Add a service, or replace the one of that name; `migrations` maps file names to their text."""
        full = options.pop("full_name", None) or self.name(name)
        folder = self.folder / "migrations" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (migrations or {}).items():
            (folder / file).write_text(text, "utf-8")
        paths = (f"migrations/{name}",) if migrations else ()
        service = ServiceSpec.model_validate({"name": full, "migrations": paths, **options})
        self.services = [other for other in self.services if other.name != full] + [service]
        return service

    def connect(self, *, user: str | None = None, password: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(self.cluster.dsn(role=user, password=password), autocommit=True)

    @property
    def passwords(self) -> Passwords:
        return Passwords(self.folder, "test", self.environment)

    @contextmanager
    def client(self) -> Iterator[ServicesClient]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        with ServicesClient(self.connect, self.cluster.admin_login, self.passwords, migrations) as client:
            yield client

    def observe(self) -> ServicesState:
        with self.client() as client:
            (reading,) = client.read(self.services)
            return reading.state

    def plan(self) -> tuple[ServiceStep, ...]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        return plan_services(self.services, migrations, self.observe())

    def problems(self) -> tuple[Problem, ...]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        state = self.observe()
        found = check_services(self.services, migrations, state, self.cluster.admin_login)
        return found + password_problems(self.services, self.passwords.read_all(self.services), state)

    def apply(self, steps: tuple[ServiceStep, ...] | None = None) -> None:
        if steps is None:
            assert self.problems() == ()
            steps = self.plan()
        with self.client() as client:
            for step in steps:
                client.ensure(step)

    def as_service(self, service: ServiceSpec) -> psycopg.Connection[Any]:
        password = self.passwords.read(service.role_name, service.password)
        assert isinstance(password, str)
        return self.connect(user=service.role_name, password=password)

    def admin(self, *statements: str) -> list[Any]:
        """Run statements as the admin; the rows of the last one."""
        with self.connect() as conn:
            for statement in statements:
                cursor = conn.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def stack(cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(cluster, tmp_path, {})
    yield stack
    with stack.connect() as conn:
        for service in stack.services:
            schema, role = sql.Identifier(service.schema_name), sql.Identifier(service.role_name)
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            if conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [service.role_name]).fetchone():
                conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        for service in stack.services:
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(service.role_name)))
        if conn.execute("SELECT to_regclass('orchestrator.migration')").fetchone() != (None,):
            names = [service.name for service in stack.services]
            conn.execute("DELETE FROM orchestrator.migration WHERE service = ANY(%s)", [names])


def whats(problems: tuple[Problem, ...]) -> str:
    return "\n".join(str(problem) for problem in problems)
