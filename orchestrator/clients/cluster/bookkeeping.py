"""The regular schema `orchestrator`: what the cluster itself remembers, so that no state lives beside it.

`migration` records what ran, `kept_setting` the values of settings to put back, `operation` what Azure was asked for
and has not been seen to end, `run_timing` what runs took beside what was estimated. They are plain local tables of the
coordinator: the schema is never distributed, belongs to the admin and nobody else may look into it.
"""

from __future__ import annotations

from typing import Any

import psycopg

_STATEMENTS = (
    # A server set to distribute every new schema would distribute this one, and rebalance it with the services'.
    "SET LOCAL citus.enable_schema_based_sharding TO off",
    "CREATE SCHEMA IF NOT EXISTS orchestrator",
    "REVOKE ALL ON SCHEMA orchestrator FROM PUBLIC",
    """
    CREATE TABLE IF NOT EXISTS orchestrator.migration (
        service text NOT NULL,
        name text NOT NULL,
        sha256 text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (service, name)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS orchestrator.kept_setting (
        name text PRIMARY KEY,
        value text NOT NULL,
        kept_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS orchestrator.run_timing (
        finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        transfer_mode text NOT NULL,
        nodes_before int NOT NULL,
        nodes_after int NOT NULL,
        shard_groups int NOT NULL,
        moves int NOT NULL,
        moved_bytes bigint NOT NULL,
        at_once int NOT NULL,
        per_node int NOT NULL,
        resize_seconds float8,
        join_seconds float8,
        settings_seconds float8,
        lead_seconds float8,
        moves_seconds float8,
        fixed_seconds float8,
        seconds_per_byte float8,
        estimated_seconds float8 NOT NULL,
        seconds float8 NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS orchestrator.operation (
        kind text NOT NULL,
        url text NOT NULL,
        asked_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
)


def ensure_bookkeeping(conn: psycopg.Connection[Any]) -> None:
    """Make the schema and its tables where they are missing, in a transaction of the caller or one of its own."""
    with conn.transaction():
        there = conn.execute(
            "SELECT to_regclass('orchestrator.migration') IS NOT NULL"
            " AND to_regclass('orchestrator.kept_setting') IS NOT NULL"
            " AND to_regclass('orchestrator.operation') IS NOT NULL"
            " AND to_regclass('orchestrator.run_timing') IS NOT NULL"
        ).fetchone()
        if there and there[0]:
            return
        for statement in _STATEMENTS:
            conn.execute(statement)
