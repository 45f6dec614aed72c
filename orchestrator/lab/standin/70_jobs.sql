-- Background jobs as people see them: start, status, wait, stop. citus_lab.tick (the next file) does the work.

CREATE FUNCTION citus_lab.is_over(state citus_job_status) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT state IN ('finished', 'cancelled', 'failed') $$;

CREATE FUNCTION citus_lab.require_no_rebalance() RETURNS void LANGUAGE plpgsql AS $$
DECLARE id bigint := (SELECT max(job_id) FROM pg_dist_background_job
                      WHERE job_type = 'rebalance' AND NOT citus_lab.is_over(state));
BEGIN
    IF id IS NOT NULL THEN
        PERFORM citus_lab.fail(format('A rebalance is already running as job %s', id),
            'A rebalance was already scheduled as background job',
            'To monitor progress, run: SELECT * FROM citus_rebalance_status();');
    END IF;
END $$;

-- Checks that come before any plan. False: there is nothing that could be rebalanced.
CREATE FUNCTION citus_lab.may_rebalance() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE tab record; first oid;
BEGIN
    PERFORM citus_lab.require_no_rebalance();
    FOR tab IN SELECT t.relid, c.relname, c.relowner FROM (
            SELECT logicalrelid::oid AS relid, min(shardid) AS shard FROM pg_dist_partition
            JOIN pg_dist_shard USING (logicalrelid)
            WHERE repmodel <> 't' GROUP BY 1) t JOIN pg_class c ON c.oid = t.relid ORDER BY t.shard LOOP
        first := coalesce(first, tab.relid);
        PERFORM citus_lab.require_owner('table', tab.relname, tab.relowner);
    END LOOP;
    IF first IS NOT NULL THEN
        PERFORM citus_lab.lock_moves(false, first);
    END IF;
    RETURN first IS NOT NULL;
END $$;

