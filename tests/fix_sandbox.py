"""The administrator of a running lab in schemas of its own, for tests that hold every engine to one contract."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.fix_lab import Cluster

Connection = psycopg.Connection[Any]


@dataclass
class Sandbox:
    """The administrator's session, and schemas of its own that are dropped afterwards."""

    admin: Connection
    cluster: Cluster
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    schemas: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def name(self, stem: str) -> str:
        return f"{stem}_{self.suffix}"

    def schema(self, stem: str, *, distribute: bool = True, table: bool = True) -> str:
        name = self.name(stem)
        self.schemas.append(name)
        self.admin.execute(f"CREATE SCHEMA {name}")
        if distribute:
            self.admin.execute(f"SELECT citus_schema_distribute('{name}')")
        if table:
            self.admin.execute(f"CREATE TABLE {name}.t (id bigint PRIMARY KEY, other bigint)")
        return name

    def role(self, stem: str) -> str:
        name = self.name(stem)
        self.roles.append(name)
        self.admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret-{name}'")
        return name

    def run(self, statement: str) -> list[Any]:
        self.notices.clear()
        cursor = self.admin.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def refused(self, statement: str, connection: Connection | None = None) -> str:
        """`SQLSTATE message`, with the sandbox's own suffix taken out."""
        with pytest.raises(psycopg.Error) as caught:
            (connection or self.admin).execute(statement)
        return f"{caught.value.sqlstate} {caught.value.diag.message_primary}".replace(f"_{self.suffix}", "")

    def worker(self) -> Connection:
        port = self.run("SELECT nodeport FROM pg_dist_node WHERE groupid = 1")[0][0]
        return self.cluster.connect(port=self.reachable(port))

    def reachable(self, port: int) -> int:
        if self.cluster.engine == "docker":
            pytest.skip("engine docker: nodes are reached through published ports, not through those in pg_dist_node")
        return port

    def place(self, schema: str) -> tuple[str, int]:
        query = "SELECT nodename, nodeport FROM citus_shards WHERE table_name = %s::regclass"
        host, port = self.admin.execute(query, (f"{schema}.t",)).fetchone()
        return host, port


@pytest.fixture
def sandbox(cluster: Cluster) -> Iterator[Sandbox]:
    with cluster.connect() as admin:
        made = Sandbox(admin, cluster)
        admin.add_notice_handler(lambda note: made.notices.append(note.message_primary or ""))
        yield made
        for schema in made.schemas:
            admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        for role in made.roles:
            # Before PostgreSQL 16 whoever makes a role is not a member of it.
            admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
            admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
