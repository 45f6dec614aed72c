"""What is read of a PostgreSQL that may become a cluster. Catalogs and statistics only; PostgreSQL 14 and newer."""

from __future__ import annotations

from typing import LiteralString

# A partitioned table counts with all its partitions; those do not count again. What extensions made is not the user's.
TABLES: LiteralString = """
    SELECT class.oid, space.nspname, class.relname, sizes.rows, sizes.bytes, sizes.writes, sizes.grown,
        pg_catalog.has_table_privilege(class.oid, 'SELECT'),
        EXISTS (SELECT FROM pg_catalog.pg_inherits link WHERE link.inhrelid = class.oid OR link.inhparent = class.oid)
            AND class.relkind = 'r',
        ARRAY(SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = class.oid AND NOT tgisinternal ORDER BY 1),
        sizes.analyzed
    FROM pg_catalog.pg_class class
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE WHEN part.reltuples >= 0 THEN part.reltuples ELSE stat.n_live_tup END), 0)::bigint
                AS rows,
            coalesce(sum(pg_catalog.pg_total_relation_size(part.oid)), 0)::bigint AS bytes,
            coalesce(sum(stat.n_tup_ins + stat.n_tup_upd + stat.n_tup_del), 0)::bigint AS writes,
            coalesce(sum(stat.n_tup_ins - stat.n_tup_del), 0)::bigint AS grown,
            bool_or(stat.last_analyze IS NOT NULL OR stat.last_autoanalyze IS NOT NULL) AS analyzed
        FROM pg_catalog.pg_class part
        LEFT JOIN pg_catalog.pg_stat_all_tables stat ON stat.relid = part.oid
        WHERE part.oid = class.oid AND class.relkind = 'r'
            OR class.relkind = 'p' AND part.relkind = 'r'
            AND part.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(class.oid))
    ) sizes
    WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition AND class.relpersistence <> 't'
        AND space.nspname !~ '^pg_' AND space.nspname NOT IN ('information_schema', 'orchestrator')
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend made
            WHERE made.deptype = 'e' AND (
                made.classid = 'pg_catalog.pg_class'::regclass AND made.objid = class.oid
                OR made.classid = 'pg_catalog.pg_namespace'::regclass AND made.objid = space.oid))
    ORDER BY sizes.bytes DESC, 2, 3
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

# Of a partitioned table the statistics over all partitions.
STATISTICS: LiteralString = """
    SELECT DISTINCT ON (class.oid, attname) class.oid, attname, n_distinct, null_frac, most_common_freqs
    FROM pg_catalog.pg_stats
    JOIN pg_catalog.pg_namespace space ON space.nspname = schemaname
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid AND class.relname = tablename
    WHERE class.oid = ANY (%s)
    ORDER BY class.oid, attname, inherited = (class.relkind = 'p') DESC
"""

# The hash of the most common values as Citus takes it to find a row's shard: that of the type's hash operator class.
# {type} and {function} come from HASHES, never from the database.
HASHED: LiteralString = """
    SELECT DISTINCT ON (class.oid, stat.attname) class.oid, stat.attname, ARRAY(
        SELECT {function}(value) FROM unnest(most_common_vals::text::{type}[]) WITH ORDINALITY place (value, nth)
        ORDER BY nth)
    FROM pg_catalog.pg_stats stat
    JOIN pg_catalog.pg_namespace space ON space.nspname = schemaname
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid AND class.relname = tablename
    JOIN pg_catalog.pg_attribute held ON held.attrelid = class.oid AND held.attname = stat.attname
    WHERE class.oid = ANY (%s) AND most_common_vals IS NOT NULL
        AND pg_catalog.format_type(held.atttypid, NULL) = ANY (%s)
    ORDER BY class.oid, stat.attname, inherited = (class.relkind = 'p') DESC
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
