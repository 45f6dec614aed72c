"""A client of the load against a real server: its ledger agrees with the tables, and finds what was tampered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.chaos import Cut, SqlProxy
from bench.load.client import Client, Tenant
from bench.load.cluster import make_schema
from bench.load.ledger import Account, account_counters, account_inserts
from tests.fix_lab import Cluster

NAME = "load_test"


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[Tenant]:
    with cluster.connect() as admin:
        make_schema(admin, NAME)
        yield Tenant(0, NAME)
        admin.execute(f"DROP SCHEMA {NAME} CASCADE")


def transactions(count: int) -> Callable[[], bool]:
    """Says to go on that often; a client asks once more before it connects."""
    left = iter(range(count + 1))
    return lambda: next(left, None) is not None


def account(cluster: Cluster, client: Client) -> Account:
    with cluster.connect() as admin:
        rows = [row[0] for row in admin.execute(f"SELECT number FROM {NAME}.entry")]
        value = admin.execute(f"SELECT sum(value)::int FROM {NAME}.counter").fetchone()[0]
    ledger = client.account.ledger
    return account_inserts(ledger, rows) + account_counters(ledger, {0: value})


def test_the_ledger_agrees_with_the_tables_until_somebody_tampers_with_them(cluster: Cluster, tenant: Tenant) -> None:
    client = Client(1, "direct", cluster.dsn(), [tenant], prepared=True)
    answered: list[int] = []
    client.run(transactions(12), answered.append)
    found = account(cluster, client)
    assert found.clean
    assert (client.account.errors, client.account.misread) == ([], {})
    assert sum(answered) == sum(client.account.size)
    assert found.acknowledged == 3 + 9 * 6

    with cluster.connect() as admin:
        admin.execute(f"DELETE FROM {NAME}.entry WHERE number = 4")
        admin.execute(f"INSERT INTO {NAME}.entry (writer, number) VALUES (1, 5)")
        admin.execute(f"UPDATE {NAME}.counter SET value = value + 1 WHERE writer = 1")
    found = account(cluster, client)
    assert (found.lost, found.doubled) == (1, 2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_is_neither_lost_nor_doubled(cluster: Cluster, tenant: Tenant, when: Any) -> None:
    proxy = SqlProxy(cluster.port)
    try:
        client = Client(1, "direct", f"{cluster.dsn()} port={proxy.port}", [tenant], prepared=False)
        # Login takes a few messages; the one that is cut is of one of the transactions after it.
        proxy.arm(Cut(9, when))
        client.run(transactions(12), lambda _: None)
    finally:
        proxy.close()
    found = account(cluster, client)
    assert found.clean
    assert len(client.account.errors) == 1
    assert found.unknown > 0
    assert (found.unknown_done > 0) == (when == "after")
