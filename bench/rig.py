"""Clusters for `resume.py`: what a scale-out is tried on, and the look at it afterwards.

`VerbLab` is a lab as users have it, behind a proxy for SQL and one for ARM; every point grows it by one node.
`StandinLab` has the embedded engine, its ticker and the ARM endpoint in this process; its state is put back before
every point, so that one server does for thousands of them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import processes
import psycopg
import yaml
from chaos import ArmProxy, Cut, SqlProxy

from orchestrator.lab import nodes as lab_nodes
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.faults import Faults
from orchestrator.lab.arm.resources import ServerFacts
from orchestrator.lab.daemon import Backend
from orchestrator.lab.embedded import EmbeddedEngine
from orchestrator.lab.engine import Address, LabSettings
from orchestrator.lab.home import LabHome
from orchestrator.lab.postgres import PostgresServer, free_ports
from orchestrator.lab.ticker import Ticker

MOST_NODES = 9
CLEAN_WITHIN = 60.0
EXECUTORS = ("citus.max_background_task_executors", "citus.max_background_task_executors_per_node")
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
LEFT: dict[str, str] = {
    "replication slots": "SELECT count(*) FROM pg_replication_slots",
    "subscriptions": "SELECT count(*) FROM pg_subscription",
    "publications": "SELECT count(*) FROM pg_publication WHERE pubname LIKE 'citus_shard%'",
    "roles of moves": "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'citus_shard%'",
    "prepared transactions": "SELECT count(*) FROM pg_prepared_xacts",
}


class Rig:
    """What both kinds of lab share: a project folder, its tenants, the command, and the look at the cluster."""

    nodes = 2

    def __init__(self, moves: str | None, tenants: int, rows: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="orchestrator-bench-")
        self.folder = Path(self._folder.name)
        self.tenants, self.rows = tenants, rows
        (self.folder / "stacks").mkdir()
        (self.folder / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n", "utf-8")
        self.stack = self.folder / "stacks" / "Pulumi.local.yaml"
        self.home = LabHome.of(self.folder, "local")
        self.moves = ["--moves", moves] if moves else []
        self.settings: LabSettings
        self.direct = 0
        self.schemas: set[str] = set()

    def start(self) -> processes.Command:
        return processes.start(self.scale_out(), self.folder, os.environ)

    def run(self, *arguments: str) -> str:
        code, said, errors = processes.run(arguments, self.folder, os.environ)
        if code:
            raise AssertionError(f"{' '.join(arguments)} ended with {code}: {errors.strip()[-300:]}")
        return said

    def scale_out(self) -> list[str]:
        return ["scale-out", "--nodes", str(self.nodes), "--yes", "--events", *self.moves]

    def connect(self) -> psycopg.Connection[Any]:
        """The administrator, past the proxy."""
        return psycopg.connect(
            host="127.0.0.1", port=self.direct, dbname=self.settings.database, user=self.settings.admin_login,
            password=self.settings.admin_password, sslmode="disable", autocommit=True,
        )  # fmt: skip

    def superuser(self, port: int | None = None) -> psycopg.Connection[Any]:
        return lab_nodes.connect(Address("127.0.0.1", port or self.direct), self.settings)

    def make_tenants(self) -> None:
        with self.connect() as admin:
            for number in range(self.tenants):
                admin.execute(f"CREATE SCHEMA tenant{number}")
                admin.execute(f"SELECT citus_schema_distribute('tenant{number}')")
                admin.execute(f"CREATE TABLE tenant{number}.t (id bigint PRIMARY KEY, payload text)")
                rows = f"SELECT i, repeat('x', 100) FROM generate_series(1, {self.rows}) i"
                admin.execute(f"INSERT INTO tenant{number}.t {rows}")
            self.schemas = _schemas(admin)

    def server(self, worker: bool) -> PostgresServer:
        """The server of the coordinator or of a worker: on the embedded engine the one server is both."""
        folders = sorted(path.parent for path in self.home.folder.rglob("postmaster.pid"))
        folder = folders[1] if worker and len(folders) > 1 else folders[0]
        lines = (folder / "postmaster.pid").read_text("utf-8").splitlines()
        binaries = Path(f"/proc/{lines[0]}/exe").readlink().parent
        return PostgresServer(folder, binaries, int(lines[3]))

    def problems(self) -> list[str]:
        """What is not as it should be in the cluster after a scale-out, but for the number of resizes."""
        found = list(self._database())
        again = json.loads(self.run("scale-out", "--nodes", str(self.nodes), "--yes", "--json"))
        if again["outcome"] != "nothing to do":
            found.append(f"one more run: {again['outcome']}")
        return found + self._leftovers()

    def _database(self) -> Iterator[str]:
        with self.connect() as admin:
            yield from self._differing(admin)
            for number in range(self.tenants):
                row = admin.execute(f"SELECT count(*), sum(id) FROM tenant{number}.t").fetchone()
                if row is None or (row[0], int(row[1])) != (self.rows, self.rows * (self.rows + 1) // 2):
                    yield f"tenant{number} has {row}"
            if (schemas := _schemas(admin)) != self.schemas:
                yield f"schemas: {schemas ^ self.schemas}"

    def _differing(self, admin: psycopg.Connection[Any]) -> Iterator[str]:
        """Nodes and placement; a job; settings that were not put back; notes that were not cleared."""
        expected: list[tuple[str, object]] = [
            ("count(*) FROM pg_dist_node WHERE isactive AND metadatasynced AND shouldhaveshards", self.nodes),
            ("count(DISTINCT groupid) FROM pg_dist_placement", self.nodes),
            # One more is that of a table that the run made for itself.
            ("count(*) FROM pg_dist_shard", self.tenants),
            ("count(*) FROM pg_dist_placement", self.tenants),
            ("count(*) FROM pg_dist_background_job WHERE state NOT IN ('finished', 'cancelled', 'failed')", 0),
            ("count(*) FROM orchestrator.kept_setting", 0),
            ("count(*) FROM orchestrator.operation", 0),
            *((f"current_setting('{name}')", "1") for name in EXECUTORS),
        ]
        for query, value in expected:
            if (seen := _one(admin, f"SELECT {query}")) != value:
                yield f"{query} is {seen}, not {value}"

    def _leftovers(self) -> list[str]:
        """Waits for Citus' own cleanup, which these labs do every second instead of every 15."""
        deadline = time.monotonic() + CLEAN_WITHIN
        while (found := list(self._left())) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _left(self) -> Iterator[str]:
        with self.connect() as admin:
            if count := _one(admin, "SELECT count(*) FROM pg_dist_cleanup"):
                yield f"cleanup records: {count}"
        for pid_file in self.home.folder.rglob("postmaster.pid"):
            port = int(pid_file.read_text("utf-8").splitlines()[3])
            with self.superuser(port) as node:
                for what, query in LEFT.items():
                    if count := _one(node, query):
                        yield f"{what} on port {port}: {count}"


