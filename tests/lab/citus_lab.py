"""What the tests of the engines with real Citus share: sessions, services with data, a rebalance to its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.lab.engine import Address, Engine, LabSettings

ROWS = 500
SERVICE_PASSWORD = "service-password"
USABLE = "SELECT count(*) FROM pg_dist_node WHERE isactive AND metadatasynced AND shouldhaveshards"


def new_settings(directory: Path) -> LabSettings:
    admin, superuser = secrets.token_hex(12), secrets.token_hex(12)
    return LabSettings(directory.name, directory, "appdb", "clusteradmin", admin, superuser)


def quiet(_: str) -> None:
    pass


def session(address: Address, settings: LabSettings, user: str | None = None, password: str | None = None) -> Any:
    return psycopg.connect(
        host=address.host,
        port=address.port,
        dbname=settings.database,
        user=user or settings.admin_login,
        password=settings.admin_password if password is None else password,
        sslmode="disable",
        autocommit=True,
    )


def ask(engine: Engine, settings: LabSettings, query: str, node: int = 0) -> Any:
    with session(engine.addresses()[node], settings) as conn:
        return conn.execute(query).fetchone()[0]


def make_services(engine: Engine, settings: LabSettings, names: Sequence[str]) -> None:
    """As the admin does it: a role, its distributed schema, a table of its own with rows."""
    coordinator = engine.addresses()[0]
    with session(coordinator, settings) as conn:
        for name in names:
            role = sql.Identifier(name)
            conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(SERVICE_PASSWORD)))
            conn.execute(sql.SQL("GRANT {} TO {}").format(role, sql.Identifier(settings.admin_login)))
            conn.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(role, role))
            conn.execute("SELECT citus_schema_distribute(%s)", [name])
    for name in names:
        with session(coordinator, settings, name, SERVICE_PASSWORD) as conn:
            conn.execute("CREATE TABLE item (id bigint PRIMARY KEY, note text)")
            conn.execute("INSERT INTO item SELECT n, 'note ' || n FROM generate_series(1, %s) n", [ROWS])


def rows_of(engine: Engine, settings: LabSettings, name: str, node: int = 0) -> int:
    with session(engine.addresses()[node], settings, name, SERVICE_PASSWORD) as conn:
        return int(conn.execute("SELECT count(*) FROM item").fetchone()[0])


def rebalance(engine: Engine, settings: LabSettings) -> list[tuple[str, int]]:
    """Start a rebalance by logical replication as the admin; gives (state, retries) of every move when it has ended."""
    with session(engine.addresses()[0], settings) as conn:
        job = conn.execute("SELECT citus_rebalance_start(shard_transfer_mode := 'force_logical')").fetchone()[0]
        deadline = time.monotonic() + 60
        ended = "SELECT state IN ('finished', 'failed', 'cancelled') FROM pg_dist_background_job WHERE job_id = %s"
        while not conn.execute(ended, [job]).fetchone()[0]:
            assert time.monotonic() < deadline, conn.execute("SELECT * FROM pg_dist_background_task").fetchall()
            time.sleep(0.05)
        moves = conn.execute("SELECT status::text, retry_count FROM pg_dist_background_task WHERE job_id = %s", [job])
        return [(status, retries or 0) for status, retries in moves]


def shard_groups(engine: Engine, settings: LabSettings) -> list[int]:
    """How many shards every node holds, fewest first."""
    query = """
        SELECT count(shardid) FROM pg_dist_node LEFT JOIN pg_dist_placement USING (groupid)
        GROUP BY nodeid ORDER BY count(shardid)"""
    with session(engine.addresses()[0], settings) as conn:
        return [count for (count,) in conn.execute(query)]
