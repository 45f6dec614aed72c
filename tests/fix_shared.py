"""A lab that tests share: what a test made is taken away after it, and a lab that is then not as it was is replaced.

Whether it is as it was is told by a picture: each node's schemas, roles, rights, settings, all rows of Citus' own
tables and the number of rows of the catalogs, and what the control plane knows of the server. So a test that grows the
cluster, or leaves something that is not known here, costs the next one a new lab and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from orchestrator.core.errors import LabError
from orchestrator.lab import nodes
from orchestrator.lab.discover import make
from orchestrator.lab.engine import EngineName
from orchestrator.lab.home import HOME_VARIABLE, LabHome
from tests.fix_lab import Project
from tests.infra.arm_calls import Arm, ArmRefused

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]
VERSION = "2026-10-01"
CATALOGS = (
    "pg_attrdef", "pg_cast", "pg_collation", "pg_constraint", "pg_default_acl", "pg_event_trigger", "pg_extension",
    "pg_foreign_server", "pg_index", "pg_operator", "pg_parameter_acl", "pg_policy", "pg_proc", "pg_publication",
    "pg_replication_slots", "pg_prepared_xacts", "pg_rewrite", "pg_statistic_ext", "pg_subscription", "pg_trigger",
    "pg_type",
)  # fmt: skip
PICTURE = {
    "schemas": "SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace"
    " WHERE nspname !~ '^pg_(toast_)?temp_' ORDER BY 1",
    "relations": "SELECT count(*), md5(string_agg(oid || relname || relowner || coalesce(relacl::text, ''), ','"
    " ORDER BY oid)) FROM pg_class WHERE relpersistence <> 't'",
    "roles": "SELECT rolname, to_jsonb(r)::text FROM pg_authid r ORDER BY 1",
    "members": "SELECT to_jsonb(m) - 'oid' FROM pg_auth_members m ORDER BY roleid, member",
    "settings": "SELECT setrole::regrole::text, setdatabase, setconfig FROM pg_db_role_setting ORDER BY 1, 2",
    "databases": "SELECT datname, datacl::text FROM pg_database ORDER BY 1",
    "parameters": "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'"
    " ORDER BY 1",
}
CITUS_TABLES = (
    "SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relkind = 'r' AND (nspname = 'citus_lab' OR relname LIKE 'pg_dist_%') AND relname <> 'pg_dist_transaction'"
    " ORDER BY 1"
)
SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename), start_value, last_value FROM pg_sequences ORDER BY 1"
# Rows that stay when what they are about has ended; in the order in which they may be deleted.
ENDED = (
    "pg_catalog.pg_dist_background_task_depend", "pg_catalog.pg_dist_background_task",
    "pg_catalog.pg_dist_background_job", "citus_lab.background_task_depend", "citus_lab.background_task",
    "citus_lab.background_job",
)  # fmt: skip
SESSIONS = "pg_stat_activity WHERE usename <> session_user"
UNDER_WAY = "SELECT 1 FROM pg_dist_background_job WHERE state NOT IN ('finished', 'cancelled', 'failed')"


@dataclass(frozen=True, slots=True)
class Picture:
    nodes: tuple[Mapping[str, Rows], ...]
    azure: Mapping[str, Any]

    def names(self, of: str) -> list[str]:
        """Of the coordinator."""
        return [row[0] for row in self.nodes[0][of]]


class Dirty(Exception):
    """What a test has left cannot be taken away."""


class SharedLab:
    """A lab that is new, and belongs to the folder of this project."""

    def __init__(self, project: Project, engine: EngineName) -> None:
        self.project, self.engine = project, engine
        self.stack_text = project.stack.read_text("utf-8")
        self.home = LabHome.of(project.folder, "local", Path(project.environment[HOME_VARIABLE]))
        self.clean = self._look()
        with next(self._connections()) as coordinator:
            self._sequences = coordinator.execute(SEQUENCES).fetchall()

    def take_back(self) -> None:
        """Raises Dirty when the lab is not as it was, for a reason that is told."""
        try:
            if self.home.read().nodes != self.clean.azure["nodes"]:
                raise Dirty("the cluster has grown")
            if any(operation["status"] == "InProgress" for operation in self._azure()["operations"]):
                raise Dirty("the control plane is at work")
            self._reset_parameters()
            with ExitStack() as stack:
                connections = [stack.enter_context(connection) for connection in self._connections()]
                if connections[0].execute(UNDER_WAY).fetchone():
                    raise Dirty("a job of Citus is under way")
                _end_sessions(connections)
                _drop(connections[0], self.clean)
                _restore(connections, self.clean, self._sequences)
            seen = self._look()
        except (psycopg.Error, LabError, ArmRefused, OSError) as error:
            raise Dirty(str(error)) from error
        if seen != self.clean:
            raise Dirty(_difference(self.clean, seen))

    def remove(self) -> None:
        self.project.call("lab", "down", "--delete")

    @property
    def there(self) -> bool:
        return self.home.running() is not None

    def _connections(self) -> Iterator[Connection]:
        """A superuser on each server: one a node, and one in all where the nodes are simulated."""
        addresses = make(self.engine, self.home.settings()).addresses()
        for address in addresses[:1] if self.engine == "embedded" else addresses:
            yield nodes.connect(address, self.home.settings())

    def _look(self) -> Picture:
        with ExitStack() as stack:
            connections = [stack.enter_context(connection) for connection in self._connections()]
            pictures = tuple(_picture(connection) for connection in connections)
        servers = self._azure()["servers"]
        for server in servers:
            sources = server["parameter_sources"]
            server["parameter_sources"] = {name: by for name, by in sources.items() if by != "system-default"}
        return Picture(pictures, {"nodes": self.home.read().nodes, "servers": servers})

    def _azure(self) -> dict[str, Any]:
        return dict(json.loads(self.home.arm_state.read_text("utf-8")))

    def _reset_parameters(self) -> None:
        """As Azure's portal resets them."""
        (server,) = self._azure()["servers"]
        running = self.home.running()
        if running is None:
            raise Dirty("the lab does not run")
        arm = Arm(running.arm, server["subscription_id"])
        path = (
            f"/subscriptions/{server['subscription_id']}/resourceGroups/{server['resource_group']}"
            f"/providers/Microsoft.DBforPostgreSQL/flexibleServers/{server['name']}/configurations/"
        )
        (clean,) = self.clean.azure["servers"]
        for name, source in server["parameter_sources"].items():
            if name not in clean["parameter_sources"] and source != "system-default":
                default = arm.get(path + quote(name), VERSION)["properties"]["defaultValue"]
                change = {"value": default, "source": "system-default"}
                arm.write("PUT", path + quote(name), VERSION, {"properties": change})