CREATE FUNCTION citus_lab.add_task(job bigint, task bigint, command text, nodes int[], depends_on bigint[], owner regrole,
    shard bigint DEFAULT NULL, mode citus.shard_transfer_mode DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE here int := citus_lab.local_group();
BEGIN
    INSERT INTO citus_lab.background_task (groupid, job_id, task_id, owner, status, command, nodes_involved,
                                         shardid, transfer_mode)
    VALUES (here, job, task, owner,
            CASE WHEN cardinality(depends_on) > 0 THEN 'blocked' ELSE 'runnable' END::citus_task_status,
            command, nodes, shard, mode);
    INSERT INTO citus_lab.background_task_depend SELECT here, job, task, d FROM unnest(depends_on) d;
END $$;

-- Ids count on from each node's own history.
CREATE FUNCTION citus_lab.next_id(kind text) RETURNS bigint LANGUAGE sql AS $$
    SELECT CASE WHEN citus_lab.local_group() = 0 THEN nextval(format('pg_dist_background_%s_%1$s_id_seq', kind))
        WHEN kind = 'job' THEN (SELECT coalesce(max(job_id), 0) + 1 FROM pg_dist_background_job)
        ELSE (SELECT coalesce(max(task_id), 0) + 1 FROM pg_dist_background_task) END $$;

-- One task per move. It waits for earlier moves away from its target (they make room) and for the earlier move of its own
-- colocation group; all wait for the copy of reference tables, if nodes lack them.
CREATE FUNCTION citus_lab.schedule(shards bigint[], sources int[], targets int[],
    mode citus.shard_transfer_mode, parallel boolean)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    job bigint := citus_lab.next_id('job'); me regrole := quote_ident(citus_lab.caller())::regrole; copy bigint[] := '{}';
    tasks bigint[] := '{}'; colocations int[] := '{}'; colocation int; waits bigint[];
BEGIN
    INSERT INTO citus_lab.background_job (groupid, job_id, job_type, description)
    VALUES (citus_lab.local_group(), job, 'rebalance', 'Rebalance all colocation groups');
    IF EXISTS (SELECT FROM pg_dist_partition JOIN pg_dist_shard s USING (logicalrelid), pg_dist_node n
               WHERE repmodel = 't' AND isactive
               AND NOT EXISTS (SELECT FROM pg_dist_placement p WHERE p.shardid = s.shardid AND p.groupid = n.groupid)) THEN
        copy := ARRAY[citus_lab.next_id('task')];
        PERFORM citus_lab.add_task(job, copy[1], format('SELECT pg_catalog.replicate_reference_tables(%L)', mode), '{}', '{}',
                                   (SELECT extowner FROM pg_extension WHERE extname = 'citus')::regrole);
    END IF;
    FOR i IN 1 .. cardinality(shards) LOOP
        SELECT colocationid INTO colocation FROM pg_dist_shard JOIN pg_dist_partition USING (logicalrelid)
        WHERE shardid = shards[i];
        SELECT coalesce(array_agg(tasks[j] ORDER BY j), '{}') INTO waits FROM generate_series(1, i - 1) j
        WHERE sources[j] = targets[i] OR (NOT parallel AND colocations[j] = colocation);
        tasks := tasks || citus_lab.next_id('task'); colocations := colocations || colocation;
        PERFORM citus_lab.add_task(job, tasks[i],
            format('SELECT pg_catalog.citus_move_shard_placement(%s,%s,%s,%L)', shards[i], sources[i],
                                   targets[i], mode), ARRAY[sources[i], targets[i]], copy || waits, me, shards[i], mode);
    END LOOP;
    RETURN job;
END $$;

-- Plans, and leaves the moves to the background. On a worker Citus does not refuse this; the tasks then fail there.
CREATE FUNCTION pg_catalog.citus_rebalance_start(
    rebalance_strategy name DEFAULT NULL, drain_only boolean DEFAULT false,
    shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto',
    parallel_transfer_reference_tables boolean DEFAULT false, parallel_transfer_colocated_shards boolean DEFAULT false)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE shards bigint[]; sources int[]; targets int[]; job bigint; strategy pg_dist_rebalance_strategy;
BEGIN
    strategy := citus_lab.strategy(rebalance_strategy);
    IF NOT citus_lab.may_rebalance() THEN
        RAISE NOTICE 'No tables to rebalance';
        RETURN NULL;
    END IF;
    SELECT array_agg(p.shardid), array_agg(p.source), array_agg(p.target) INTO shards, sources, targets
    FROM citus_lab.plan(strategy, drain_only => drain_only) p;
    IF shards IS NULL THEN
        RAISE NOTICE 'No moves available for rebalancing';
        RETURN NULL;
    END IF;
    IF shard_transfer_mode = 'auto' THEN
        PERFORM citus_lab.require_replica_identity(s) FROM unnest(shards) s;
    END IF;
    job := citus_lab.schedule_planned(shards, sources, targets, shard_transfer_mode, parallel_transfer_colocated_shards);
    RAISE NOTICE USING MESSAGE = format('Scheduled %s moves as job %s', cardinality(shards), job),
        DETAIL = 'Rebalance scheduled as background job',
        HINT = 'To monitor progress, run: SELECT * FROM citus_rebalance_status();';
    RETURN job;
END $$;

CREATE FUNCTION citus_lab.schedule_planned(shards bigint[], sources int[], targets int[],
    mode citus.shard_transfer_mode, parallel boolean)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Again, because this function can be called by anybody and writes as superuser.
    IF NOT citus_lab.may_rebalance() THEN RETURN NULL; END IF;
    RETURN citus_lab.schedule(shards, sources, targets, mode, parallel);
END $$;

-- Planned moves one after another, while the session waits.
CREATE FUNCTION citus_lab.move_all(shards bigint[], sources int[], targets int[], mode citus.shard_transfer_mode) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE s pg_dist_node; t pg_dist_node;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(shards), 0) LOOP
        s := citus_lab.node_by_id(sources[i]); t := citus_lab.node_by_id(targets[i]);
        RAISE NOTICE 'Moving shard % from %:% to %:% ...', shards[i], s.nodename, s.nodeport, t.nodename, t.nodeport;
        PERFORM citus_move_shard_placement(shards[i], s.nodeid, t.nodeid, mode);
    END LOOP;
END $$;

