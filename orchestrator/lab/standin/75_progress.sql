-- How far running moves are: phases and bytes follow from the time that a move has taken of the time that it will take.

CREATE FUNCTION citus_lab.phase(mode citus.shard_transfer_mode, done double precision) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN done < 0.1 THEN 'Setting Up' WHEN done < 0.7 THEN 'Copying Data' WHEN mode = 'block_writes' THEN 'Completing'
                WHEN done < 0.85 THEN 'Catching Up' WHEN done < 0.92 THEN 'Creating Foreign Keys'
                WHEN done < 0.97 THEN 'Final Catchup' ELSE 'Completing' END $$;

CREATE FUNCTION citus_lab.moves_under_way()
RETURNS TABLE (job_id bigint, task_id bigint, pid int, shardid bigint,
    source pg_dist_node, target pg_dist_node, phase text, copied double precision)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.job_id, t.task_id, t.pid, t.shardid, s, d, citus_lab.phase(transfer_mode, done),
           least(greatest((done - 0.1) / 0.6, 0), 1)
    FROM citus_lab.background_task t
    CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - began_at) / extract(epoch FROM duration) AS done) p
    JOIN pg_dist_node s ON s.nodeid = nodes_involved[1] JOIN pg_dist_node d ON d.nodeid = nodes_involved[2]
    WHERE t.groupid = citus_lab.local_group() AND status IN ('running', 'cancelling') AND t.shardid IS NOT NULL $$;

-- Positions in the log are those of the one real server.
CREATE FUNCTION pg_catalog.get_rebalance_progress()
RETURNS TABLE (sessionid int, table_name regclass, shardid bigint, shard_size bigint, sourcename text, sourceport int,
    targetname text,
    targetport int, progress bigint, source_shard_size bigint, target_shard_size bigint, operation_type text, source_lsn pg_lsn,
    target_lsn pg_lsn, status text) LANGUAGE sql AS $$
    SELECT m.pid, g.relid::regclass, g.shardid, b.bytes, (m.source).nodename, (m.source).nodeport,
           (m.target).nodename, (m.target).nodeport,
           1::bigint, b.bytes, floor(b.bytes * m.copied)::bigint, 'move', pg_current_wal_lsn(),
           CASE WHEN m.copied = 1 AND m.phase <> 'Completing' THEN pg_current_wal_lsn() END, m.phase
    FROM citus_lab.moves_under_way() m CROSS JOIN LATERAL citus_lab.group_of(m.shardid) g
    JOIN citus_lab.placement_bytes() b ON b.shardid = g.shardid
    ORDER BY m.task_id, g.shardid $$;

CREATE FUNCTION citus_lab.amount(bytes bigint, raw boolean) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN raw THEN to_jsonb(bytes) ELSE to_jsonb(pg_size_pretty(bytes)) END $$;

-- What Citus tells of a task: of a running one its move, of one that failed the message; others are only counted.
CREATE FUNCTION citus_lab.task_details(job bigint, raw boolean) RETURNS jsonb LANGUAGE sql AS $$
    WITH moving AS MATERIALIZED (
        SELECT m.task_id, m.phase, (m.source).nodename || ':' || (m.source).nodeport AS source,
               (m.target).nodename || ':' || (m.target).nodeport AS target, m.copied, sum(b.bytes)::bigint AS bytes
        FROM citus_lab.moves_under_way() m CROSS JOIN LATERAL citus_lab.group_of(m.shardid) g
        JOIN citus_lab.placement_bytes() b ON b.shardid = g.shardid WHERE m.job_id = job GROUP BY 1, 2, 3, 4, 5
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('state', t.status, 'command', t.command, 'message', t.message,
                                                 'retried', t.retry_count, 'task_id', t.task_id)
        || CASE WHEN m.task_id IS NULL THEN '{}' ELSE jsonb_build_object('phase', m.phase,
            'hosts', jsonb_build_object('source', m.source, 'target', m.target),
            'size', jsonb_build_object('source', citus_lab.amount(m.bytes, raw),
                                       'target', citus_lab.amount(floor(m.bytes * m.copied)::bigint, raw)),
            'LSN', jsonb_build_object('source', pg_current_wal_lsn(),
                                      'target', CASE WHEN m.copied = 1 THEN pg_current_wal_lsn() END,
                                      'lag', CASE WHEN m.copied = 1 THEN citus_lab.amount(0, raw) END)) END
        ORDER BY t.task_id), '[]')
    FROM pg_dist_background_task t LEFT JOIN moving m USING (task_id)
    WHERE t.job_id = job AND (m.task_id IS NOT NULL OR t.status = 'error' OR (t.status = 'runnable' AND t.retry_count > 0)) $$;

CREATE FUNCTION pg_catalog.citus_job_status(job_id bigint, raw boolean DEFAULT false)
RETURNS TABLE (job_id bigint, state citus_job_status, job_type name, description text,
    started_at timestamptz, finished_at timestamptz,
    details jsonb) LANGUAGE sql AS $$
    SELECT j.job_id, j.state, j.job_type, j.description, j.started_at, j.finished_at, jsonb_build_object(
        'tasks', citus_lab.task_details(j.job_id, $2), 'task_state_counts', (
            SELECT coalesce(jsonb_object_agg(c.status, c.n), '{}') FROM (
                SELECT t.status, count(*) AS n FROM pg_dist_background_task t WHERE t.job_id = j.job_id GROUP BY 1) c))
    FROM pg_dist_background_job j WHERE j.job_id = $1 $$;

CREATE FUNCTION pg_catalog.citus_rebalance_status(raw boolean DEFAULT false)
RETURNS TABLE (job_id bigint, state citus_job_status, job_type name, description text,
    started_at timestamptz, finished_at timestamptz,
    details jsonb) LANGUAGE sql AS $$
    SELECT s.* FROM (SELECT max(j.job_id) AS id FROM pg_dist_background_job j WHERE j.job_type = 'rebalance') l,
    LATERAL citus_job_status(l.id, $1) s $$;
