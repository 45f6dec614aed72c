"""The statements of `moving.py`. Text only; values are bound, or composed as literals where many go in one string."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

# Without a check a server goes on for minutes for a client that is gone. A move needs several connections to its nodes:
# those that are kept spare the next one a fifth of its time (measured on tiny groups).
PREPARE: LiteralString = """
    SELECT set_config('application_name', 'orchestrator move', false),
           set_config('client_connection_check_interval', '1s', false),
           set_config('citus.max_cached_conns_per_worker', '3', false)
"""

BEGIN = (sql.SQL("BEGIN"), sql.SQL("SET LOCAL citus.propagate_set_commands = 'local'"))

# A move with block_writes does not wait for who has only locked rows (SELECT ... FOR UPDATE), and the lock of the row
# does not move along: the next session would change the row, and lose that to the first one's write (measured on Citus
# 13.2). This lock waits for them on every node, and holds up writers only, as the move itself does.
LOCK_GROUP = sql.SQL("""
    DO $lock$
    DECLARE tables text;
    BEGIN
        SELECT string_agg(part.logicalrelid::regclass::text, ', ' ORDER BY part.logicalrelid::oid) INTO tables
        FROM pg_catalog.pg_dist_shard moved
        JOIN pg_catalog.pg_dist_partition its ON its.logicalrelid = moved.logicalrelid
        JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
        WHERE moved.shardid = {shard};
        IF tables IS NOT NULL THEN
            EXECUTE 'LOCK TABLE ' || tables || ' IN EXCLUSIVE MODE';
        END IF;
    END
    $lock$
""")

# By node id, as in Citus' own tasks.
MOVE = sql.SQL("SELECT pg_catalog.citus_move_shard_placement({}, {}, {}, {})")

# From the shard that a group is named by to those of all its leaf tables, with the columns of the primary key in three
# forms: all are null where there is none.
LEAF_SHARDS: LiteralString = """
    FROM pg_catalog.pg_dist_shard moved
    JOIN pg_catalog.pg_dist_partition its ON its.logicalrelid = moved.logicalrelid
    JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
    JOIN pg_catalog.pg_dist_shard shard ON shard.logicalrelid = part.logicalrelid
         AND shard.shardminvalue IS NOT DISTINCT FROM moved.shardminvalue
    JOIN pg_catalog.pg_class class ON class.oid = shard.logicalrelid AND class.relkind = 'r'
    LEFT JOIN LATERAL (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY place) AS names,
               string_agg(quote_ident(attname) || ' DESC', ', ' ORDER BY place) AS backwards,
               string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY place) AS typed
        FROM pg_catalog.pg_index, unnest(indkey) WITH ORDINALITY AS part (attnum, place)
        JOIN pg_catalog.pg_attribute USING (attnum)
        WHERE indrelid = class.oid AND indisprimary AND attrelid = class.oid
    ) key ON true"""

CLEAN_UP: LiteralString = "CALL citus_cleanup_orphaned_resources()"

UNDER_WAY: LiteralString = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE application_name = %s AND datname = current_database() AND state <> 'idle' AND NOT pid = ANY (%s)
"""

CANCEL_STRAYS: LiteralString = """
    SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM pg_catalog.pg_stat_activity
    WHERE application_name = %s AND datname = current_database() AND state <> 'idle' AND NOT pid = ANY (%s)
"""

# One row for each table of a group; the group is named by its lowest shard id, as everywhere here.
PLAN: LiteralString = """
    SELECT first.shard_id, source.nodeid AS source, target.nodeid AS target
    FROM pg_catalog.get_rebalance_table_shards_plan(rebalance_strategy := %s) WITH ORDINALITY AS plan
    JOIN pg_catalog.pg_dist_shard shard ON shard.shardid = plan.shardid
    JOIN pg_catalog.pg_dist_partition part ON part.logicalrelid = shard.logicalrelid
    JOIN (
        SELECT part.colocationid, shard.shardminvalue, min(shard.shardid) AS shard_id
        FROM pg_catalog.pg_dist_shard shard JOIN pg_catalog.pg_dist_partition part USING (logicalrelid)
        GROUP BY 1, 2
    ) first ON first.colocationid = part.colocationid
           AND first.shardminvalue IS NOT DISTINCT FROM shard.shardminvalue
    JOIN pg_catalog.pg_dist_node source ON (source.nodename, source.nodeport) = (plan.sourcename, plan.sourceport)
    JOIN pg_catalog.pg_dist_node target ON (target.nodename, target.nodeport) = (plan.targetname, plan.targetport)
    WHERE source.noderole = 'primary' AND target.noderole = 'primary'
    GROUP BY 1, 2, 3
    ORDER BY min(plan.ordinality)
"""

REFERENCE_TABLES_MISSING: LiteralString = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_dist_partition part
        JOIN pg_catalog.pg_dist_shard shard USING (logicalrelid)
        CROSS JOIN pg_catalog.pg_dist_node node
        WHERE part.partmethod = 'n' AND part.repmodel = 't' AND node.noderole = 'primary' AND node.isactive
          AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_dist_placement placement
            WHERE placement.shardid = shard.shardid AND placement.groupid = node.groupid))
"""

# Writers hold Citus' advisory lock on the shard group (class 8: colocation id and place among the shards of a table) on
# the node through which they came; on the shard itself (class 4) where it is not colocated.
BLOCKERS: LiteralString = """
    SELECT DISTINCT format('a transaction of %%s on node %%s (process %%s, %%s, open for %%s s): %%s', activity.usename,
                           activity.nodeid, activity.pid, activity.state,
                           extract(epoch FROM clock_timestamp() - activity.xact_start)::int, left(activity.query, 80))
    FROM pg_catalog.pg_dist_shard shard
    JOIN pg_catalog.pg_dist_partition part USING (logicalrelid)
    JOIN pg_catalog.citus_locks lock
      ON (lock.objsubid = 4 AND lock.classid::bigint << 32 | lock.objid::bigint = shard.shardid)
      OR (lock.objsubid = 8 AND lock.objid::bigint = part.colocationid AND lock.classid::bigint = (
            SELECT count(*) FROM pg_catalog.pg_dist_shard lower
            WHERE lower.logicalrelid = shard.logicalrelid AND lower.shardminvalue::int < shard.shardminvalue::int))
    JOIN pg_catalog.citus_stat_activity activity USING (global_pid)
    WHERE shard.shardid = %(shard_id)s AND lock.locktype = 'advisory' AND lock.granted
      AND NOT activity.is_worker_query
    LIMIT 3
"""