def _picture(connection: Connection) -> Mapping[str, Rows]:
    found = {name: connection.execute(query.encode()).fetchall() for name, query in PICTURE.items()}
    tables = [name for (name,) in connection.execute(CITUS_TABLES).fetchall()]
    rows = (f"SELECT '{one}', string_agg(t::text, E'\\n' ORDER BY t::text) FROM {one} t" for one in tables)
    found["Citus' tables"] = connection.execute(" UNION ALL ".join(rows).encode()).fetchall()
    known = connection.execute(
        "SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NOT NULL", [list(CATALOGS)]
    )
    counts = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for (name,) in known.fetchall())
    return {**found, "catalogs": connection.execute(counts.encode()).fetchall()}


def _end_sessions(connections: Sequence[Connection]) -> None:
    """Of everybody else, on every node; those of a command that was killed go on otherwise."""
    deadline = time.monotonic() + 10
    left = list(connections)
    while left:
        if time.monotonic() > deadline:
            raise Dirty("sessions do not end")
        for connection in left:
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM {SESSIONS}".encode())
        left = [one for one in left if one.execute(f"SELECT 1 FROM {SESSIONS}".encode()).fetchone()]


def _drop(coordinator: Connection, clean: Picture) -> None:
    """Citus carries it to the other nodes."""
    now = _picture(coordinator)
    schemas = [sql.Identifier(row[0]) for row in now["schemas"] if row[0] not in clean.names("schemas")]
    roles = [sql.Identifier(row[0]) for row in now["roles"] if row[0] not in clean.names("roles")]
    coordinator.execute("CALL citus_cleanup_orphaned_resources()")
    if schemas:
        coordinator.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.SQL(", ").join(schemas)))
    if roles:
        for verb in ("DROP OWNED BY {}", "DROP ROLE {}"):
            coordinator.execute(sql.SQL(verb).format(sql.SQL(", ").join(roles)))
    for role, database, _ in coordinator.execute(PICTURE["settings"].encode()).fetchall():
        if database == 0 and (role, 0) not in {row[:2] for row in clean.nodes[0]["settings"]}:
            coordinator.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(sql.Identifier(role)))
    for table in ENDED:
        found = coordinator.execute("SELECT 1 FROM pg_class WHERE oid = to_regclass(%s) AND relkind = 'r'", (table,))
        if found.fetchone():
            coordinator.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))


def _restore(connections: Sequence[Connection], clean: Picture, sequences: Rows) -> None:
    """Settings of the servers, and the coordinator's sequences: the next test gets the numbers of a new lab."""
    for connection, picture in zip(connections, clean.nodes, strict=True):
        wanted = dict(picture["parameters"])
        now = dict(connection.execute(PICTURE["parameters"].encode()).fetchall())
        for name in now.keys() - wanted.keys():
            connection.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(*name.split("."))))
        if now != wanted:
            connection.execute("SELECT pg_reload_conf()")
    for name, start, last in sequences:
        connections[0].execute("SELECT setval(%s::regclass, %s, %s)", (name, last or start, last is not None))


def _difference(clean: Picture, seen: Picture) -> str:
    """The first one, for whoever wonders why a lab was replaced."""
    if seen.azure != clean.azure:
        return f"Azure's side: {seen.azure} instead of {clean.azure}"
    for number, (was, now) in enumerate(zip(clean.nodes, seen.nodes, strict=True), start=1):
        for name in was:
            if was[name] != now[name]:
                gone = [row for row in was[name] if row not in now[name]]
                return f"node {number}, {name}: {[row for row in now[name] if row not in was[name]]} instead of {gone}"
    return "nothing that can be named"
