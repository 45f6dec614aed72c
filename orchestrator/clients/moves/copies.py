"""Compares the two copies of a shard group between the end of its move and the commit of it.

Until the move is committed nobody can write to the group, the copy on the source is still there, and both answer to
other sessions (tried on Citus 13.2 in every transfer mode). A difference fails the statement, so the move is rolled
back and the data stays where it was. Rows count by their text: a row that is missing, doubled or changed is found.

Asking both nodes beside each other opens a connection to each. For a tiny group that would be a fifth of its move
(measured), so it is read twice through Citus instead, on connections that the move has anyway: once its writers are
held, and again when the move's own transaction already finds it on the target.
"""

from __future__ import annotations

import json

from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from orchestrator.clients.moves import moving_sql
from orchestrator.core.events import TableCompared
from orchestrator.core.moves.moving import DirectMove

# Beyond this a whole reading would hold writers for longer than the copy itself: the primary key then chooses rows.
WHOLE_BYTES = 2**20
SAMPLED_PAGES = 40
SAMPLED_ROWS = 300
NEWEST_ROWS = 200
# What a failed comparison says; the statement fails because this is no number.
MARK = "the copies differ"

# A move that had been made already is no move: its old copy may be gone, or behind what was written since.
WHERE_IT_WAS = sql.SQL("""
    SELECT set_config('orchestrator.was_on', coalesce((
        SELECT min(nodeid)::text FROM pg_catalog.pg_dist_placement JOIN pg_catalog.pg_dist_node USING (groupid)
        WHERE shardid = {shard} AND noderole = 'primary'), ''), true)
""")

# The leaf tables of the group by the names of their shards; `names` is empty where there is no primary key.
_TABLES = (
    """
    tables AS (
        SELECT pg_catalog.shard_name(shard.logicalrelid, shard.shardid) AS name, shard.logicalrelid::regclass AS title,
               key.names, key.backwards, key.typed
        """  # noqa: S608 - all parts are constants
    + moving_sql.LEAF_SHARDS
    + """
        WHERE moved.shardid = {shard} AND current_setting('orchestrator.was_on', true) = {source}::text
    ), nodes AS (
        SELECT array_agg(nodename::text ORDER BY nodeid <> {source}) AS hosts,
               array_agg(nodeport ORDER BY nodeid <> {source}) AS ports
        FROM pg_catalog.pg_dist_node WHERE nodeid IN ({source}, {target})
    )"""
)

# The text of one statement that tells of each table its `title`, how many rows are in what `name` is, and their digest.
_DIGEST = """'SELECT json_agg(line ORDER BY line::text) FROM (' || string_agg(format(
            'SELECT json_build_array(%L, count(*), coalesce(sum(hashtextextended(x::text, 0)), 0)::text) FROM %s x',
            title, name), ' UNION ALL ') || ') lines (line)'"""

# One reading of everything where the move's transaction finds it: kept before the move, compared after it. Read on the
# coordinator without a connection, a group could not be moved by the same transaction.
_KEEP = sql.SQL(
    """
    DO $read$
    DECLARE command text; found text;
    BEGIN
        SELECT """  # noqa: S608 - all parts are constants
    + _DIGEST
    + """ INTO command
        FROM (
            SELECT part.logicalrelid::regclass, part.logicalrelid::regclass
            FROM pg_catalog.pg_dist_shard moved
            JOIN pg_catalog.pg_dist_partition its ON its.logicalrelid = moved.logicalrelid
            JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
            JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid AND class.relkind = 'r'
            WHERE moved.shardid = {shard}
        ) tables (title, name);
        IF command IS NULL THEN
            RETURN;
        END IF;
        PERFORM set_config('citus.enable_local_execution', 'off', true);
        EXECUTE command INTO found;
        PERFORM set_config('orchestrator.command', command, true), set_config('orchestrator.copy', found, true);
    END
    $read$
"""
)
_COMPARE = sql.SQL("""
    DO $read$
    DECLARE
        command text := current_setting('orchestrator.command', true);
        kept text := current_setting('orchestrator.copy', true);
        found text;
    BEGIN
        IF command <> '' THEN
            EXECUTE command INTO found;
            IF found IS DISTINCT FROM kept THEN
                RAISE EXCEPTION USING MESSAGE = concat({mark}, ': ', kept, ' and ', found);
            END IF;
        END IF;
    END
    $read$
""")

# What was kept, once it has been compared.
_TOLD = sql.SQL("SELECT current_setting('orchestrator.copy', true) AS compared")

# One reading of everything on both sides, beside each other.
_WHOLE = sql.SQL(
    "WITH "  # noqa: S608 - all parts are constants
    + _TABLES
    + ", asked AS (SELECT "
    + _DIGEST
    + """ AS command
        FROM tables HAVING count(*) > 0
    ), told AS (
        SELECT answer.success, answer.result FROM asked, nodes,
            master_run_on_worker(nodes.hosts, nodes.ports, ARRAY[command, command], true) answer
    )
    SELECT CASE WHEN count(*) = 0 OR (bool_and(success) AND count(DISTINCT result) = 1 AND count(*) = 2)
                THEN min(result)
                ELSE ({mark} || ': ' || string_agg(coalesce(result, 'nothing'), ' and '))::int::text END AS compared
    FROM told"""
)

