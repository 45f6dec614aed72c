"""Makes one elastic cluster of PostgreSQL servers that have Citus, whatever runs the servers.

Every function ensures an end state and reads what is there first, so a cluster that was left half made is completed.
Node-to-node connections prove themselves with the lab's TLS certificate; clients come without TLS and with a password.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from orchestrator.core.errors import LabError
from orchestrator.lab.admin import ensure_admin
from orchestrator.lab.engine import Address, LabSettings, Progress

SUPERUSER = "postgres"
CONTROL_DATABASE = "postgres"
# A certificate opens every role for a node, because Citus moves shards and runs queries as the role that asked for it.
HBA = (
    "hostssl all all all trust clientcert=verify-ca",
    "hostnossl all all all scram-sha-256",
)
_SYNC_DEADLINE = 60.0

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Member:
    """One node: the name that the other nodes know it by, and how this machine reaches it."""

    host: str
    port: int
    address: Address


@dataclass(frozen=True, slots=True)
class _Row:
    """What pg_dist_node of the coordinator says of one node."""

    node_id: int
    group_id: int
    host: str
    port: int
    usable: bool
    synced: bool


def node_settings(tls: str) -> dict[str, str]:
    """Server settings of a node; `tls` is the folder of its certificate files as the server sees it."""
    return {
        "shared_preload_libraries": "citus",
        "wal_level": "logical",  # shards move by logical replication
        # Sized for 20 nodes on a laptop: one query may open a connection to every node for every role it runs as.
        "max_connections": "300",
        "shared_buffers": "32MB",
        "max_worker_processes": "64",
        "max_logical_replication_workers": "32",
        "max_replication_slots": "64",
        "max_wal_senders": "64",
        "max_locks_per_transaction": "128",
        "max_prepared_transactions": "300",
        # Before version 16 PostgreSQL starts one apply worker per interval (5 s) at most; every shard move needs one.
        "wal_retrieve_retry_interval": "100ms",
        "citus.node_connection_timeout": "5s",
        # A lab survives the death of its servers, not the death of the machine.
        "fsync": "off",
        "full_page_writes": "off",
        # The text of a refused statement may hold a password.
        "log_min_error_statement": "panic",
        "ssl": "on",
        "ssl_ca_file": f"{tls}/authority.crt",
        "ssl_cert_file": f"{tls}/node.crt",
        "ssl_key_file": f"{tls}/node.key",
        "citus.node_conninfo": f"sslmode=verify-ca sslrootcert='{tls}/authority.crt' "
        f"sslcert='{tls}/node.crt' sslkey='{tls}/node.key'",
    }


def connect(address: Address, settings: LabSettings, database: str | None = None) -> Connection:
    """A superuser's session on one node."""
    try:
        return psycopg.connect(
            host=address.host, port=address.port, user=SUPERUSER, password=settings.superuser_password,
            dbname=database or settings.database, sslmode="disable", connect_timeout=10, autocommit=True,
            application_name="orchestrator lab",
        )  # fmt: skip
    except psycopg.Error as error:
        raise LabError(
            f"The lab's node at {address.host}:{address.port} does not answer: {str(error).strip()}. "
            "`orchestrator lab up` starts what is missing."
        ) from error


def prepare(member: Member, settings: LabSettings) -> None:
    """Database and extension: both must exist on a node before it joins, and Citus carries neither over."""
    with _reported(f"Preparing node {member.host}:{member.port}"):
        with connect(member.address, settings, CONTROL_DATABASE) as conn:
            exists = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [settings.database]).fetchone()
            if not exists:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(settings.database)))
        with connect(member.address, settings) as conn:
            conn.execute("CREATE EXTENSION IF NOT EXISTS citus")
            _allow_splits(conn)


def _allow_splits(conn: Connection) -> None:
    """Newer servers have an allow-list of output plugins, and Citus splits shards with one of its own."""
    row = conn.execute("SELECT current_setting('output_plugin_libraries', true)").fetchone()
    allowed = [name.strip() for name in row[0].split(",")] if row and row[0] is not None else ["citus"]
    if "citus" not in allowed:
        names = sql.SQL(", ").join(map(sql.Literal, [*allowed, "citus"]))
        conn.execute(sql.SQL("ALTER SYSTEM SET output_plugin_libraries = {}").format(names))
        _reload(conn)