class VerbLab(Rig):
    """Two nodes at first, and one more for every point."""

    def __init__(self, engine: str, moves: str | None, tenants: int = 24, rows: int = 200) -> None:
        super().__init__(moves, tenants, rows)
        self.run("lab", "up", "--engine", engine, "--nodes", "2")
        config = yaml.safe_load(self.stack.read_text("utf-8"))
        endpoint = config["config"]["elastic-cluster:endpoint"]
        self.direct = int(endpoint["ports"]["direct"])
        self.sql, self.arm = SqlProxy(self.direct), ArmProxy(endpoint["arm"])
        endpoint["ports"]["direct"], endpoint["arm"] = self.sql.port, self.arm.url
        self.stack.write_text(yaml.safe_dump(config), "utf-8")
        self.settings = self.home.settings()
        self.make_tenants()
        with self.superuser() as superuser:
            superuser.execute("ALTER SYSTEM SET citus.defer_shard_delete_interval = '1s'")
            superuser.execute("SELECT pg_reload_conf()")

    @property
    def used_up(self) -> bool:
        return self.nodes >= MOST_NODES

    def fresh(self, sql: Cut | None, arm: Cut | None) -> None:
        self.nodes += 1
        self.before = self._resizes()
        self.sql.arm(sql)
        self.arm.arm(arm)

    def over(self) -> tuple[int, int, bool]:
        """SQL messages and ARM requests since `fresh`, and whether the cut took place; there is none any more."""
        counted = self.sql.seen, self.arm.seen, self.sql.fired or self.arm.fired
        self.sql.arm(None)
        self.arm.arm(None)
        return counted

    def resizes(self) -> tuple[int, int]:
        """Resizes that Azure was asked for, and those that it carried out, since `fresh`."""
        asked, done = self._resizes()
        return asked - self.before[0], done - self.before[1]

    def _resizes(self) -> tuple[int, int]:
        operations = json.loads(self.home.arm_state.read_text("utf-8"))["operations"]
        asked = [operation for operation in operations if operation["kind"] == "UpdateServer"]
        return len(asked), sum(operation["status"] == "Succeeded" for operation in asked)

    def close(self) -> None:
        self.sql.close()
        self.arm.shutdown()
        self.arm.server_close()
        with suppress(AssertionError):
            self.run("lab", "down", "--delete")
        self._folder.cleanup()


