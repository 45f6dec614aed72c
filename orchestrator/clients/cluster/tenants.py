"""What is known of tenants: where one is, and how much work each makes, as Citus counts it on every node.

The administrator reads the counters as a member of pg_monitor. They are only counted while the server parameter
citus.stat_tenants_track is `all`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row, scalar_row

from orchestrator.clients.cluster import tenants_sql
from orchestrator.clients.cluster.citus_errors import fix_for, translated
from orchestrator.core.checks.heat import Reading, TenantHeat
from orchestrator.core.errors import Refused
from orchestrator.core.observed.pins import Isolation, Tenant
from orchestrator.core.observed.state import ShardGroup

TRACK = "citus.stat_tenants_track"


class UnknownTenant(Refused):
    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. Nothing was changed. {fix}.")


class SplitRefused(Refused):
    def __init__(self, tenant: Tenant, fix: str) -> None:
        super().__init__(f"{tenant.title} cannot get a shard of its own yet. {fix}. Nothing was changed.")


@dataclass(frozen=True, slots=True)
class _Table:
    method: str | None
    model: str | None
    colocation_id: int | None
    schema: str
    table: str
    in_schema: bool
    column: str | None
    type: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    tenant: Tenant
    shard_id: int
    own: bool
    tables: tuple[str, ...] = ()


def read_heat(connection: psycopg.Connection[Any], groups: Sequence[ShardGroup]) -> Reading:
    """Every tenant that is counted, with the shard group that holds it now."""
    by_id = {group.shard_id: group for group in groups}
    with translated("read the tenants"), connection.cursor(row_factory=dict_row) as cursor:
        settings = cursor.execute(tenants_sql.SETTINGS).fetchone() or {}
        tracked = settings.get("track") == "all"
        rows = cursor.execute(tenants_sql.HEATS).fetchall() if tracked else []
        sessions = dict(connection.execute(tenants_sql.SESSIONS).fetchall())
    heats = tuple(
        TenantHeat(
            Tenant(row["name"], row["table_name"]),
            row["shard_id"],
            by_id[row["shard_id"]].node_id,
            row["queries"],
            row["cpu"],
            row["own"],
            by_id[row["shard_id"]].bytes,
        )
        for row in rows
        if row["shard_id"] in by_id
    )
    return Reading(tracked, settings["seconds"], heats, sessions)


def find_tenant(
    connection: psycopg.Connection[Any], groups: Sequence[ShardGroup], name: str, table: str | None
) -> Isolation:
    """Where the tenant is, with its own node as the wished one. Raises UnknownTenant."""
    with translated(f"look for {name}"):
        found = _schema(connection, name) if table is None else _row(connection, table, name)
    group = next((group for group in groups if group.shard_id == found.shard_id), None)
    if group is None:
        raise UnknownTenant(f"{found.tenant.title} has just moved or gone", "Run the same command again")
    return Isolation(found.tenant, found.shard_id, group.node_id, found.own, group.node_id, tables=found.tables)


def _schema(connection: psycopg.Connection[Any], name: str) -> _Found:
    row = connection.execute(tenants_sql.SCHEMA, (name,)).fetchone()
    if row is None:
        known = connection.cursor(row_factory=scalar_row).execute(tenants_sql.SCHEMAS).fetchall()
        close = get_close_matches(name, known, n=3)
        fix = f"Did you mean {' or '.join(close)}?" if close else "`orchestrator tenants` lists what is counted"
        raise UnknownTenant(
            f"There is no schema {name!r} on this cluster",
            f"{fix.rstrip('?')}; rows of a tenant are named with --table",
        )
    distributed, shard_id = row
    if not distributed:
        raise UnknownTenant(
            f"Schema {name} is not distributed, so it cannot move",
            "Distribute it (SELECT citus_schema_distribute), or name a row-sharded table of it with --table",
        )
    if shard_id is None:
        raise UnknownTenant(f"Schema {name} has no table yet, so it is on no node", "Make its tables first")
    return _Found(Tenant(name), shard_id, own=True)


def _row(connection: psycopg.Connection[Any], named: str, value: str) -> _Found:
    table = _table(connection, named)
    tables = tuple(
        connection.cursor(row_factory=scalar_row).execute(tenants_sql.TABLES, (table.colocation_id,)).fetchall()
    )
    text, digest = _value(connection, table, value)
    tenant = Tenant(text, tables[0], digest)
    values = {"table": tables[0], "value": text, "hash": digest}
    row = connection.execute(tenants_sql.SHARD, values).fetchone()
    if row is None or not row[2]:
        raise UnknownTenant(f"The shard of {tenant.title} cannot be told", "Name another table that it is in")
    return _Found(tenant, row[0], own=row[1], tables=tables)


def _table(connection: psycopg.Connection[Any], named: str) -> _Table:
    try:
        with connection.cursor(row_factory=class_row(_Table)) as cursor:
            table = cursor.execute(tenants_sql.TABLE, (named,)).fetchone()
    except (psycopg.errors.InvalidName, psycopg.errors.SyntaxError, psycopg.errors.FeatureNotSupported):
        raise UnknownTenant(
            f"--table {named}: this is no name of a table", 'Write it as in SQL: app.events or "My App".events'
        ) from None
    if table is None:
        raise UnknownTenant(
            f"--table {named}: there is no such table on this cluster",
            "Write it as in SQL, with its schema, and in double quotes where SQL needs them",
        )
    if table.in_schema:
        raise UnknownTenant(
            f"--table {named}: it belongs to the distributed schema {table.schema}, which moves as a whole",
            f"Leave out --table and name the schema: orchestrator isolate {table.schema}",
        )
    if table.method != "h":
        kind = "a reference table, which is on every node" if table.model == "t" else "not distributed"
        raise UnknownTenant(f"--table {named}: it is {kind}", "Name a table that is distributed by a column")
    return table


def refuse_logical_split(connection: psycopg.Connection[Any], tenant: Tenant) -> None:
    """Before anything has changed. Raises SplitRefused where the server does not let Citus decode its own log."""
    with translated("ask for the output plugins"):
        row = connection.execute(tenants_sql.OUTPUT_PLUGINS).fetchone()
    allowed = row[0] if row else None
    if allowed is not None and "citus" not in re.split(r"[,\s]+", allowed):
        raise SplitRefused(tenant, fix_for('library "citus" may not be used as an output plugin'))


def canonical_table(connection: psycopg.Connection[Any], named: str) -> str | None:
    """The first of the tables that move along with this one, by which pins are kept; None where there is no such."""
    with translated(f"look for {named}"):
        try:
            table = _table(connection, named)
        except UnknownTenant:
            return None
        row = connection.execute(tenants_sql.TABLES, (table.colocation_id,)).fetchone()
    return row[0] if row else None


def _value(connection: psycopg.Connection[Any], table: _Table, value: str) -> tuple[str, int]:
    """The value as its type writes it, and its hash. A value without rows is most likely a slip, and splits are for
    ever."""
    kind = sql.SQL(table.type or "text")
    try:
        row = connection.execute(tenants_sql.VALUE.format(type=kind, value=sql.Literal(value))).fetchone()
    except psycopg.errors.DataError as error:
        raise UnknownTenant(
            f"{value!r} is no {table.type}, which {table.column} of {table.schema}.{table.table} is",
            f"PostgreSQL says: {error.diag.message_primary}",
        ) from None
    text, digest = row or ("", 0)
    query = tenants_sql.HAS_ROWS.format(
        table=sql.Identifier(table.schema, table.table),
        column=sql.Identifier(table.column or ""),
        type=kind,
        value=sql.Literal(text),
    )
    there = connection.execute(query).fetchone()
    if not there or not there[0]:
        raise UnknownTenant(
            f"No row of {table.schema}.{table.table} has {table.column} = {text}",
            "A shard for it would stay for ever, so check the value",
        )
    return text, digest
