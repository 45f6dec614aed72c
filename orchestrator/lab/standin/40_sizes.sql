-- Sizes and the views on them. Bytes are those of the real tables; a row-sharded table's are spread evenly over its shards.

CREATE FUNCTION citus_lab.placement_bytes()
RETURNS TABLE (shardid bigint, relid oid, nspoid oid, groupid int, bytes bigint) LANGUAGE sql STABLE AS $$
    WITH tab AS MATERIALIZED (
        SELECT logicalrelid AS relid, relnamespace, partmethod = 'h' AS split,
               coalesce(pg_total_relation_size(logicalrelid), 0) AS total
        FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid
    ), shard AS (
        SELECT s.shardid, t.relid, t.relnamespace, split, total, count(*) OVER same_table AS shards,
               row_number() OVER (same_table ORDER BY s.shardid) - 1 AS index
        FROM tab t JOIN pg_dist_shard s ON s.logicalrelid = t.relid WINDOW same_table AS (PARTITION BY t.relid)
    )
    SELECT s.shardid, s.relid, s.relnamespace, p.groupid, coalesce(o.bytes,
        CASE WHEN split THEN total / shards + (index < total % shards)::int ELSE total END)
    FROM shard s JOIN pg_dist_placement p USING (shardid) LEFT JOIN citus_lab.size_override o USING (shardid) $$;

-- Why a node's sizes cannot be read by this role: Citus asks a node for all its shards in one query as the caller, so one
-- schema without USAGE, or a node that is down, hides every size of that node.
CREATE FUNCTION citus_lab.unreadable_nodes() RETURNS TABLE (groupid int, code text, message text) LANGUAGE sql STABLE AS $$
    SELECT n.groupid, '08006', citus_lab.refused(nodename, nodeport)
    FROM pg_dist_node n WHERE NOT citus_lab.is_up(nodename, nodeport)
        AND EXISTS (SELECT FROM pg_dist_placement p WHERE p.groupid = n.groupid)
    UNION ALL
    SELECT p.groupid, '42501', 'permission denied for schema ' || (array_agg(nspname ORDER BY shardid))[1]
    FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid) JOIN pg_class c ON c.oid = logicalrelid
    JOIN (SELECT oid, nspname FROM pg_namespace WHERE NOT has_schema_privilege(oid, 'USAGE')) n ON n.oid = relnamespace
    WHERE NOT EXISTS (SELECT FROM pg_dist_node d WHERE d.groupid = p.groupid AND NOT citus_lab.is_up(nodename, nodeport))
    GROUP BY p.groupid $$;

CREATE FUNCTION citus_lab.warn_unreadable() RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE node record; groups int[] := '{}';
BEGIN
    FOR node IN SELECT * FROM citus_lab.unreadable_nodes() ORDER BY groupid = 0, groupid LOOP
        RAISE WARNING USING ERRCODE = node.code, MESSAGE = node.message;
        groups := groups || node.groupid;
    END LOOP;
    RETURN groups;
END $$;

