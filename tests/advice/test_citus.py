"""Predicted skew beside what real Citus does with the same rows."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from orchestrator.clients.advice import AdviceReader
from orchestrator.core.advice.candidates import rank
from orchestrator.core.advice.spread import shard_of
from tests.fix_lab import Cluster

# A twentieth of the rows is one tenant's, nearly half are those of forty others, the rest of three thousand small ones.
NUMBER = "CASE WHEN i % 20 = 0 THEN 7 WHEN i % 2 = 0 THEN (sqrt(i % 1600))::int + 10 ELSE 100 + i % 3000 END"
KINDS = {"bigint": "{}", "integer": "{}::int", "text": "'tenant ' || {}", "uuid": "md5(({})::text)::uuid"}
SHARD = "get_shard_id_for_distribution_column('advised.spread', tenant)"


def rows(connection: Any, query: str) -> list[Any]:
    found: list[Any] = connection.execute(query.encode()).fetchall()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_fullest_shard_is_as_predicted(cluster: Cluster, kind: str) -> None:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: there are no shards to count in")
    with closing(cluster.connect()) as connection:
        for statement in (
            "DROP SCHEMA IF EXISTS advised CASCADE",
            "CREATE SCHEMA advised",
            f"CREATE TABLE advised.spread (tenant {kind} NOT NULL, id bigint, PRIMARY KEY (tenant, id))",
            f"INSERT INTO advised.spread SELECT {KINDS[kind].format(NUMBER)}, i FROM generate_series(1, 60000) i",
            "ANALYZE advised.spread",
        ):
            connection.execute(statement.encode())
        database = AdviceReader(connection).read().database
        candidate = next(one for one in rank(database, 2) if one.columns.get("advised.spread") == "tenant")
        table = database.table("advised.spread")
        connection.execute("SELECT create_distributed_table('advised.spread', 'tenant')")
        counts = dict(rows(connection, f"SELECT {SHARD}, count(*) FROM advised.spread GROUP BY 1"))
        shards = rows(
            connection,
            "SELECT shardid FROM pg_dist_shard WHERE logicalrelid = 'advised.spread'::regclass"
            " ORDER BY shardminvalue::int",
        )
        ((home,),) = rows(
            connection, f"SELECT {SHARD} FROM advised.spread GROUP BY tenant ORDER BY count(*) DESC LIMIT 1"
        )
        connection.execute("DROP SCHEMA advised CASCADE")
    assert candidate.hottest == pytest.approx(max(counts.values()) / 60000, rel=0.2)
    # The largest tenant lies in the very shard that its hash says.
    tenant = table.column("tenant") if table else None
    assert tenant is not None
    assert shards[shard_of(max(tenant.common, key=lambda one: one.share).hash or 0)] == (home,)
