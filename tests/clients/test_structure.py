"""Shards and nodes damaged by hand, on real Citus: each damage is found and named, and an intact cluster has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.checks.structure import StructureClient
from orchestrator.core.observed.structure import problems
from tests.fix_lab import Cluster, superuser

PREPARE = (
    "CREATE ROLE damaged LOGIN",
    "CREATE ROLE reader LOGIN",
    "GRANT damaged, reader TO CURRENT_USER",
    "CREATE SCHEMA damaged AUTHORIZATION damaged",
    "SELECT citus_schema_distribute('damaged')",
    "CREATE TABLE damaged.parent (id bigint PRIMARY KEY)",
    "ALTER TABLE damaged.parent OWNER TO damaged",
)
TABLE = (
    "DROP TABLE IF EXISTS damaged.t",
    "CREATE TABLE damaged.t (id bigserial PRIMARY KEY, n int CHECK (n > 0), parent bigint REFERENCES damaged.parent)",
    "CREATE INDEX ON damaged.t (n) WHERE n > 5",
    "ALTER TABLE damaged.t OWNER TO damaged",
    "SET ROLE damaged",
    "GRANT SELECT ON damaged.t TO reader",
    "ALTER TABLE damaged.t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everything ON damaged.t USING (n > 0)",
    "RESET ROLE",
)
# What is done to the shard {shard} of damaged.t, and what the sentence about it says.
DAMAGE = (
    ("DROP INDEX {index}", "index btree n (n > 5)"),
    ("REVOKE SELECT ON {shard} FROM reader", "grant SELECT to reader"),
    ("GRANT DELETE ON {shard} TO reader", "grant DELETE to reader"),
    ("ALTER TABLE {shard} OWNER TO reader", "owner damaged"),
    ("ALTER TABLE {shard} DROP CONSTRAINT {check}", "constraint CHECK ((n > 0))"),
    ("ALTER TABLE {shard} DROP CONSTRAINT {foreign}", "constraint FOREIGN KEY (parent) REFERENCES damaged.parent(id)"),
    ("ALTER TABLE {shard} DROP COLUMN n CASCADE", "column n integer f"),
    ("ALTER TABLE {shard} DISABLE ROW LEVEL SECURITY", "row level security t f"),
    ("DROP POLICY everything ON {shard}", "policy everything"),
    ("ALTER TABLE {shard} REPLICA IDENTITY FULL", "replica identity"),
    ("ALTER TABLE {shard} RENAME TO elsewhere", "is missing"),
)


@pytest.fixture(scope="module")
def prepared(cluster: Cluster) -> Iterator[Any]:
    with closing(cluster.connect()) as connection:
        for statement in PREPARE + TABLE:
            connection.execute(statement)
        yield connection
        connection.execute("DROP SCHEMA damaged CASCADE")
        connection.execute("DROP ROLE damaged, reader")


def found(connection: Any) -> tuple[str, ...]:
    return problems(StructureClient(lambda: connection).read())


def test_an_intact_cluster_has_no_problem(prepared: Any) -> None:
    assert found(prepared) == ()


@pytest.mark.parametrize(("damage", "said"), DAMAGE, ids=[said for _, said in DAMAGE])
def test_a_damaged_shard_is_named(cluster: Cluster, prepared: Any, damage: str, said: str) -> None:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: there are no shard tables to damage")
    placed = prepared.execute(
        "SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'damaged.t'::regclass"
    ).fetchone()
    shard_id, port = placed
    with superuser(cluster, port) as worker:
        for setting in ("enable_ddl_propagation TO off", "override_table_visibility TO off"):
            worker.execute(f"SET citus.{setting}")  # type: ignore[call-overload]
        worker.execute("SET citus.enable_manual_changes_to_shards TO on")
        try:
            worker.execute(_filled(worker, damage, shard_id))
            told = found(prepared)
        finally:
            _mend(worker, prepared, shard_id)
    assert any(said in sentence and f"shard {shard_id} of damaged.t on node" in sentence for sentence in told), told


def _filled(worker: psycopg.Connection[Any], damage: str, shard_id: int) -> sql.Composed:
    shard = f"damaged.t_{shard_id}"

    def name(query: str) -> sql.Identifier:
        row = worker.execute(query, [shard]).fetchone()
        return sql.Identifier(row[0]) if row else sql.Identifier("none")

    index = (
        "SELECT relname FROM pg_index JOIN pg_class class ON class.oid = indexrelid"
        " WHERE indrelid = %s::regclass AND NOT indisunique"
    )
    constraint = "SELECT conname FROM pg_constraint WHERE contype = '{}' AND conrelid = %s::regclass"
    return sql.SQL(damage).format(
        shard=sql.Identifier("damaged", f"t_{shard_id}"),
        index=sql.SQL("damaged.{}").format(name(index)),
        check=name(constraint.format("c")),
        foreign=name(constraint.format("f")),
    )


def _mend(worker: psycopg.Connection[Any], connection: Any, shard_id: int) -> None:
    """Make the table anew: what was damaged does not matter then."""
    shard = sql.Identifier(f"t_{shard_id}")
    worker.execute(sql.SQL("ALTER TABLE IF EXISTS damaged.elsewhere RENAME TO {}").format(shard))
    for statement in TABLE:
        connection.execute(statement)


def test_metadata_that_a_node_lost_is_named(cluster: Cluster, prepared: Any) -> None:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: all nodes share one catalog")
    node_port = prepared.execute("SELECT max(nodeport) FROM pg_dist_node WHERE groupid <> 0").fetchone()[0]
    with superuser(cluster, node_port) as worker:
        worker.execute("UPDATE pg_dist_placement SET groupid = groupid + 10")
        told = found(prepared)
        worker.execute("UPDATE pg_dist_placement SET groupid = groupid - 10")
    assert any(f":{node_port}) has other metadata than the coordinator: placements" in one for one in told), told
    assert found(prepared) == ()
