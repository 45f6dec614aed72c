"""Pins and splits, on the cluster. A split is one statement of Citus that takes as long as copying a shard does.

It runs on a connection of its own in a thread, so that whoever waits for it can still be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg

from orchestrator.clients.cluster import tenants_sql
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.cluster.pins import forget_pin, keep_pin
from orchestrator.clients.moves import moving_sql
from orchestrator.clients.moves.split_copies import compare, shards
from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.planning.steps import SplitTenant

# Seconds that a split waits for locks of others before it says so.
LOCK_TIMEOUT = 10


class TenantsClient:
    """`current` gives the run's own connection, `connect` opens another one."""

    def __init__(
        self, current: Callable[[], psycopg.Connection[Any]], connect: Callable[[], psycopg.Connection[Any]]
    ) -> None:
        self._current, self._connect = current, connect
        self._pool = ThreadPoolExecutor(1, "split")
        self._connection: psycopg.Connection[Any] | None = None
        self._split: Future[None] | None = None

    def keep(self, pin: Pin) -> None:
        keep_pin(self._current(), pin)

    def release(self, tenant: Tenant) -> None:
        forget_pin(self._current(), tenant)

    def start_split(self, step: SplitTenant) -> bool:
        """False where the tenant has a shard of its own already."""
        tenant = step.tenant
        values = {"table": tenant.table, "value": tenant.name, "hash": tenant.hash}
        with translated(f"look for the shard of {tenant.title}"):
            row = self._current().execute(tenants_sql.SHARD, values).fetchone()
        if row is not None and row[1]:
            return False
        connection = self._connection = self._connect()
        self._split = self._pool.submit(_split, connection, step)
        return True

    def split_ended(self) -> bool:
        """Raises what it failed with."""
        if self._split is None or not self._split.done():
            return False
        self._split.result()
        return True

    def stop_split(self) -> None:
        """One that is under way is cancelled, and leaves nothing behind."""
        connection, split = self._connection, self._split
        if connection is not None:
            if split is not None and not split.done():
                with suppress(psycopg.Error):
                    connection.cancel()
                split.exception()
            connection.close()
        self._connection = self._split = None


def _split(connection: psycopg.Connection[Any], step: SplitTenant) -> None:
    tenant = step.tenant
    values = {
        "table": tenant.table,
        "value": tenant.name,
        "cascade": "CASCADE" if step.cascade else "",
        "mode": step.transfer_mode,
    }
    digest, table = tenant.hash or 0, tenant.table or ""
    with translated(step.title):
        # Under the name of moves, so that the next run, and `rebalance --stop`, find one whose orchestrator was killed.
        connection.execute(moving_sql.PREPARE)
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_TIMEOUT}s",))
        with connection.transaction():
            wholes = shards(connection, table, digest, digest)
            connection.execute(tenants_sql.SPLIT, values)
            if step.verify != "off" and wholes:
                parts = shards(connection, table, wholes[0].first, wholes[0].last)
                compare(connection, wholes, parts, step.verify, step.bytes)
