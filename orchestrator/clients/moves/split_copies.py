"""Compares a shard with the parts it was split into, between the end of the split and the commit of it.

Until then nobody can write to it, and the whole and its parts answer to other sessions of their node (tried on Citus
13.2, in both transfer modes). A difference rolls the split back. As for moves (`copies`): small ones row by row, of
large ones a sample of rows that is looked up by primary key, every row where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from orchestrator.clients.moves.copies import SAMPLED_ROWS, WHOLE_BYTES, sampled_percent
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.planning.steps import Verify

# The shards of all leaf tables that move along, that of the tenant's value and what is in its range. `name` is written
# as SQL needs it, `keys` are the columns of the primary key likewise.
_SHARDS: LiteralString = """
    SELECT pg_catalog.shard_name(shard.logicalrelid, shard.shardid) AS name, shard.logicalrelid::oid::bigint AS "table",
           shard.shardminvalue::int AS first, shard.shardmaxvalue::int AS last, node.nodename AS host,
           node.nodeport AS port, coalesce(key.names, ARRAY[]::text[]) AS keys
    FROM pg_catalog.pg_dist_partition its
    JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
    JOIN pg_catalog.pg_dist_shard shard ON shard.logicalrelid = part.logicalrelid
    JOIN pg_catalog.pg_class class ON class.oid = shard.logicalrelid AND class.relkind = 'r'
    JOIN pg_catalog.pg_dist_placement placement USING (shardid)
    JOIN pg_catalog.pg_dist_node node USING (groupid)
    LEFT JOIN LATERAL (
        SELECT array_agg(quote_ident(attname) ORDER BY attnum) AS names
        FROM pg_catalog.pg_index JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = class.oid AND indisprimary
    ) key ON true
    WHERE its.logicalrelid = to_regclass(%(table)s)::oid AND node.noderole = 'primary'
      AND shard.shardminvalue::int <= %(last)s AND shard.shardmaxvalue::int >= %(first)s
    ORDER BY 2, 3
"""
_ASK: LiteralString = "SELECT success, result FROM master_run_on_worker(%s::text[], %s::int[], %s::text[], true)"
_WHOLE = sql.SQL("""
    SELECT CASE WHEN w.rows = p.rows AND w.digest IS NOT DISTINCT FROM p.digest THEN 0 ELSE 1 END
    FROM (SELECT count(*) AS rows, sum(hashtextextended(x::text, 0)) AS digest FROM {whole} x) w,
         (SELECT count(*) AS rows, sum(hashtextextended(x::text, 0)) AS digest FROM ({parts}) x) p
""")
_SAMPLED = sql.SQL("""
    SELECT count(*) FROM (SELECT * FROM {whole} TABLESAMPLE SYSTEM ({percent}) LIMIT {rows}) w WHERE {missing}
""")


class SplitDiffers(OrchestratorError):
    def __init__(self, tables: Sequence[str]) -> None:
        super().__init__(
            f"Before the split was committed its parts differed from the whole ({', '.join(tables)}), so it was rolled "
            "back and the rows stay where they were. Look at the node's disk and run the same command again."
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """One table's shard: its range of hashes, both ends included, and where it is."""

    name: str
    table: int
    first: int
    last: int
    host: str
    port: int
    keys: Sequence[str]


def shards(connection: psycopg.Connection[Any], table: str, first: int, last: int) -> list[Shard]:
    """Those that hold a hash in this range, of all tables that move along with this one."""
    with connection.cursor(row_factory=class_row(Shard)) as cursor:
        return cursor.execute(_SHARDS, {"table": table, "first": first, "last": last}).fetchall()


def compare(
    connection: psycopg.Connection[Any],
    wholes: Sequence[Shard],
    parts: Sequence[Shard],
    verify: Verify,
    size: int | None,
) -> None:
    """In the transaction of the split. Raises SplitDiffers."""
    asked = [
        (whole, command)
        for whole in wholes
        if (command := _command(whole, [part for part in parts if part.table == whole.table], verify, size)) is not None
    ]
    if not asked:
        return
    values = (
        [whole.host for whole, _ in asked],
        [whole.port for whole, _ in asked],
        [command.as_string(connection) for _, command in asked],
    )
    answers = connection.execute(_ASK, values).fetchall()
    wrong = [whole.name for (whole, _), answer in zip(asked, answers, strict=True) if tuple(answer) != (True, "0")]
    if wrong:
        raise SplitDiffers(wrong)


def _command(whole: Shard, parts: Sequence[Shard], verify: Verify, size: int | None) -> sql.Composed | None:
    """A statement for the node that answers 0 where all is there; None where nothing can be looked up."""
    # The names are quoted already, by the server that gave them.
    names = [sql.SQL(part.name) for part in parts]
    table = sql.SQL(whole.name)
    if verify == "full" or (size or 0) <= WHOLE_BYTES:
        return _WHOLE.format(
            whole=table, parts=sql.SQL(" UNION ALL ").join(sql.SQL("SELECT * FROM {}").format(name) for name in names)
        )
    if not whole.keys:
        return None
    same = sql.SQL(" AND ").join(sql.SQL("x.{0} = w.{0}").format(sql.SQL(key)) for key in whole.keys)
    missing = sql.SQL(" AND ").join(
        sql.SQL("NOT EXISTS (SELECT FROM {} x WHERE {} AND x::text = w::text)").format(name, same) for name in names
    )
    percent = sampled_percent(size)
    return _SAMPLED.format(
        whole=table, percent=sql.Literal(round(percent, 6)), rows=sql.Literal(SAMPLED_ROWS), missing=missing
    )