def ensure_cluster(members: Sequence[Member], settings: LabSettings, progress: Progress) -> None:
    """Register every member that is not registered, follow those whose address changed, give the admin its rights."""
    coordinator, *others = members
    with _reported("Making the cluster"), connect(coordinator.address, settings) as conn:
        _follow_addresses(conn, others, settings, progress)
        rows = {row.group_id: row for row in _rows(conn)}
        if 0 not in rows or (rows[0].host, rows[0].port) != (coordinator.host, coordinator.port):
            conn.execute("SELECT citus_set_coordinator_host(%s, %s)", [coordinator.host, coordinator.port])
        for number, member in enumerate(others, start=1):
            if (member.host, member.port) not in {(row.host, row.port) for row in rows.values()}:
                _copy_parameters(conn, member, settings)
                conn.execute("SELECT citus_add_node(%s, %s)", [member.host, member.port])
                progress(f"node {number} joined the cluster")
        for row in _rows(conn):
            if not row.usable:
                conn.execute("SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', true)", [row.host, row.port])
        _until(lambda: all(row.usable and row.synced for row in _rows(conn)), "Not every node gets its metadata")
        # After the nodes: rights on the database do not reach nodes that join later, so they are given again.
        ensure_admin(conn, settings)


def _copy_parameters(coordinator: Connection, member: Member, settings: LabSettings) -> None:
    """A server parameter holds for the whole cluster, so a node that joins takes over what has been set so far."""
    changed = coordinator.execute(
        "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'"
        " AND name <> 'output_plugin_libraries'"  # a list, which every node was given when it was prepared
    ).fetchall()
    with connect(member.address, settings) as conn:
        for name, value in changed:
            conn.execute(_alter_system(name, value))
        conn.execute("SELECT pg_reload_conf()")


def parameters(address: Address, settings: LabSettings) -> Mapping[str, tuple[str, str]]:
    with _reported("Reading the server parameters"), connect(address, settings) as conn:
        rows = conn.execute(
            "SELECT name, setting, coalesce(boot_val, '') FROM pg_settings"
            " WHERE context NOT IN ('internal', 'postmaster') ORDER BY name"
        ).fetchall()
    return {name: (setting, default) for name, setting, default in rows}


def set_parameter(members: Sequence[Member], settings: LabSettings, name: str, value: str) -> None:
    """On every node, the coordinator first: a value that the server refuses has then changed nothing."""
    for member in members:
        with _reported(f"Setting {name} to {value!r}"), connect(member.address, settings) as conn:
            conn.execute(_alter_system(name, value))
            _reload(conn)


def _alter_system(name: str, value: str) -> sql.Composed:
    return sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(*name.split(".")), sql.Literal(value))


def _reload(conn: Connection) -> None:
    def loaded_at() -> object:
        row = conn.execute("SELECT pg_conf_load_time()").fetchone()
        return row and row[0]

    before = loaded_at()
    conn.execute("SELECT pg_reload_conf()")
    _until(lambda: loaded_at() != before, "The server does not reload its configuration")


def _rows(conn: Connection) -> list[_Row]:
    query = """
        SELECT nodeid AS node_id, groupid AS group_id, nodename AS host, nodeport AS port,
               isactive AND shouldhaveshards AS usable, metadatasynced AS synced
        FROM pg_dist_node WHERE noderole = 'primary' ORDER BY nodeid"""
    with conn.cursor(row_factory=class_row(_Row)) as cursor:
        return cursor.execute(query).fetchall()


def _follow_addresses(conn: Connection, others: Sequence[Member], settings: LabSettings, progress: Progress) -> None:
    """Nodes that moved to another port. Before anything else: most statements of Citus need every node to answer."""
    rows = {row.group_id: row for row in _rows(conn)}
    for number, member in enumerate(others, start=1):
        row = rows.get(_group(member, settings) or -1)
        if row and (row.host, row.port) != (member.host, member.port):
            conn.execute("SELECT citus_update_node(%s, %s, %s)", [row.node_id, member.host, member.port])
            progress(f"node {number} has a new address")
    if not all(row.synced for row in _rows(conn)):
        # Citus refuses further changes until its maintenance daemon has told every node, which may take minutes.
        conn.execute("SELECT start_metadata_sync_to_all_nodes()")


def _group(member: Member, settings: LabSettings) -> int:
    """The node's own knowledge of which node it is, which outlives a change of its address; 0 when it never joined."""
    with connect(member.address, settings) as conn:
        row = conn.execute("SELECT groupid FROM pg_dist_local_group").fetchone()
    return int(row[0]) if row else 0


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _SYNC_DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{otherwise} within {_SYNC_DEADLINE:.0f} s. Run `orchestrator lab up` again to continue.")
        time.sleep(0.05)


@contextmanager
def _reported(doing: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        detail = error.diag.message_detail
        raise LabError(
            f"{doing}: {error.diag.message_primary or error}" + (f" ({detail})" if detail else "")
        ) from error