class StandinLab(Rig):
    """From two nodes to three, over and over. Simulated moves and Azure's operations take a moment only."""

    used_up = False

    def __init__(self, moves: str | None, tenants: int = 9, rows: int = 20) -> None:
        super().__init__(moves, tenants, rows)
        self.facts = ServerFacts(SUBSCRIPTION, "lab", "lab-local", location="northeurope", database="citus")
        server = {"subscription_id": SUBSCRIPTION, "resource_group": "lab", "name": "lab-local"}
        self.home.create("embedded", 2, "citus", "clusteradmin", server)
        self.settings = self.home.settings()
        self.engine = EmbeddedEngine(self.settings)
        self.engine.start(2, lambda _: None)
        self.ticker = Ticker(self.engine, interval=0.02)
        self.ticker.start()
        self.direct = self.engine.addresses()[0].port
        self.sql = SqlProxy(self.direct)
        self.arm_port = free_ports(1)[0]
        self.emulator: ArmEmulator | None = None
        self.stack.write_text(self._stack_text(), "utf-8")
        self.make_tenants()
        self.state_file = self.settings.directory / "embedded" / "state.json"
        self.saved = self.state_file.read_text("utf-8")
        with self.superuser() as superuser:
            for table in ("node", "placement"):
                superuser.execute(f"CREATE TABLE citus_lab.saved_{table} AS TABLE pg_catalog.pg_dist_{table}")
            superuser.execute(
                "UPDATE citus_lab.settings SET start_delay = '0.1 s', logical_fixed = '0.1 s',"
                " block_writes_fixed = '0.05 s'"
            )
            superuser.execute("ALTER SYSTEM SET citus.defer_shard_delete_interval = '1s'")
            superuser.execute("SELECT pg_reload_conf()")

    def _stack_text(self) -> str:
        ports = {"direct": self.sql.port, "balanced": self.sql.port}
        config = {
            "name": "lab-local", "resourceGroup": "lab", "subscriptionId": SUBSCRIPTION, "location": "northeurope",
            "nodes": 2, "database": "citus", "administratorPassword": {"file": str(self.home.password_file)},
            "endpoint": {
                "host": "127.0.0.1", "ports": ports, "arm": f"http://127.0.0.1:{self.arm_port}",
                "engine": "embedded", "sslmode": "disable",
            },
        }  # fmt: skip
        return yaml.safe_dump({"config": {f"elastic-cluster:{key}": value for key, value in config.items()}})

    def fresh(self, sql: Cut | None, arm: Cut | None) -> None:
        """The cluster as it was when it was made, behind a new ARM endpoint."""
        if self.emulator is not None:
            self.emulator.stop()
        self.nodes = 3
        self._put_back()
        faults = Faults(min_duration=0.2)
        self.cut_at = arm.at if arm is not None else None
        if arm is not None:
            faults.break_request(arm.at - 1, "reset-before" if arm.when == "before" else "reset-after")
        backend = Backend(self.engine, self.home, lambda: None)
        self.emulator = ArmEmulator(backend, self.facts, port=self.arm_port, faults=faults)
        self.emulator.start()
        self.sql.arm(sql)

    def _put_back(self) -> None:
        self.state_file.write_text(self.saved, "utf-8")
        self.stack.write_text(self._stack_text(), "utf-8")
        with self.superuser() as superuser:
            ours = "FROM pg_stat_activity WHERE application_name LIKE 'orchestrator%' AND usename <> 'postgres'"
            while superuser.execute(f"SELECT pg_terminate_backend(pid) {ours}").fetchall():
                time.sleep(0.01)
            with superuser.transaction():
                for table in ("background_task_depend", "background_task", "background_job", "cleanup"):
                    superuser.execute(f"DELETE FROM citus_lab.{table}")
                for table in ("placement", "node"):
                    superuser.execute(f"DELETE FROM pg_catalog.pg_dist_{table}")
                    superuser.execute(f"INSERT INTO pg_catalog.pg_dist_{table} TABLE citus_lab.saved_{table}")
                superuser.execute("DROP SCHEMA IF EXISTS orchestrator CASCADE")
            for name in EXECUTORS:
                superuser.execute(f"ALTER SYSTEM RESET {name}")
            superuser.execute("SELECT pg_reload_conf()")

    def over(self) -> tuple[int, int, bool]:
        assert self.emulator is not None
        requests = self.emulator.faults.requests_seen
        fired = self.sql.fired or (self.cut_at is not None and requests >= self.cut_at)
        counted = self.sql.seen, requests, fired
        self.sql.arm(None)
        return counted

    def resizes(self) -> tuple[int, int]:
        assert self.emulator is not None
        operations = self.emulator._state.operations.values()
        asked = [operation for operation in operations if operation.kind == "UpdateServer"]
        return len(asked), sum(operation.status == "Succeeded" for operation in asked)

    def close(self) -> None:
        self.sql.close()
        if self.emulator is not None:
            self.emulator.stop()
        self.ticker.stop()
        self.engine.delete()
        shutil.rmtree(self.home.folder)
        self._folder.cleanup()


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row and row[0]


def _schemas(connection: psycopg.Connection[Any]) -> set[str]:
    """But for our own and PostgreSQL's."""
    return {
        name
        for (name,) in connection.execute("SELECT nspname FROM pg_namespace")
        if not name.startswith("pg_") and name != "orchestrator"
    }