# Rows of one side, some from anywhere and the newest by key, are looked for on the other; and the other way round.
_SAMPLED = sql.SQL(
    "WITH "  # noqa: S608 - all parts are constants
    + _TABLES
    + """, sides AS (
        SELECT name, title, names, typed, side, format(
            'SELECT coalesce(json_agg(found), ''[]'') FROM (SELECT %1$s, md5(x::text) AS "_digest" FROM '
            '((SELECT * FROM %2$s TABLESAMPLE SYSTEM (%3$s) LIMIT {sampled}) UNION ALL '
            '(SELECT * FROM %2$s ORDER BY %4$s LIMIT {newest})) x) found', names, name, {percent}, backwards) AS command
        FROM tables CROSS JOIN generate_series(1, 2) AS side WHERE names IS NOT NULL
    ), numbered AS (
        SELECT *, row_number() OVER (ORDER BY name, side) AS number FROM sides
    ), first AS (
        SELECT array_agg(nodes.hosts[side] ORDER BY number) AS hosts,
               array_agg(nodes.ports[side] ORDER BY number) AS ports,
               array_agg(command ORDER BY number) AS commands
        FROM numbered, nodes HAVING count(*) > 0
    ), rows AS MATERIALIZED (
        SELECT numbered.*, answer.success, answer.result FROM first
        CROSS JOIN LATERAL master_run_on_worker(first.hosts, first.ports, first.commands, true)
             WITH ORDINALITY AS answer (host, port, success, result, number)
        JOIN numbered USING (number)
    ), second AS (
        SELECT array_agg(nodes.hosts[3 - side] ORDER BY number) AS hosts,
               array_agg(nodes.ports[3 - side] ORDER BY number) AS ports,
               array_agg(format('SELECT count(*) FROM json_to_recordset(%L) AS w(%s, "_digest" text) '
                                'JOIN %s x USING (%s) WHERE md5(x::text) = w."_digest"', result, typed, name, names)
                         ORDER BY number) AS commands,
               array_agg(number ORDER BY number) AS numbers
        FROM rows, nodes WHERE success HAVING count(*) > 0
    ), found AS (
        SELECT rows.title, json_array_length(rows.result::json) AS looked, rows.success AND answer.success
                   AND answer.result = json_array_length(rows.result::json)::text AS same,
               concat_ws(' ', rows.name, answer.result, 'of', json_array_length(rows.result::json), 'rows',
                         CASE WHEN NOT answer.success THEN answer.result END) AS text
        FROM second
        CROSS JOIN LATERAL master_run_on_worker(second.hosts, second.ports, second.commands, true)
             WITH ORDINALITY AS answer (host, port, success, result, place)
        JOIN rows ON rows.number = second.numbers[answer.place]
    )
    SELECT CASE WHEN NOT EXISTS (SELECT FROM rows WHERE NOT success) AND coalesce(bool_and(same), true)
                THEN (SELECT json_agg(json_build_array(
                          title, (SELECT sum(looked) FROM found WHERE found.title = tables.title), NULL))::text
                      FROM tables)
                ELSE ({mark} || ': ' || coalesce(string_agg(text, ', ') FILTER (WHERE NOT same),
                      (SELECT string_agg(result, ', ') FROM rows WHERE NOT success)))::int::text END
           AS compared
    FROM found"""
)


def before(move: DirectMove) -> sql.Composable | None:
    """The statement before the move: it notes where the group is, or what is in it. Writers are held by then."""
    if move.verify == "off":
        return None
    shard = sql.Literal(move.shard_id)
    return _KEEP.format(shard=shard) if _tiny(move) else WHERE_IT_WAS.format(shard=shard)


def comparison(move: DirectMove) -> sql.Composable | None:
    """The statement that fails where the copies differ; None where none was asked for."""
    if move.verify == "off":
        return None
    ids = {"shard": move.shard_id, "source": move.source, "target": move.target, "mark": MARK}
    known = {name: sql.Literal(value) for name, value in ids.items()}
    if _tiny(move):
        return _COMPARE.format(mark=known["mark"])
    if move.verify == "full" or (move.bytes or 0) <= WHOLE_BYTES:
        return _WHOLE.format(**known)
    return _SAMPLED.format(
        **known,
        sampled=sql.SQL(str(SAMPLED_ROWS)),
        newest=sql.SQL(str(NEWEST_ROWS)),
        percent=sql.Literal(f"{sampled_percent(move.bytes):.6f}"),
    )


def told(move: DirectMove) -> sql.Composable | None:
    """The statement after the comparison that says what was compared, where that does not say so itself."""
    return _TOLD if move.verify != "off" and _tiny(move) else None


def compared(result: PGresult) -> tuple[TableCompared, ...]:
    """What one of these statements says that it compared; nothing for any other result."""
    if result.status != ExecStatus.TUPLES_OK or result.ntuples != 1 or result.fname(0) != b"compared":
        return ()
    return tuple(TableCompared(*line) for line in json.loads(result.get_value(0, 0) or b"[]"))


def sampled_percent(size: int | None) -> float:
    """Of the pages of so many bytes: what TABLESAMPLE is to read."""
    return min(100.0, 100.0 * SAMPLED_PAGES * 8192 / (size or 1))


def _tiny(move: DirectMove) -> bool:
    """Whether reading it twice, one after the other, costs writers less than a connection. Needs the whole group."""
    return move.mode == "block_writes" and move.whole_group and move.bytes is not None and move.bytes <= WHOLE_BYTES


def difference(text: str) -> str | None:
    """What a failed comparison found, out of the server's complaint about it; None for any other failure."""
    _, found, rest = text.partition(MARK + ":")
    return " and ".join(map(_words, rest.strip().rstrip('"').split(" and "))) if found else None


def _words(side: str) -> str:
    """One side of a comparison for people; as it is where it is no list of tables."""
    try:
        return ", ".join(f"{table} {rows} rows with checksum {digest}" for table, rows, digest in json.loads(side))
    except ValueError:
        return side
