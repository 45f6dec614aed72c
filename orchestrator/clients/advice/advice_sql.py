"""What is read of a PostgreSQL that may become a cluster. Catalogs and statistics only; PostgreSQL 14 and newer."""

from __future__ import annotations

from typing import LiteralString

# A partitioned table counts with all its partitions; those do not count again. What extensions made is not the user's.
# The functions are those of pg_stat_all_tables, which as a view would be computed whole for each table.
TABLES: LiteralString = """
    WITH found AS (
        SELECT class.oid, space.nspname, class.relname, class.relkind
        FROM pg_catalog.pg_class class
        JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
        WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition AND class.relpersistence <> 't'
            AND space.nspname !~ '^pg_' AND space.nspname NOT IN ('information_schema', 'orchestrator')
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_depend
                WHERE deptype = 'e' AND classid = 'pg_catalog.pg_class'::regclass AND objid = class.oid)
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_depend
                WHERE deptype = 'e' AND classid = 'pg_catalog.pg_namespace'::regclass AND objid = space.oid)
    ), parts AS (
        SELECT oid AS whole, oid AS part FROM found WHERE relkind = 'r'
        UNION ALL
        SELECT oid, tree.relid FROM found CROSS JOIN LATERAL pg_catalog.pg_partition_tree(oid) tree
        WHERE relkind = 'p' AND tree.isleaf
    ), sizes AS (
        SELECT whole,
            sum(CASE WHEN reltuples >= 0 THEN reltuples ELSE pg_catalog.pg_stat_get_live_tuples(part) END)::bigint
                AS rows,
            sum(pg_catalog.pg_total_relation_size(part))::bigint AS bytes,
            sum(pg_catalog.pg_stat_get_tuples_inserted(part) + pg_catalog.pg_stat_get_tuples_updated(part)
                + pg_catalog.pg_stat_get_tuples_deleted(part))::bigint AS writes,
            sum(pg_catalog.pg_stat_get_tuples_inserted(part) - pg_catalog.pg_stat_get_tuples_deleted(part))::bigint
                AS grown,
            bool_or(coalesce(pg_catalog.pg_stat_get_last_analyze_time(part),
                             pg_catalog.pg_stat_get_last_autoanalyze_time(part)) IS NOT NULL) AS analyzed
        FROM parts JOIN pg_catalog.pg_class ON oid = part
        GROUP BY whole
    )
    SELECT oid, nspname, relname, coalesce(sizes.rows, 0), coalesce(bytes, 0), coalesce(writes, 0), coalesce(grown, 0),
        pg_catalog.has_table_privilege(oid, 'SELECT'),
        relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = oid OR inhparent = oid),
        ARRAY(SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = oid AND NOT tgisinternal ORDER BY 1),
        analyzed
    FROM found LEFT JOIN sizes ON whole = oid
    ORDER BY 5 DESC, 2, 3
"""

COLUMNS: LiteralString = """
    SELECT attrelid, attname, pg_catalog.format_type(atttypid, NULL), attnotnull,
        attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(value.adbin, value.adrelid) LIKE 'nextval(%%', false)
    FROM pg_catalog.pg_attribute
    LEFT JOIN pg_catalog.pg_attrdef value ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = ANY (%s) AND attnum > 0 AND NOT attisdropped
    ORDER BY attrelid, attnum
"""

# A key over expressions has the column number 0 in it: its columns are then none.
KEYS: LiteralString = """
    SELECT indrelid, class.relname, indisprimary, CASE WHEN indexprs IS NULL THEN ARRAY(
        SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY place (number, nth)
        JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = place.number
        WHERE nth <= indnkeyatts ORDER BY nth) ELSE '{}'::text[] END
    FROM pg_catalog.pg_index JOIN pg_catalog.pg_class class ON class.oid = indexrelid
    WHERE indrelid = ANY (%s) AND indisunique
    ORDER BY indrelid, NOT indisprimary, class.relname
"""

FOREIGN_KEYS: LiteralString = """
    SELECT conrelid, conname, space.nspname || '.' || target.relname,
        ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY place (number, nth)
              JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = place.number ORDER BY nth),
        ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY place (number, nth)
              JOIN pg_catalog.pg_attribute ON attrelid = confrelid AND attnum = place.number ORDER BY nth)
    FROM pg_catalog.pg_constraint
    JOIN pg_catalog.pg_class target ON target.oid = confrelid
    JOIN pg_catalog.pg_namespace space ON space.oid = target.relnamespace
    WHERE contype = 'f' AND conrelid = ANY (%s) AND confrelid = ANY (%s) AND conparentid = 0
    ORDER BY conrelid, conname
"""

