"""Pins in the schema `orchestrator`: which tenant is to stay on which node. A plain local table of the coordinator."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.observed.pins import Pin, Tenant

_TABLE: LiteralString = """
    CREATE TABLE IF NOT EXISTS orchestrator.pin (
        pin_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL,
        table_name text,
        hash int,
        node_id int NOT NULL,
        alone boolean NOT NULL,
        pinned_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""
# A schema's shard group, and the one whose range is the tenant's hash and nothing else. Both are named by their lowest
# shard id, as everywhere here. What is gone has none.
_PINS: LiteralString = """
    SELECT pin.pin_id, pin.name, pin.table_name, pin.hash, pin.node_id, pin.alone, found.shard_id
    FROM orchestrator.pin
    LEFT JOIN LATERAL (
        SELECT min(shard.shardid) AS shard_id
        FROM pg_catalog.pg_namespace space
        JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid
        JOIN pg_catalog.pg_dist_partition part ON part.colocationid = tenant.colocationid
        JOIN pg_catalog.pg_dist_shard shard USING (logicalrelid)
        WHERE pin.table_name IS NULL AND space.nspname = pin.name
        UNION ALL
        SELECT min(shard.shardid)
        FROM pg_catalog.pg_dist_partition its
        JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
        JOIN pg_catalog.pg_dist_shard shard ON shard.logicalrelid = part.logicalrelid
        WHERE its.logicalrelid = to_regclass(pin.table_name)::oid AND its.partmethod = 'h'
          AND (shard.shardminvalue, shard.shardmaxvalue) = (pin.hash::text, pin.hash::text)
    ) found ON found.shard_id IS NOT NULL
    ORDER BY pin.pin_id
"""
_FORGET: LiteralString = "DELETE FROM orchestrator.pin WHERE name = %s AND table_name IS NOT DISTINCT FROM %s"
_KEEP: LiteralString = """
    INSERT INTO orchestrator.pin (name, table_name, hash, node_id, alone) VALUES (%s, %s, %s, %s, %s)
"""
THERE: LiteralString = "SELECT to_regclass('orchestrator.pin') IS NOT NULL"


def read_pins(connection: psycopg.Connection[Any]) -> tuple[Pin, ...]:
    """In the order in which they were made. Only where their table is there."""
    rows = connection.cursor(row_factory=dict_row).execute(_PINS).fetchall()
    return tuple(
        Pin(
            Tenant(row["name"], row["table_name"], row["hash"]),
            row["node_id"],
            row["alone"],
            row["shard_id"],
            row["pin_id"],
        )
        for row in rows
    )


def keep_pin(connection: psycopg.Connection[Any], pin: Pin) -> None:
    """In place of an earlier one of the same tenant."""
    tenant = pin.tenant
    with translated(f"pin {tenant.title}"), connection.transaction():
        ensure_bookkeeping(connection)
        connection.execute(_TABLE)
        connection.execute(_FORGET, (tenant.name, tenant.table))
        connection.execute(_KEEP, (tenant.name, tenant.table, tenant.hash, pin.node_id, pin.alone))


def forget_pin(connection: psycopg.Connection[Any], tenant: Tenant) -> None:
    with translated(f"release {tenant.title}"):
        if (connection.execute(THERE).fetchone() or (False,))[0]:
            connection.execute(_FORGET, (tenant.name, tenant.table))
