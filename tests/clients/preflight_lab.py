"""A lab with real Citus of which tests spoil one thing after the other; findings are read as `preflight` reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

from psycopg import sql

from orchestrator.clients.checks.preflight import LONG, PreflightClient
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.core.checks.preflight import Finding, find
from orchestrator.core.checks.preflight_checks import CHECKS
from orchestrator.lab.postgres import PostgresServer
from tests.fix_lab import Cluster, superuser

SCHEMAS = ("one", "two", "three", "four", "five", "six")
RELOAD = "SELECT pg_reload_conf()"


@dataclass(frozen=True)
class Lab:
    """`admin` is the administrator's connection; the first port is the coordinator's."""

    cluster: Cluster
    admin: Any

    @property
    def ports(self) -> list[int]:
        rows = self.admin.execute("SELECT nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
        return [port for (port,) in rows]

    def on(self, port: int, *statements: LiteralString) -> None:
        """As superuser on one node; Citus carries nothing of it to other nodes."""
        with superuser(self.cluster, port) as connection:
            connection.execute("SET citus.enable_ddl_propagation TO off")
            for statement in statements:
                connection.execute(statement)

    def server(self, port: int) -> PostgresServer:
        folders = self.cluster.home.folder.rglob("postgresql.conf")
        found = [PostgresServer(folder.parent, Path(), port) for folder in folders]
        server = next(one for one in found if one.running_port() == port)
        binaries = Path(f"/proc/{server._pid()}/exe").readlink().parent
        return PostgresServer(server.data, binaries, port)

    def findings(self, long: int = LONG) -> tuple[Finding, ...]:
        with CitusClient(self.cluster.connect, "lab") as citus:
            return find(PreflightClient(lambda: citus.connection).read(citus.observe(), 0, long), CHECKS)

    def assert_fires(self, check: str, named: str, grade: str, long: int = LONG) -> Finding:
        """At once, or when what was changed has reached all processes of a node."""
        deadline = time.monotonic() + 15
        while True:
            found = self.findings(long)
            fitting = [one for one in found if (one.check, one.grade) == (check, grade) and named in one.object]
            if fitting:
                return fitting[0]
            assert time.monotonic() < deadline, found

    def assert_clean(self) -> None:
        deadline = time.monotonic() + 15
        while (found := self.findings()) != ():
            assert time.monotonic() < deadline, found

    @contextmanager
    def everywhere(self, setting: LiteralString, value: LiteralString) -> Iterator[None]:
        """A setting of the coordinator that a reload takes."""
        name = sql.Identifier(*setting.split("."))
        with superuser(self.cluster, self.ports[0]) as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(name, sql.Literal(value)))
            connection.execute(RELOAD)
            try:
                yield
            finally:
                connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(name))
                connection.execute(RELOAD)


def place(lab: Lab, schema: str) -> tuple[int, int, int]:
    """Port and node id of the node that holds a schema, and the id of its shard."""
    port, node_id, shard = lab.admin.execute(
        "SELECT nodeport, nodeid, shardid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)"
        " JOIN pg_dist_node USING (groupid) WHERE logicalrelid = format('%%I.t', %s::text)::regclass",
        (schema,),
    ).fetchone()
    return port, node_id, shard


def move_to(lab: Lab, schema: str, port: int) -> None:
    """Does nothing when it is there."""
    at, node_id, shard = place(lab, schema)
    if at != port:
        lab.admin.execute(
            "SELECT citus_move_shard_placement(%s, %s, nodeid, 'block_writes') FROM pg_dist_node WHERE nodeport = %s",
            (shard, node_id, port),
        )


def move_away(lab: Lab, schema: str) -> int:
    """The port of the node that it leaves."""
    at = place(lab, schema)[0]
    move_to(lab, schema, next(port for port in lab.ports if port != at))
    return at
