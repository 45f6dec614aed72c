"""The statements of preflight: NODE runs on every node at once, FACTS on the coordinator; each gives one document."""

from __future__ import annotations

from typing import LiteralString

# {seconds} is filled in as a number: run_command_on_all_nodes takes no parameters for its command.
NODE = """SELECT json_build_object(
    'settings', (SELECT json_object_agg(name, setting) FROM pg_catalog.pg_settings WHERE name IN (
        'wal_level', 'max_worker_processes', 'max_replication_slots', 'max_wal_senders', 'max_connections',
        'max_logical_replication_workers', 'max_prepared_transactions', 'citus.max_client_connections')),
    'used_slots', (SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE active),
    'disk', (SELECT json_build_array(available_disk_size, total_disk_size)
             FROM pg_catalog.citus_local_disk_space_stats()),
    'extensions', (SELECT json_object_agg(extname, extversion) FROM pg_catalog.pg_extension),
    'long_transactions', (SELECT coalesce(json_agg(format('process %s of %s (%s)', pid, usename, state)), '[]')
        FROM pg_catalog.pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = current_database()
          AND application_name NOT LIKE 'citus%' AND xact_start < now() - {seconds} * interval '1 second'),
    'prepared', (SELECT coalesce(json_agg(gid), '[]') FROM pg_catalog.pg_prepared_xacts
                 WHERE prepared < now() - {seconds} * interval '1 second'),
    'leftovers', (SELECT coalesce(json_agg(name), '[]') FROM (
        SELECT 'replication slot ' || slot_name AS name FROM pg_catalog.pg_replication_slots
        WHERE slot_name ~ '^citus_shard_(move|split)_'
        UNION ALL SELECT 'subscription ' || subname FROM pg_catalog.pg_subscription
        WHERE subname ~ '^citus_shard_(move|split)_'
        UNION ALL SELECT 'publication ' || pubname FROM pg_catalog.pg_publication
        WHERE pubname ~ '^citus_shard_(move|split)_'
        UNION ALL SELECT 'role ' || rolname FROM pg_catalog.pg_roles
        WHERE rolname ~ '^citus_shard_(move|split)_') found),
    'orphans', (SELECT coalesce(json_agg(format('%s.%s', space.nspname, class.relname)), '[]')
        FROM pg_catalog.pg_dist_shard shard
        JOIN pg_catalog.pg_class shell ON shell.oid = shard.logicalrelid
        JOIN pg_catalog.pg_namespace space ON space.oid = shell.relnamespace
        JOIN pg_catalog.pg_class class ON class.relnamespace = shell.relnamespace AND class.relkind IN ('r', 'p')
         AND class.relname = shell.relname || '_' || shard.shardid
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_dist_placement placement
                          JOIN pg_catalog.pg_dist_local_group USING (groupid)
                          WHERE placement.shardid = shard.shardid)),
    'database_grants', (SELECT coalesce(json_agg(concat_ws(' ', privilege_type, 'on the database to',
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END)), '[]')
        FROM pg_catalog.pg_database CROSS JOIN aclexplode(coalesce(datacl, acldefault('d', datdba)))
        WHERE datname = current_database()),
    'role_settings', (SELECT coalesce(json_agg(concat_ws(' ', coalesce(rolname, 'every role'), 'SET', setting)), '[]')
        FROM pg_catalog.pg_db_role_setting LEFT JOIN pg_catalog.pg_roles ON pg_roles.oid = setrole
        CROSS JOIN unnest(setconfig) setting
        WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))),
    'roles', (SELECT coalesce(json_agg(concat_ws(' ', 'role', rolname, CASE WHEN rolcanlogin THEN 'LOGIN' END)), '[]')
        FROM pg_catalog.pg_roles role JOIN pg_catalog.pg_dist_object known
          ON known.classid = 'pg_catalog.pg_authid'::regclass AND known.objid = role.oid)
)::text"""

FACTS: LiteralString = """
    WITH placed AS (
        SELECT class.oid, format('%s.%s', space.nspname, class.relname) AS name, class.relowner, class.relreplident,
               part.partmethod, part.repmodel, part.logicalrelid
        FROM pg_catalog.pg_dist_partition part
        JOIN pg_catalog.pg_class class ON class.oid = part.logicalrelid
        JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
        WHERE part.partmethod = 'h' OR part.repmodel = 't' OR part.colocationid > 0
    )
    SELECT json_build_object(
        'without_identity', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM placed
            WHERE repmodel <> 't' AND relreplident <> 'f' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_index WHERE indrelid = placed.oid
                 AND CASE relreplident WHEN 'i' THEN indisreplident WHEN 'd' THEN indisprimary ELSE false END)),
        'owners', (SELECT coalesce(json_object_agg(rolname, json_build_array(rolcanlogin,
                                                    pg_has_role(current_user, role.oid, 'USAGE'))), '{}')
            FROM pg_catalog.pg_roles role WHERE role.oid IN (SELECT relowner FROM placed)),
        'reference_missing', (SELECT coalesce(json_agg(format('%s on node %s (%s:%s)', name, nodeid, nodename,
                                                              nodeport)), '[]')
            FROM placed JOIN pg_catalog.pg_dist_shard shard USING (logicalrelid)
            CROSS JOIN pg_catalog.pg_dist_node node
            WHERE repmodel = 't' AND node.noderole = 'primary' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_dist_placement placement
                WHERE placement.shardid = shard.shardid AND placement.groupid = node.groupid)),
        'domains', (SELECT coalesce(json_agg(format('%s.%s', nspname, typname)), '[]')
            FROM pg_catalog.pg_type JOIN pg_catalog.pg_namespace space ON space.oid = typnamespace
            WHERE typtype = 'd' AND nspname NOT IN ('public', 'pg_catalog', 'information_schema')),
        'foreign_keys', (SELECT coalesce(json_agg(format('%s.%s, %s', space.nspname, class.relname, conname)), '[]')
            FROM pg_catalog.pg_constraint con
            JOIN pg_catalog.pg_class class ON class.oid = conrelid
            JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
            JOIN pg_catalog.pg_class target ON target.oid = confrelid
            WHERE contype = 'f' AND target.relnamespace <> class.relnamespace
              AND space.nspname NOT IN ('pg_catalog', 'information_schema')
              AND class.relname !~ '_[0-9]{6,}$'
              AND NOT EXISTS (SELECT FROM placed WHERE placed.oid = confrelid AND repmodel = 't')),
        'granted_by', (SELECT coalesce(json_agg(format('%s to %s, granted by %s', pg_get_userbyid(roleid),
                                                        pg_get_userbyid(member), grantor.rolname)), '[]')
            FROM pg_catalog.pg_auth_members JOIN pg_catalog.pg_roles grantor ON grantor.oid = pg_auth_members.grantor
            WHERE NOT grantor.rolsuper AND NOT grantor.rolcreaterole AND grantor.rolname <> current_user),
        'cleanup', (SELECT coalesce(json_agg(format('%s on the node with group %s', object_name, node_group_id)), '[]')
            FROM pg_catalog.pg_dist_cleanup)
    )
"""

# Every node asks every other one.
PAIRS: LiteralString = """
    SELECT format('%s:%s', from_nodename, from_nodeport), format('%s:%s', to_nodename, to_nodeport)
    FROM pg_catalog.citus_check_cluster_node_health() WHERE result IS NOT TRUE
"""