CREATE FUNCTION pg_catalog.rebalance_table_shards(
    relation regclass DEFAULT NULL, threshold real DEFAULT NULL, max_shard_moves int DEFAULT 1000000,
    excluded_shard_list bigint[] DEFAULT '{}', shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto',
    drain_only boolean DEFAULT false, rebalance_strategy name DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    PERFORM citus_lab.require_no_rebalance();
    PERFORM citus_lab.move_all(array_agg(p.shardid), array_agg(p.source), array_agg(p.target), shard_transfer_mode)
    FROM citus_lab.plan(citus_lab.strategy(rebalance_strategy), threshold, NULL, max_shard_moves, drain_only,
        (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = relation), excluded_shard_list) p;
END $$;

CREATE FUNCTION pg_catalog.citus_drain_node(
    nodename text, nodeport int, shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto',
    rebalance_strategy name DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    IF NOT EXISTS (SELECT FROM pg_dist_node n WHERE n.nodename = $1 AND n.nodeport = $2) THEN
        PERFORM citus_lab.fail(format('node %s:%s not found', nodename, nodeport), NULL, NULL, 'P0002');
    END IF;
    PERFORM citus_set_node_property(nodename, nodeport, 'shouldhaveshards', false);
    PERFORM rebalance_table_shards(shard_transfer_mode => $3, drain_only => true, rebalance_strategy => $4);
END $$;
REVOKE EXECUTE ON FUNCTION pg_catalog.citus_drain_node FROM PUBLIC;

-- Citus stops a task by cancelling its backend, so whoever may not cancel that may not stop the job.
CREATE FUNCTION pg_catalog.citus_job_cancel(jobid bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE now_is citus_job_status;
BEGIN
    PERFORM citus_lab.require_coordinator();
    SELECT state INTO now_is FROM citus_lab.background_job WHERE groupid = 0 AND job_id = jobid FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail('could not find background jobs entry for job_id: ' || jobid);
    ELSIF citus_lab.is_over(now_is) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM citus_lab.background_task WHERE groupid = 0 AND job_id = jobid
               AND NOT pg_has_role(citus_lab.caller(), owner, 'USAGE'))
       AND NOT pg_has_role(citus_lab.caller(), 'pg_signal_backend', 'USAGE') THEN
        PERFORM citus_lab.fail('must be a member of the role whose query is being canceled or member of pg_signal_backend',
                               NULL, NULL, '42501');
    END IF;
    UPDATE citus_lab.background_job SET state = 'cancelling' WHERE groupid = 0 AND job_id = jobid;
    UPDATE citus_lab.background_task
    SET status = CASE status WHEN 'running' THEN 'cancelling' ELSE 'cancelled' END::citus_task_status
    WHERE groupid = 0 AND job_id = jobid AND status IN ('blocked', 'runnable', 'running');
END $$;

CREATE FUNCTION citus_lab.rebalance_under_way() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT max(job_id) FROM pg_dist_background_job WHERE job_type = 'rebalance' AND NOT citus_lab.is_over(state) $$;

CREATE FUNCTION pg_catalog.citus_rebalance_stop() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF citus_lab.rebalance_under_way() IS NULL THEN
        PERFORM citus_lab.fail('no ongoing rebalance that can be stopped');
    END IF;
    PERFORM citus_job_cancel(citus_lab.rebalance_under_way());
END $$;

CREATE FUNCTION pg_catalog.citus_job_wait(jobid bigint, desired_status citus_job_status DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE now_is citus_job_status;
BEGIN
    LOOP
        SELECT state INTO now_is FROM pg_dist_background_job WHERE job_id = jobid;
        IF NOT FOUND THEN
            PERFORM citus_lab.fail('no job found for job with jobid: ' || jobid);
        END IF;
        EXIT WHEN citus_lab.is_over(now_is) OR now_is = desired_status;
        PERFORM pg_sleep(0.05);
    END LOOP;
    IF now_is <> desired_status THEN
        PERFORM citus_lab.fail(format('Job reached terminal state "%s" instead of desired state "%s"', now_is, desired_status));
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_rebalance_wait() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF citus_lab.rebalance_under_way() IS NULL THEN
        RAISE WARNING 'no ongoing rebalance that can be waited on';
        RETURN;
    END IF;
    PERFORM citus_job_wait(citus_lab.rebalance_under_way());
END $$;

CREATE FUNCTION pg_catalog.citus_job_list()
RETURNS TABLE (job_id bigint, state citus_job_status, job_type name, description text,
    started_at timestamptz, finished_at timestamptz)
LANGUAGE sql AS $$ SELECT * FROM pg_dist_background_job ORDER BY job_id $$;

REVOKE EXECUTE ON FUNCTION citus_lab.schedule, citus_lab.add_task FROM PUBLIC;
