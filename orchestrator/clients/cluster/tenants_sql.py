"""The statements of `tenants.py` and `isolation.py`. Text only; values are bound, names composed as identifiers."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

SETTINGS: LiteralString = """
    SELECT coalesce(current_setting('citus.stat_tenants_track', true), 'none') AS track,
           coalesce(nullif(current_setting('citus.stat_tenants_period', true), ''), '60')::int AS seconds
"""

# The counters stay on the node that counted until their period is over; they are summed, because what counts here is
# where the tenant is now. A schema is its tenant whole, whatever Citus calls it; of tables that move together the first
# one gives the name.
HEATS: LiteralString = """
    SELECT coalesce(space.nspname, heat.tenant_attribute) AS name,
           CASE WHEN space.nspname IS NULL THEN first.table_name END AS table_name,
           heat.queries, heat.cpu, anchor.shard_id,
           space.nspname IS NOT NULL OR mine.shardminvalue = mine.shardmaxvalue AS own
    FROM (
        SELECT colocation_id, tenant_attribute,
               sum(query_count_in_this_period + query_count_in_last_period)::bigint AS queries,
               sum(cpu_usage_in_this_period + cpu_usage_in_last_period)::float8 AS cpu
        FROM pg_catalog.citus_stat_tenants GROUP BY 1, 2
    ) heat
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.colocationid = heat.colocation_id
    LEFT JOIN pg_catalog.pg_namespace space ON space.oid = tenant.schemaid
    JOIN LATERAL (
        SELECT part.logicalrelid, format('%I.%I', owner.nspname, class.relname) AS table_name
        FROM pg_catalog.pg_dist_partition part
        JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid
        JOIN pg_catalog.pg_namespace owner ON owner.oid = class.relnamespace
        WHERE part.colocationid = heat.colocation_id AND (part.partmethod = 'h' OR space.nspname IS NOT NULL)
        ORDER BY part.logicalrelid::oid LIMIT 1
    ) first ON true
    JOIN LATERAL (
        SELECT CASE WHEN space.nspname IS NULL
                    THEN get_shard_id_for_distribution_column(first.logicalrelid, heat.tenant_attribute)
                    ELSE (SELECT min(shardid) FROM pg_catalog.pg_dist_shard WHERE logicalrelid = first.logicalrelid) END
               AS shardid
    ) place ON true
    JOIN pg_catalog.pg_dist_shard mine ON mine.shardid = place.shardid
    JOIN LATERAL (
        SELECT min(shard.shardid) AS shard_id
        FROM pg_catalog.pg_dist_partition part JOIN pg_catalog.pg_dist_shard shard USING (logicalrelid)
        WHERE part.colocationid = heat.colocation_id AND shard.shardminvalue IS NOT DISTINCT FROM mine.shardminvalue
    ) anchor ON true
    WHERE space.nspname IS NOT NULL OR heat.tenant_attribute IS NOT NULL
"""

# What is at work on a node: sessions of clients and those that other nodes have opened for them.
SESSIONS: LiteralString = """
    SELECT nodeid, CASE WHEN success THEN nullif(result, '')::int END FROM run_command_on_all_nodes($sql$
        SELECT count(*) FROM pg_catalog.pg_stat_activity
        WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
    $sql$)
"""

SCHEMA: LiteralString = """
    SELECT tenant.colocationid IS NOT NULL AS distributed, min(shard.shardid) AS shard_id
    FROM pg_catalog.pg_namespace space
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid
    LEFT JOIN pg_catalog.pg_dist_partition part ON part.colocationid = tenant.colocationid
    LEFT JOIN pg_catalog.pg_dist_shard shard ON shard.logicalrelid = part.logicalrelid
    WHERE space.nspname = %s GROUP BY 1
"""

SCHEMAS: LiteralString = """
    SELECT space.nspname FROM pg_catalog.pg_dist_schema JOIN pg_catalog.pg_namespace space ON space.oid = schemaid
"""

TABLE: LiteralString = """
    SELECT part.partmethod::text AS method, part.repmodel::text AS model, part.colocationid AS colocation_id,
           space.nspname AS schema, class.relname AS "table", tenant.schemaid IS NOT NULL AS in_schema,
           attribute.attname AS "column", format_type(attribute.atttypid, attribute.atttypmod) AS type
    FROM pg_catalog.pg_class class
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    LEFT JOIN pg_catalog.pg_dist_partition part ON part.logicalrelid = class.oid
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid
    LEFT JOIN pg_catalog.pg_attribute attribute
           ON attribute.attrelid = class.oid AND part.partkey IS NOT NULL
          AND attribute.attname = column_to_column_name(class.oid, part.partkey)
    WHERE class.oid = to_regclass(%s)
"""

TABLES: LiteralString = """
    SELECT format('%%I.%%I', space.nspname, class.relname)
    FROM pg_catalog.pg_dist_partition part
    JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    WHERE part.colocationid = %s AND part.partmethod = 'h' ORDER BY part.logicalrelid::oid
"""

# The value as its type writes it, and its hash; the type is PostgreSQL's own text for it. The value is a literal: with
# bound ones a per cent sign in a name would be taken for a placeholder.
VALUE = sql.SQL("SELECT CAST({value} AS {type})::text, worker_hash(CAST({value} AS {type}))")
HAS_ROWS = sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {column} = CAST({value} AS {type}))")

SHARD: LiteralString = """
    SELECT min(other.shardid) AS shard_id, mine.shardminvalue = mine.shardmaxvalue AS own,
           %(hash)s BETWEEN mine.shardminvalue::int AND mine.shardmaxvalue::int AS inside
    FROM pg_catalog.pg_dist_shard mine
    JOIN pg_catalog.pg_dist_partition its ON its.logicalrelid = mine.logicalrelid
    JOIN pg_catalog.pg_dist_partition part ON part.colocationid = its.colocationid
    JOIN pg_catalog.pg_dist_shard other
      ON other.logicalrelid = part.logicalrelid AND other.shardminvalue = mine.shardminvalue
    WHERE mine.shardid = get_shard_id_for_distribution_column(to_regclass(%(table)s), %(value)s::text)
    GROUP BY mine.shardminvalue, mine.shardmaxvalue
"""

# None on a server from before there was such a list.
OUTPUT_PLUGINS: LiteralString = "SELECT current_setting('output_plugin_libraries', true)"

SPLIT: LiteralString = """
    SELECT isolate_tenant_to_new_shard(to_regclass(%(table)s), %(value)s::text, %(cascade)s,
                                       shard_transfer_mode := %(mode)s)
"""
