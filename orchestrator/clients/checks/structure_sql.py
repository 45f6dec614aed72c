"""What one node says of the tables it has: run on every node at once, it answers with one JSON document.

Each node compares its shards with its own shell tables and answers with what differs, and with digests of the rest.
Names of indexes and constraints are left out, because Citus changes those of shards: what they do is what counts.
"""

from __future__ import annotations

from typing import LiteralString

# Shards of Citus are only shown to Citus' own connections, as those of run_command_on_all_nodes are.
STRUCTURE: LiteralString = """
    WITH shell AS (
        SELECT part.logicalrelid::oid AS oid, class.relname AS name, space.nspname AS schema
        FROM pg_catalog.pg_dist_partition part
        JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid
        JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    ), placed AS MATERIALIZED (
        SELECT shard.logicalrelid::oid AS shell, shard.shardid,
               to_regclass(pg_catalog.shard_name(shard.logicalrelid, shard.shardid))::oid AS rel
        FROM pg_catalog.pg_dist_shard shard
        JOIN pg_catalog.pg_dist_placement placement USING (shardid)
        JOIN pg_catalog.pg_dist_local_group here USING (groupid)
        WHERE pg_catalog.citus_version() NOT LIKE '%simulated%'
    ), rels AS MATERIALIZED (
        SELECT oid AS shell, NULL::bigint AS shardid, oid AS rel FROM shell
        UNION ALL SELECT shell, shardid, rel FROM placed WHERE rel IS NOT NULL
    ), lines AS MATERIALIZED (
        SELECT rels.shell, rels.shardid, 'owner' AS kind, pg_get_userbyid(class.relowner)::text AS value
        FROM rels JOIN pg_catalog.pg_class class ON class.oid = rels.rel
        UNION ALL
        SELECT rels.shell, rels.shardid, 'row level security', concat_ws(' ', relrowsecurity, relforcerowsecurity)
        FROM rels JOIN pg_catalog.pg_class class ON class.oid = rels.rel
        UNION ALL
        SELECT rels.shell, rels.shardid, 'replica identity', class.relreplident::text
        FROM rels JOIN pg_catalog.pg_class class ON class.oid = rels.rel
        UNION ALL
        SELECT rels.shell, rels.shardid, 'column',
               concat_ws(' ', quote_ident(attname), format_type(atttypid, atttypmod), attnotnull)
        FROM rels JOIN pg_catalog.pg_attribute ON attrelid = rels.rel AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT rels.shell, rels.shardid, 'index',
               concat_ws(' ', CASE WHEN indisprimary THEN 'primary' WHEN indisunique THEN 'unique' END, method.amname,
                         (SELECT string_agg(pg_get_indexdef(indexrelid, place, true), ', ' ORDER BY place)
                          FROM generate_series(1, indnatts) place),
                         pg_get_expr(indpred, indrelid), CASE WHEN NOT indisvalid THEN 'not valid' END)
        FROM rels JOIN pg_catalog.pg_index ON indrelid = rels.rel
        JOIN pg_catalog.pg_class class ON class.oid = indexrelid JOIN pg_catalog.pg_am method ON method.oid = relam
        UNION ALL
        SELECT rels.shell, rels.shardid, 'constraint',
               concat_ws(' ', regexp_replace(pg_get_constraintdef(con.oid), '_[0-9]{6,}("?\\()', '\\1', 'g'))
        FROM rels JOIN pg_catalog.pg_constraint con ON conrelid = rels.rel AND contype IN ('c', 'f', 'p', 'u', 'x')
        UNION ALL
        SELECT rels.shell, rels.shardid, 'grant',
               concat_ws(' ', privilege_type, 'to',
                         CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END)
        FROM rels JOIN pg_catalog.pg_class class ON class.oid = rels.rel
        CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner)))
        UNION ALL
        SELECT rels.shell, rels.shardid, 'policy', concat_ws(' ', polname, polcmd, pg_get_expr(polqual, polrelid))
        FROM rels JOIN pg_catalog.pg_policy ON polrelid = rels.rel
    ), wanted AS (
        SELECT placed.shell, placed.shardid, lines.kind, lines.value
        FROM placed JOIN lines ON lines.shell = placed.shell AND lines.shardid IS NULL WHERE placed.rel IS NOT NULL
    ), found AS (
        SELECT shell, shardid, kind, value FROM lines WHERE shardid IS NOT NULL
    ), differing AS (
        SELECT *, 'lacks' AS how FROM (SELECT * FROM wanted EXCEPT ALL SELECT * FROM found) missing
        UNION ALL
        SELECT *, 'has' AS how FROM (SELECT * FROM found EXCEPT ALL SELECT * FROM wanted) extra
        UNION ALL
        SELECT shell, shardid, 'table', '', 'lacks' FROM placed WHERE rel IS NULL
    )
    SELECT json_build_object(
        'group_id', (SELECT groupid FROM pg_catalog.pg_dist_local_group),
        'differing', (SELECT coalesce(json_agg(json_build_object(
                'table', format('%s.%s', shell.schema, shell.name), 'shard_id', differing.shardid,
                'kind', differing.kind, 'value', differing.value, 'how', differing.how)), '[]')
            FROM differing JOIN shell ON shell.oid = differing.shell),
        'tables', (SELECT coalesce(json_object_agg(name, digest), '{}') FROM (
                SELECT format('%s.%s', shell.schema, shell.name) AS name,
                       md5(string_agg(concat_ws(' ', kind, value), E'\\n' ORDER BY kind, value)) AS digest
                FROM lines JOIN shell ON shell.oid = lines.shell WHERE lines.shardid IS NULL GROUP BY 1) digests),
        'metadata', json_build_object(
            'nodes', (SELECT md5(string_agg(concat_ws(' ', nodeid, groupid, nodename, nodeport, isactive,
                                                      shouldhaveshards), E'\\n' ORDER BY nodeid))
                      FROM pg_catalog.pg_dist_node),
            'tables', (SELECT md5(coalesce(string_agg(concat_ws(' ', schema, name, partmethod, part.colocationid,
                                                                repmodel), E'\\n' ORDER BY schema, name), ''))
                       FROM shell JOIN pg_catalog.pg_dist_partition part ON part.logicalrelid = shell.oid),
            'shards', (SELECT md5(coalesce(string_agg(concat_ws(' ', schema, name, shardid, shardminvalue,
                                                                shardmaxvalue), E'\\n' ORDER BY shardid), ''))
                       FROM shell JOIN pg_catalog.pg_dist_shard shard ON shard.logicalrelid = shell.oid),
            'placements', (SELECT md5(coalesce(string_agg(concat_ws(' ', shardid, groupid), E'\\n'
                                                          ORDER BY shardid, groupid), ''))
                           FROM pg_catalog.pg_dist_placement),
            'distributed schemas', (SELECT md5(coalesce(string_agg(concat_ws(' ', nspname, colocationid), E'\\n'
                                                                   ORDER BY nspname), ''))
                                    FROM pg_catalog.pg_dist_schema
                                    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = schemaid))
    )::text
"""