# By name, as the view has them: joined to the catalog's numbers it was read once for each schema that has such a table.
# A partitioned table has only statistics over all of its partitions, which are called inherited.
STATISTICS: LiteralString = """
    SELECT schemaname, tablename, attname, inherited, n_distinct, null_frac, most_common_freqs
    FROM pg_catalog.pg_stats
    WHERE schemaname = ANY (%s::name[]) AND tablename = ANY (%s::name[])
    ORDER BY schemaname, tablename, attname, inherited
"""

# The hash of the most common values as Citus takes it to find a row's shard: that of the type's hash operator class.
# {type} and {function} come from HASHES, never from the database. Three lists: the columns of this type.
HASHED: LiteralString = """
    SELECT schemaname, tablename, attname, inherited, ARRAY(
        SELECT {function}(value) FROM unnest(most_common_vals::text::{type}[]) WITH ORDINALITY place (value, nth)
        ORDER BY nth)
    FROM pg_catalog.pg_stats
    WHERE most_common_vals IS NOT NULL AND (schemaname, tablename, attname) IN (
        SELECT * FROM unnest(%s::name[], %s::name[], %s::name[]))
"""
HASHES: tuple[tuple[tuple[str, ...], LiteralString, LiteralString], ...] = (
    (("smallint",), "pg_catalog.int2", "pg_catalog.hashint2"),
    (("integer",), "pg_catalog.int4", "pg_catalog.hashint4"),
    (("bigint",), "pg_catalog.int8", "pg_catalog.hashint8"),
    (("text", "character varying"), "pg_catalog.text", "pg_catalog.hashtext"),
    (("character",), "pg_catalog.bpchar", "pg_catalog.hashbpchar"),
    (("uuid",), "pg_catalog.uuid", "pg_catalog.uuid_hash"),
)

ABOUT: LiteralString = """
    SELECT pg_catalog.current_database(), pg_catalog.current_setting('server_version'),
        pg_catalog.current_setting('server_version_num')::int,
        pg_catalog.pg_database_size(pg_catalog.current_database()),
        pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), pg_catalog.pg_is_in_recovery(),
        pg_catalog.current_setting('max_connections')::int,
        (SELECT space.nspname FROM pg_catalog.pg_extension
         JOIN pg_catalog.pg_namespace space ON space.oid = extnamespace WHERE extname = 'pg_stat_statements'),
        EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')
"""

SESSIONS: LiteralString = """
    SELECT count(*), count(*) FILTER (WHERE state <> 'idle')
    FROM pg_catalog.pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
"""

# {wal} is an expression: a standby has no current position of its own.
COUNTERS: LiteralString = """
    SELECT extract(epoch FROM clock_timestamp())::float8, xact_commit, tup_inserted + tup_updated + tup_deleted,
        pg_catalog.pg_database_size(datname), ({wal} - '0/0'::pg_lsn)::bigint, wal.wal_bytes::bigint,
        extract(epoch FROM base.stats_reset)::float8, extract(epoch FROM wal.stats_reset)::float8
    FROM pg_catalog.pg_stat_database base CROSS JOIN pg_catalog.pg_stat_wal wal
    WHERE datname = pg_catalog.current_database()
"""
CURRENT_WAL: LiteralString = "pg_catalog.pg_current_wal_lsn()"
REPLAYED_WAL: LiteralString = "pg_catalog.pg_last_wal_replay_lsn()"

# The most called, and the most costly: one can be without the other. search_path as set for the role.
STATEMENTS: LiteralString = """
    WITH seen AS (
        SELECT query, userid, sum(calls)::bigint AS calls, sum(total_exec_time) / 1000 AS seconds,
            sum(wal_bytes)::bigint AS wal
        FROM {statements}
        WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        GROUP BY query, userid
    ), ranked AS (
        SELECT *, row_number() OVER (ORDER BY calls DESC) AS by_calls,
            row_number() OVER (ORDER BY seconds DESC) AS by_seconds, row_number() OVER (ORDER BY wal DESC) AS by_wal
        FROM seen
    )
    SELECT query, calls, seconds::float8, wal, role.rolname, (
        SELECT setting FROM pg_catalog.pg_db_role_setting, unnest(setconfig) setting
        WHERE setrole IN (ranked.userid, 0) AND setting LIKE 'search_path=%%'
            AND setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = pg_catalog.current_database()))
        ORDER BY setrole DESC, setdatabase DESC LIMIT 1)
    FROM ranked LEFT JOIN pg_catalog.pg_roles role ON role.oid = ranked.userid
    WHERE by_calls <= %s OR by_seconds <= %s OR by_wal <= %s
    ORDER BY calls DESC
"""
