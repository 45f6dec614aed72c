"""Experiments on tables of a real Citus: how they are spread, numbered and read, and who waits for whom."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from tests.lint.place import Place, fresh

ALL_SHARDS = 8


def table(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    fresh(place)
    with place.connect(place.direct) as admin:
        try:
            with admin.transaction(force_rollback=True):
                for statement in entry["sql"].split("; "):
                    admin.execute(statement)
        except psycopg.Error as error:
            return [_table_rule(str(error))], str(error).split("\n")[0]
    return [], "done"


def _table_rule(text: str) -> str:
    known = {
        "foreign key": "EC102", "referenced table": "EC102", "unique indexes on non-partition": "EC101",
        "cannot create constraint on": "EC101", "triggers are not supported": "EC105", "inherit": "EC105",
        "unique index on expressions": "EC101",
    }  # fmt: skip
    lower = text.lower()
    found = [rule for words, rule in known.items() if words.lower() in lower]
    assert found, text
    return found[0]


def numbering(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    fresh(place)
    with place.connect(place.direct) as admin, place.connect(place.worker) as worker:
        try:
            for statement in entry["sql"].split("; "):
                admin.execute(statement)
            worker.execute(entry["insert"])
        except psycopg.Error as error:
            return ["EC104"], str(error).split("\n")[0]
        finally:
            admin.execute(entry.get("drop", "DROP TABLE IF EXISTS lx.a"))
    return [], "numbered on another node"


def plan(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """EXPLAIN says how many shards are asked; tenants' schemas that meet in a query make it EC103."""
    fresh(place)
    schemas = set(re.findall(r"\b(la|lb|lr)\.", entry["sql"])) - ({"lr"} if "countries" in entry["sql"] else set())
    across = len(schemas) > 1
    with place.connect(place.direct) as admin:
        try:
            lines = [row[0] for row in admin.execute(f"EXPLAIN (COSTS OFF) {entry['sql']}").fetchall()]
        except psycopg.Error as error:
            return [_plan_rule(str(error), across)], str(error).split("\n")[0]
    text = "\n".join(lines)
    tasks = max([int(count) for count in re.findall(r"Task Count: (\d+)", text)], default=0)
    if across and "pull to coordinator" in text:
        return ["EC103"], "pull to coordinator"
    return (["EC201"] if tasks >= ALL_SHARDS else []), f"{tasks} tasks"


def _plan_rule(text: str, across: bool) -> str:
    if "FOR UPDATE" in text or "partition column" in text or "partition value" in text:
        return "EC201"
    known = (
        "repartition",
        "co-located",
        "colocated",
        "complex joins",
        "cannot perform",
        "non-distribution",
        "cartesian",
    )
    assert any(words in text for words in known), text
    return "EC103" if across else "EC202"


def cutover(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """Left open in a transaction: does a writer wait for it, and does the move of the schema?"""
    fresh(place)
    with place.connect(place.direct) as holder, place.connect(place.direct) as other:
        other.execute("SET lock_timeout = 400")
        source, *rest = other.execute(
            "SELECT groupid FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid) "
            "WHERE logicalrelid = 'la.t'::regclass"
        ).fetchone()
        target = other.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> %s ORDER BY nodeid LIMIT 1", [source]
        ).fetchone()
        assert not rest
        with holder.transaction(force_rollback=True):
            holder.execute(entry["sql"])
            writer = _waits(other, "INSERT INTO la.t VALUES (99, 99)")
            move = f"SELECT citus_schema_move('la', '{target[0]}', {target[1]}, 'block_writes')"
            moving = writer and _waits(other, move)
    said = "writers and the move wait" if moving else "writers do not wait"
    return (["EC401"], said) if moving else ([], said)


def _waits(connection: Any, statement: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.Error as error:
        if "lock timeout" in str(error):
            return True
        raise
    return False
