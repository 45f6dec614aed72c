"""The cluster under load: a lab of its own with distributed schemas and a row-sharded pair of tables."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import make_conninfo

from bench.load.client import Tenant

ROW_TENANTS = 32
ROW_SHARDS = 8
ROW_SCHEMA = "load_rows"
MOST_CLIENTS = 64


class Cluster:
    def __init__(self, folder: Path, engine: str, schemas: int, nodes: int = 4) -> None:
        folder.chmod(0o711)
        self.folder = folder
        self.environment = {**os.environ, "ORCHESTRATOR_LAB_HOME": str(folder / "labs")}
        (folder / "stacks").mkdir()
        (folder / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n", "utf-8")
        self._run("lab", "up", "--engine", engine, "--nodes", str(nodes))
        config = yaml.safe_load((folder / "stacks" / "Pulumi.local.yaml").read_text("utf-8"))["config"]
        self._endpoint = config["elastic-cluster:endpoint"]
        self._password = Path(config["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8")
        self._shards: dict[int, list[int]] = {}
        self.tenants = [Tenant(number, f"load_{number}") for number in range(schemas)]
        self.tenants += [Tenant(schemas + number, ROW_SCHEMA, number) for number in range(ROW_TENANTS)]
        with self.connect() as connection:
            self.version = str(connection.execute("SELECT citus_version()").fetchone()[0]).split(" on ")[0]  # type: ignore[index]
            for tenant in self.tenants[:schemas]:
                make_schema(connection, tenant.schema)
            _make_rows(connection)
            self._learn_shards(connection)

    def dsns(self) -> dict[str, str]:
        """A connection string for each port that the lab offers."""
        return {name: self._dsn(int(port)) for name, port in self._endpoint["ports"].items()}

    def _dsn(self, port: int) -> str:
        return make_conninfo(
            host=self._endpoint["host"],
            port=port,
            dbname="citus",
            user="clusteradmin",
            password=self._password,
            sslmode="disable",
        )

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._dsn(int(self._endpoint["ports"]["direct"])), autocommit=True)

    def tenants_of(self, shard_id: int, name: str) -> list[int]:
        """Numbers of the tenants whose rows move with this shard."""
        if shard_id in self._shards:
            return self._shards[shard_id]
        return [tenant.number for tenant in self.tenants if tenant.schema == name]

    def read_back(self, writer: int) -> tuple[list[int], dict[int, int]]:
        """The numbers of all rows of a writer, and its counters, for each tenant."""
        rows: list[int] = []
        counters: dict[int, int] = {}
        with self.connect() as connection:
            for tenant in self.tenants:
                where, values = "writer = %s", [writer]
                if tenant.column is not None:
                    where, values = "writer = %s AND tenant = %s", [writer, tenant.column]
                found = connection.execute(f"SELECT number FROM {tenant.schema}.entry WHERE {where}", values)
                rows += [row[0] for row in found]
                query = f"SELECT coalesce(sum(value), 0) FROM {tenant.schema}.counter WHERE {where}"
                row = connection.execute(query, values).fetchone()
                counters[tenant.number] = int(row[0]) if row else 0
        return rows, counters

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._run("lab", "down", "--delete")

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "orchestrator", *arguments]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, env=self.environment)

    def _learn_shards(self, connection: psycopg.Connection[Any]) -> None:
        """Which tenants of the row-sharded tables are in which shard; tables of a group move together."""
        for tenant in self.tenants:
            for table in ("entry", "counter") if tenant.column is not None else ():
                query = "SELECT get_shard_id_for_distribution_column(%s::regclass, %s::int)"
                row = connection.execute(query, [f"{ROW_SCHEMA}.{table}", tenant.column]).fetchone()
                self._shards.setdefault(row[0] if row else 0, []).append(tenant.number)


def make_schema(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute(f"CREATE SCHEMA {name}")
    connection.execute(f"SELECT citus_schema_distribute('{name}')")
    # The key is made by the server, so that a doubled write is a second row and not an error.
    connection.execute(
        f"CREATE TABLE {name}.entry (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, writer int, number int,"
        " payload text)"
    )
    connection.execute(f"CREATE INDEX ON {name}.entry (writer, number)")
    connection.execute(f"CREATE TABLE {name}.counter (writer int PRIMARY KEY, value bigint NOT NULL DEFAULT 0)")
    connection.execute(f"INSERT INTO {name}.counter (writer) SELECT generate_series(0, {MOST_CLIENTS - 1})")


def _make_rows(connection: psycopg.Connection[Any]) -> None:
    name = ROW_SCHEMA
    connection.execute(f"CREATE SCHEMA {name}")
    connection.execute(
        f"CREATE TABLE {name}.entry (tenant int, id uuid DEFAULT gen_random_uuid(), writer int, number int,"
        " payload text, PRIMARY KEY (tenant, id))"
    )
    connection.execute(
        f"CREATE TABLE {name}.counter (tenant int, writer int, value bigint NOT NULL DEFAULT 0,"
        " PRIMARY KEY (tenant, writer))"
    )
    connection.execute(f"SELECT create_distributed_table('{name}.entry', 'tenant', shard_count => {ROW_SHARDS})")
    connection.execute(f"SELECT create_distributed_table('{name}.counter', 'tenant', colocate_with => '{name}.entry')")
    connection.execute(f"CREATE INDEX ON {name}.entry (tenant, writer, number)")
    connection.execute(
        f"INSERT INTO {name}.counter (tenant, writer)"
        f" SELECT t, w FROM generate_series(0, {ROW_TENANTS - 1}) t, generate_series(0, {MOST_CLIENTS - 1}) w"
    )
