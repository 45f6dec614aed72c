-- Citus' settings. PostgreSQL takes unknown settings with a prefix as text and does not list them, so what pg_settings shows
-- of them comes from this table.

CREATE TABLE citus_lab.parameter (
    name text PRIMARY KEY, boot_val text NOT NULL, unit text, context text NOT NULL, vartype text NOT NULL,
    min_val int, max_val int, short_desc text NOT NULL);
GRANT SELECT ON citus_lab.parameter TO PUBLIC;

INSERT INTO citus_lab.parameter VALUES
    ('citus.background_task_queue_interval', '5000', 'ms', 'sighup', 'integer', -1, 604800000,
     'Time to wait between checks for scheduled background tasks.'),
    ('citus.defer_shard_delete_interval', '15000', 'ms', 'sighup', 'integer', -1, 604800000,
     'Sets the time to wait between background deletion for shards.'),
    ('citus.enable_create_role_propagation', 'on', NULL, 'user', 'bool', NULL, NULL,
     'Enables propagating CREATE ROLE and DROP ROLE statements to workers'),
    ('citus.enable_schema_based_sharding', 'off', NULL, 'user', 'bool', NULL, NULL, 'Enables schema based sharding.'),
    ('citus.max_background_task_executors', '1', NULL, 'sighup', 'integer', 1, 1000,
     'Sets the maximum number of parallel task executor workers for scheduled background tasks'),
    ('citus.max_background_task_executors_per_node', '1', NULL, 'sighup', 'integer', 1, 128,
     'Sets the maximum number of parallel background task executor workers for scheduled background tasks that involve a particular node'),
    ('citus.max_client_connections', '-1', NULL, 'superuser', 'integer', -1, 262143,
     'Sets the maximum number of connections regular clients can make'),
    ('citus.max_shared_pool_size', '100', NULL, 'sighup', 'integer', -1, 2147483647,
     'Sets the maximum number of connections allowed per worker node across all the backends from this node.'),
    ('citus.shard_count', '32', NULL, 'user', 'integer', 1, 64000,
     'Sets the number of shards for a new hash-partitioned table created with create_distributed_table().'),
    ('citus.shard_replication_factor', '1', NULL, 'user', 'integer', 1, 100, 'Sets the replication factor for shards.'),
    ('citus.stat_tenants_track', 'none', NULL, 'superuser', 'enum', NULL, NULL,
     'Enables/Disables the stats collection for citus_stat_tenants.');

-- As pg_settings shows it: milliseconds without a unit.
CREATE FUNCTION citus_lab.shown_setting(name text, unit text, boot_val text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN unit = 'ms' THEN (citus_lab.in_seconds(name, boot_val::double precision / 1000) * 1000)::bigint::text
                ELSE coalesce(current_setting(name, true), boot_val) END $$;

-- ALTER ROLE ... SET of an unknown setting needs this right; with Citus everybody has it for these.
DO $$
DECLARE setting text;
BEGIN
    FOR setting IN SELECT name FROM citus_lab.parameter WHERE context = 'user'
        UNION ALL SELECT 'citus.rebalancer_by_disk_size_base_cost' LOOP
        EXECUTE format('GRANT SET ON PARAMETER %s TO PUBLIC', setting);
    END LOOP;
END $$;

CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
    SELECT * FROM pg_show_all_settings()
    UNION ALL
    SELECT name, citus_lab.shown_setting(name, unit, boot_val), unit, 'Customized Options', short_desc, NULL, context, vartype,
           CASE WHEN citus_lab.shown_setting(name, unit, boot_val) = boot_val THEN 'default' ELSE 'configuration file' END,
           min_val::text, max_val::text, NULL, boot_val, boot_val, NULL, NULL, false
    FROM citus_lab.parameter;