CREATE FUNCTION pg_catalog.citus_shard_sizes(OUT shard_id int, OUT size bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE hidden int[] := citus_lab.warn_unreadable();
BEGIN
    RETURN QUERY SELECT shardid::int, bytes FROM citus_lab.placement_bytes() WHERE groupid <> ALL (hidden) ORDER BY shardid;
END $$;

CREATE FUNCTION citus_lab.require_citus_table(relid oid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF citus_lab.kind(relid) IS NULL THEN
        PERFORM citus_lab.fail(format('cannot calculate the size because relation ''%s'' is not distributed',
                                      (SELECT relname FROM pg_class WHERE oid = relid)), NULL, NULL, '42P16');
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_relation_size(logicalrelid regclass) RETURNS bigint LANGUAGE sql AS $$
    SELECT citus_lab.require_citus_table(logicalrelid); SELECT pg_relation_size(logicalrelid) $$;
CREATE FUNCTION pg_catalog.citus_table_size(logicalrelid regclass) RETURNS bigint LANGUAGE sql AS $$
    SELECT citus_lab.require_citus_table(logicalrelid); SELECT pg_table_size(logicalrelid) $$;
CREATE FUNCTION pg_catalog.citus_total_relation_size(logicalrelid regclass, fail_on_error boolean DEFAULT true)
RETURNS bigint LANGUAGE sql AS $$
    SELECT citus_lab.require_citus_table(logicalrelid);
    SELECT coalesce(sum(bytes), 0)::bigint FROM (
        SELECT DISTINCT shardid, bytes FROM citus_lab.placement_bytes() WHERE relid = logicalrelid) s $$;

CREATE FUNCTION pg_catalog.shard_name(object_name regclass, shard_id bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE nspname WHEN 'public' THEN '' ELSE quote_ident(nspname) || '.' END || quote_ident(relname || '_' || shard_id)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = object_name $$;

CREATE VIEW citus_lab.citus_table AS
    SELECT logicalrelid, colocationid, partkey, schemaid,
           CASE WHEN partmethod = 'h' THEN 'distributed' WHEN repmodel = 't' THEN 'reference'
                WHEN schemaid IS NOT NULL THEN 'schema' ELSE 'local' END AS kind
    FROM pg_dist_partition LEFT JOIN pg_dist_schema USING (colocationid);
GRANT SELECT ON citus_lab.citus_table TO PUBLIC;

-- The sizes are joined so that a query that does not read them does not ask for them, which is how Citus behaves.
CREATE VIEW pg_catalog.citus_shards AS
    SELECT s.logicalrelid AS table_name, s.shardid, shard_name(s.logicalrelid, s.shardid) AS shard_name,
           t.kind AS citus_table_type, t.colocationid AS colocation_id, n.nodename, n.nodeport, z.size AS shard_size
    FROM pg_dist_shard s JOIN citus_lab.citus_table t USING (logicalrelid) JOIN pg_dist_placement p USING (shardid)
    JOIN pg_dist_node n USING (groupid)
    LEFT JOIN (SELECT shard_id, max(size) AS size FROM citus_shard_sizes() GROUP BY shard_id) z ON z.shard_id = s.shardid
    ORDER BY s.logicalrelid::text, s.shardid;

CREATE VIEW public.citus_tables AS
    SELECT t.logicalrelid AS table_name, t.kind AS citus_table_type,
           coalesce(column_to_column_name(t.logicalrelid, t.partkey), '<none>') AS distribution_column,
           t.colocationid AS colocation_id, pg_size_pretty(z.size) AS table_size,
           (SELECT count(*) FROM pg_dist_shard s WHERE s.logicalrelid = t.logicalrelid) AS shard_count,
           pg_get_userbyid(c.relowner) AS table_owner, a.amname AS access_method
    FROM citus_lab.citus_table t JOIN pg_class c ON c.oid = t.logicalrelid
    JOIN (SELECT logicalrelid, sum(size) AS size FROM citus_shard_sizes() JOIN pg_dist_shard ON shardid = shard_id
          GROUP BY logicalrelid) z ON z.logicalrelid = t.logicalrelid
    LEFT JOIN pg_am a ON a.oid = c.relam
    ORDER BY t.logicalrelid::text;

CREATE VIEW public.citus_schemas AS
    SELECT s.schemaid::regnamespace AS schema_name, s.colocationid AS colocation_id,
           CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN pg_size_pretty(coalesce(z.size, 0)) END AS schema_size,
           pg_get_userbyid(n.nspowner) AS schema_owner
    FROM pg_dist_schema s JOIN pg_namespace n ON n.oid = s.schemaid
    LEFT JOIN (SELECT p.colocationid, sum(size) AS size FROM citus_shard_sizes() JOIN pg_dist_shard ON shardid = shard_id
               JOIN pg_dist_partition p USING (logicalrelid) GROUP BY p.colocationid) z ON z.colocationid = s.colocationid
    ORDER BY s.colocationid;

CREATE VIEW pg_catalog.citus_nodes AS
    SELECT nodename, nodeport, CASE groupid WHEN 0 THEN 'coordinator' ELSE 'worker' END AS role, isactive AS active
    FROM pg_dist_node ORDER BY nodeid;

CREATE VIEW pg_catalog.citus_stat_activity AS
    SELECT citus_calculate_gpid(citus_coordinator_nodeid(), pid) AS global_pid, citus_coordinator_nodeid() AS nodeid,
           false AS is_worker_query, a.* FROM pg_stat_activity a;
CREATE VIEW pg_catalog.citus_dist_stat_activity AS SELECT * FROM citus_stat_activity WHERE NOT is_worker_query;

CREATE VIEW pg_catalog.citus_lock_waits AS
    SELECT w.global_pid AS waiting_gpid, b.global_pid AS blocking_gpid, w.query AS blocked_statement,
           b.query AS current_statement_in_blocking_process, w.nodeid AS waiting_nodeid, b.nodeid AS blocking_nodeid
    FROM citus_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) blocker
    JOIN citus_stat_activity b ON b.pid = blocker WHERE w.wait_event_type = 'Lock';

CREATE VIEW pg_catalog.citus_locks AS
    SELECT a.global_pid, a.nodeid, l.locktype, l.database, l.relation, l.relation::regclass::text AS relation_name,
           l.page, l.tuple,
           l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid, l.virtualtransaction, l.pid, l.mode, l.granted,
           l.fastpath,
           l.waitstart
    FROM pg_locks l JOIN citus_stat_activity a USING (pid);

-- citus.stat_tenants_track is off by default: Citus shows nothing here.
CREATE VIEW pg_catalog.citus_stat_tenants AS
    SELECT NULL::int AS nodeid, NULL::int AS colocation_id, NULL::text AS tenant_attribute,
           NULL::int AS read_count_in_this_period, NULL::int AS read_count_in_last_period,
           NULL::int AS query_count_in_this_period, NULL::int AS query_count_in_last_period,
           NULL::double precision AS cpu_usage_in_this_period, NULL::double precision AS cpu_usage_in_last_period WHERE false;
GRANT SELECT ON pg_catalog.citus_stat_tenants TO pg_monitor;

GRANT SELECT ON pg_catalog.citus_locks, pg_catalog.citus_shards, public.citus_tables, public.citus_schemas,
    pg_catalog.citus_nodes,
    pg_catalog.citus_stat_activity, pg_catalog.citus_dist_stat_activity, pg_catalog.citus_lock_waits TO PUBLIC;
