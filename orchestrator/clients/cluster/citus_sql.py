"""The statements of `citus.py`. Text only; values are bound, never formatted in."""

from __future__ import annotations

from typing import LiteralString

SESSION: LiteralString = """
    SELECT citus_version() AS citus_version,
           current_setting('server_version_num')::int AS server_version,
           pg_size_bytes(coalesce(current_setting('citus.rebalancer_by_disk_size_base_cost', true), '100MB'))
             AS base_cost,
           coalesce(current_setting('citus.max_background_task_executors', true), '1')::int AS at_once,
           coalesce(current_setting('citus.max_background_task_executors_per_node', true), '1')::int AS per_node,
           (SELECT count(*)::int FROM pg_catalog.pg_dist_cleanup) AS leftovers,
           to_regclass('orchestrator.kept_setting') IS NOT NULL AS bookkeeping,
           to_regclass('orchestrator.run_timing') IS NOT NULL AS timed,
           to_regclass('orchestrator.pin') IS NOT NULL AS pinned
"""

# The latest last; only the latest count in an estimate.
TIMINGS: LiteralString = """
    SELECT transfer_mode, nodes_before, nodes_after, shard_groups, moves, moved_bytes, at_once, per_node,
           resize_seconds, join_seconds, settings_seconds, lead_seconds, moves_seconds, fixed_seconds,
           seconds_per_byte, estimated_seconds, seconds
    FROM (SELECT * FROM orchestrator.run_timing ORDER BY finished_at DESC LIMIT 20) latest ORDER BY finished_at
"""

RECORD_TIMING: LiteralString = """
    INSERT INTO orchestrator.run_timing
      (transfer_mode, nodes_before, nodes_after, shard_groups, moves, moved_bytes, at_once, per_node,
       resize_seconds, join_seconds, settings_seconds, lead_seconds, moves_seconds, fixed_seconds,
       seconds_per_byte, estimated_seconds, seconds)
    VALUES
      (%(transfer_mode)s, %(nodes_before)s, %(nodes_after)s, %(shard_groups)s, %(moves)s, %(moved_bytes)s,
       %(at_once)s, %(per_node)s, %(resize_seconds)s, %(join_seconds)s, %(settings_seconds)s, %(lead_seconds)s,
       %(moves_seconds)s, %(fixed_seconds)s, %(seconds_per_byte)s, %(estimated_seconds)s, %(seconds)s)
"""

NODES: LiteralString = """
    SELECT nodeid AS node_id, groupid AS group_id, nodename AS host, nodeport AS port, isactive AS active,
           coalesce(metadatasynced, false) AS metadata_synced, shouldhaveshards AS should_have_shards
    FROM pg_catalog.pg_dist_node
    WHERE noderole = 'primary'
    ORDER BY nodeid
"""

_SIZES: LiteralString = (
    "sizes AS MATERIALIZED (SELECT shard_id::bigint AS shardid, size FROM pg_catalog.citus_shard_sizes())"
)
_PLACED: LiteralString = """
    FROM pg_catalog.pg_dist_shard shard
    JOIN pg_catalog.pg_dist_partition part USING (logicalrelid)
    JOIN pg_catalog.pg_dist_placement placement USING (shardid)
    JOIN pg_catalog.pg_dist_node node ON node.groupid = placement.groupid AND node.noderole = 'primary'
    LEFT JOIN sizes ON sizes.shardid = shard.shardid"""
# Hash-distributed tables (partmethod h) and single-shard ones (n, but not reference tables, whose repmodel is t, nor
# local tables that Citus tracks, whose colocation id is 0). Shards of one colocation group and key range move together.
_GROUPED: LiteralString = """
    WHERE part.partmethod = 'h' OR (part.partmethod = 'n' AND part.repmodel = 's' AND part.colocationid > 0)
    GROUP BY part.colocationid, node.nodeid, shard.shardminvalue"""

SHARD_GROUPS: LiteralString = (
    "WITH "
    + _SIZES
    + """
    SELECT min(shard.shardid) AS shard_id,
           part.colocationid AS colocation_id,
           node.nodeid AS node_id,
           CASE WHEN count(sizes.size) = count(*) THEN sum(sizes.size)::bigint END AS bytes,
           array_agg(DISTINCT format('%s.%s', space.nspname, class.relname)) AS tables,
           min(space.nspname) FILTER (WHERE tenant.schemaid IS NOT NULL) AS schema"""
    + _PLACED
    + """
    JOIN pg_catalog.pg_class class ON class.oid = shard.logicalrelid
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid"""
    + _GROUPED
    + " ORDER BY 1"
)

# NULL where the size of any of them cannot be read.
NODE_LOADS: LiteralString = (
    "WITH "  # noqa: S608 - all parts are constants
    + _SIZES
    + ", held AS (SELECT node.nodeid, count(*) = count(sizes.size) AS known, sum(sizes.size) AS bytes"
    + _PLACED
    + _GROUPED
    + """)
    SELECT nodeid, count(*)::int, CASE WHEN bool_and(known) THEN sum(bytes)::bigint END FROM held GROUP BY 1"""
)

STRATEGIES: LiteralString = """
    SELECT name::text, shard_cost_function::text LIKE '%citus_shard_cost_by_disk_size' AS by_size,
           default_threshold::float8 AS threshold, improvement_threshold::float8, default_strategy AS is_default
    FROM pg_catalog.pg_dist_rebalance_strategy
"""

# Background workers of the administrator's own tasks, which PostgreSQL lets it end.
END_EXECUTORS: LiteralString = """
    SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
    WHERE backend_type LIKE 'Citus Background Task Queue Executor%' AND datname = current_database()
"""

LAST_JOB: LiteralString = """
    SELECT job_id, state::text FROM pg_catalog.pg_dist_background_job
    WHERE job_type = 'rebalance' ORDER BY job_id DESC LIMIT 1
"""

JOB: LiteralString = """
    SELECT job_id, state::text FROM pg_catalog.pg_dist_background_job WHERE job_id = %s
"""

TASKS: LiteralString = """
    SELECT task_id, status::text, command, coalesce(retry_count, 0) AS retries, message
    FROM pg_catalog.pg_dist_background_task WHERE job_id = %s ORDER BY task_id
"""

PROGRESS: LiteralString = """
    SELECT shardid AS shard_id, min(status) AS phase,
           sum(source_shard_size)::bigint AS total, sum(target_shard_size)::bigint AS done
    FROM pg_catalog.get_rebalance_progress() GROUP BY 1
"""

LOCK_HOLDER: LiteralString = """
    SELECT format('process %%s of %%s, since %%s', activity.pid, coalesce(activity.usename, 'somebody'),
                  to_char(activity.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
    FROM pg_catalog.pg_locks lock JOIN pg_catalog.pg_stat_activity activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.granted AND lock.classid = %s AND lock.objid = %s LIMIT 1
"""

# No casts: the enum is in schema citus, which an administrator who is no superuser may not use.
START: LiteralString = "SELECT citus_rebalance_start(rebalance_strategy := %s, shard_transfer_mode := %s)"

START_PARALLEL: LiteralString = """
    SELECT citus_rebalance_start(rebalance_strategy := %s, shard_transfer_mode := %s,
                                 parallel_transfer_colocated_shards := true)
"""

CAN_MOVE_COLOCATED_SHARDS_IN_PARALLEL: LiteralString = """
    SELECT coalesce(bool_or('parallel_transfer_colocated_shards' = ANY (proargnames)), false)
    FROM pg_catalog.pg_proc WHERE proname = 'citus_rebalance_start'
"""
