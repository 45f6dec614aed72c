-- What Citus' background workers do, in steps: a superuser's session calls citus_lab.tick() several times a second.
-- Every tick is one transaction: killed at any point, nothing is half done.

CREATE FUNCTION citus_lab.in_seconds(setting text, fallback double precision) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN v ~ '^\d+$' THEN v::double precision / 1000
                WHEN v ~ '^\d+ *(ms|s|min|h)$' THEN extract(epoch FROM v::interval)
           ELSE fallback END FROM (SELECT current_setting(setting, true) AS v) s $$;

-- The n-th failure of a task is followed by a try after this long; null: there is none.
CREATE FUNCTION citus_lab.retry_delay(failures int) RETURNS interval LANGUAGE sql AS $$
    SELECT make_interval(secs => retry_delay_factor * CASE failures WHEN 1 THEN 5 WHEN 2 THEN 20 ELSE 60 END)
    FROM citus_lab.settings WHERE failures <= 32 $$;

CREATE FUNCTION citus_lab.task_message(task citus_lab.background_task, error text, hint text) RETURNS text LANGUAGE sql AS $$
    SELECT format(E'ERROR: %s\n%sCONTEXT: Citus Background Task Queue Executor: %s/%s for (%s/%s)\n', error,
                  CASE WHEN hint <> '' THEN E'HINT: ' || hint || E'\n' ELSE '' END, current_database(),
                  task.owner::text, task.job_id, task.task_id) $$;

-- Tasks that wait for one that will never be done are not run, nor those that wait for them.
CREATE FUNCTION citus_lab.unschedule_dependants(task citus_lab.background_task) RETURNS void LANGUAGE sql AS $$
    WITH RECURSIVE waiting(id) AS (
        SELECT d.task_id FROM citus_lab.background_task_depend d
        WHERE (d.groupid, d.job_id, d.depends_on) = (task.groupid, task.job_id, task.task_id)
        UNION SELECT d.task_id FROM citus_lab.background_task_depend d JOIN waiting ON d.depends_on = waiting.id
        WHERE (d.groupid, d.job_id) = (task.groupid, task.job_id))
    UPDATE citus_lab.background_task t SET status = 'unscheduled' FROM waiting
    WHERE (t.groupid, t.job_id) = (task.groupid, task.job_id) AND t.task_id = waiting.id
        AND t.status IN ('blocked', 'runnable') $$;

CREATE FUNCTION citus_lab.task_failed(task citus_lab.background_task, error text, hint text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE failures int := task.retry_count + 1; delay interval := citus_lab.retry_delay(task.retry_count + 1);
BEGIN
    UPDATE citus_lab.background_task t
    SET retry_count = failures, pid = NULL, began_at = NULL, message = citus_lab.task_message(task, error, hint),
        status = CASE WHEN delay IS NULL THEN 'error' ELSE 'runnable' END::citus_task_status,
        not_before = clock_timestamp() + delay
    WHERE (t.groupid, t.job_id, t.task_id) = (task.groupid, task.job_id, task.task_id);
    IF delay IS NULL THEN
        PERFORM citus_lab.unschedule_dependants(task);
    END IF;
END $$;

-- The last moment of a task, in which it takes effect or fails.
CREATE FUNCTION citus_lab.finish_task(task citus_lab.background_task) RETURNS void LANGUAGE plpgsql AS $$
DECLARE planned text; error text; hint text;
BEGIN
    UPDATE citus_lab.fault SET remaining = remaining - 1 WHERE fault_id = (
        SELECT min(fault_id) FROM citus_lab.fault WHERE remaining > 0 AND (shard_id IS NULL OR shard_id = task.shardid))
    RETURNING message INTO planned;
    BEGIN
        IF planned IS NOT NULL THEN
            PERFORM citus_lab.fail(planned);
        ELSIF task.groupid <> 0 THEN
            PERFORM citus_lab.fail('operation is not allowed on this node', NULL, 'Connect to the coordinator and run it again.');
        ELSIF task.shardid IS NULL THEN
            PERFORM citus_lab.copy_reference_tables();
        ELSE
            PERFORM citus_lab.require_up(nodename, nodeport) FROM pg_dist_node;
            PERFORM citus_lab.move_group(task.shardid, task.nodes_involved[1], task.nodes_involved[2]);
        END IF;
        UPDATE citus_lab.background_task t SET status = 'done', pid = NULL, message = E'SELECT 1\n'
        WHERE (t.groupid, t.job_id, t.task_id) = (task.groupid, task.job_id, task.task_id);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS error = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
        PERFORM citus_lab.task_failed(task, error, hint);
    END;
END $$;

-- What a cancelled move leaves behind is dropped soon; policy_type 1: on failure.
CREATE FUNCTION citus_lab.cancel_task(task citus_lab.background_task) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE citus_lab.background_task t SET status = 'cancelled', pid = NULL,
        message = citus_lab.task_message(task, 'canceling statement due to user request', '')
    WHERE (t.groupid, t.job_id, t.task_id) = (task.groupid, task.job_id, task.task_id);
    INSERT INTO citus_lab.cleanup (operation_id, object_type, object_name, node_group_id, policy_type, shardid)
    SELECT operation, 1, citus_lab.table_name(g.relid) || '_' || g.shardid, n.groupid, 1, NULL
    FROM nextval('pg_dist_operationid_seq') operation, citus_lab.group_of(task.shardid) g
    JOIN pg_dist_node n ON n.nodeid = task.nodes_involved[2];
END $$;

CREATE FUNCTION citus_lab.end_tasks() RETURNS void LANGUAGE plpgsql AS $$
DECLARE task citus_lab.background_task;
BEGIN
    FOR task IN SELECT * FROM citus_lab.background_task
        WHERE status = 'cancelling' OR (status = 'running' AND clock_timestamp() >= began_at + duration)
        ORDER BY groupid, began_at + duration, task_id FOR UPDATE
    LOOP
        IF task.status = 'cancelling' THEN
            PERFORM citus_lab.cancel_task(task);
        ELSE
            PERFORM citus_lab.finish_task(task);
        END IF;
    END LOOP;
    UPDATE citus_lab.background_task t SET status = 'runnable' WHERE status = 'blocked' AND NOT EXISTS (
        SELECT FROM citus_lab.background_task_depend d JOIN citus_lab.background_task o
            ON (o.groupid, o.job_id, o.task_id) = (d.groupid, d.job_id, d.depends_on)
        WHERE (d.groupid, d.job_id, d.task_id) = (t.groupid, t.job_id, t.task_id) AND o.status <> 'done');
END $$;

-- Nothing checks the text of a setting that no library defines, so what is no number counts as the default.
CREATE FUNCTION citus_lab.executors(setting text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN v ~ '^[1-9]\d{0,3}$' THEN v::int ELSE 1 END FROM (SELECT current_setting(setting, true) AS v) s $$;

-- Both limits hold at once: on all tasks of the cluster, and on the tasks of each node, of which a move has two.
CREATE FUNCTION citus_lab.start_tasks() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    in_all int := citus_lab.executors('citus.max_background_task_executors');
    per_node int := citus_lab.executors('citus.max_background_task_executors_per_node');
    task citus_lab.background_task; running int; busy int;
BEGIN
    FOR task IN SELECT t.* FROM citus_lab.background_task t
        JOIN citus_lab.background_job j USING (groupid, job_id), citus_lab.settings s
        WHERE t.status = 'runnable' AND t.not_before <= clock_timestamp()
            AND (j.state IN ('running', 'failing')
                 OR (j.state = 'scheduled' AND j.created_at + s.start_delay <= clock_timestamp()))
        ORDER BY t.groupid, t.job_id, t.task_id FOR UPDATE OF t
    LOOP
        SELECT count(*) INTO running FROM citus_lab.background_task WHERE groupid = task.groupid AND status = 'running';
        EXIT WHEN running >= in_all AND task.groupid = 0;
        SELECT coalesce(max(n), 0) INTO busy FROM (
            SELECT count(*) AS n FROM citus_lab.background_task t, unnest(t.nodes_involved) node
            WHERE t.groupid = task.groupid AND t.status = 'running' AND node = ANY (task.nodes_involved) GROUP BY node) x;
        CONTINUE WHEN busy >= per_node;
        UPDATE citus_lab.background_task t SET status = 'running', pid = pg_backend_pid(), began_at = clock_timestamp(),
            duration = citus_lab.seconds_for(coalesce(transfer_mode, 'auto'), citus_lab.group_bytes(t.shardid))
        WHERE (t.groupid, t.job_id, t.task_id) = (task.groupid, task.job_id, task.task_id);
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.update_jobs() RETURNS void LANGUAGE plpgsql AS $$
DECLARE job record;
BEGIN
    FOR job IN SELECT j.*, t.* FROM citus_lab.background_job j CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE status IN ('blocked', 'runnable', 'running', 'cancelling')) AS left_over,
                   count(*) FILTER (WHERE status = 'running' OR status = 'done' OR retry_count > 0) AS begun,
                   count(*) FILTER (WHERE status = 'error') AS errors
            FROM citus_lab.background_task t WHERE t.groupid = j.groupid AND t.job_id = j.job_id) t
        WHERE NOT citus_lab.is_over(state)
    LOOP
        UPDATE citus_lab.background_job j SET
            state = CASE WHEN job.left_over = 0 THEN CASE WHEN job.state = 'cancelling' THEN 'cancelled'
                                                          WHEN job.errors > 0 THEN 'failed' ELSE 'finished' END
                         WHEN job.state = 'cancelling' THEN 'cancelling' WHEN job.errors > 0 THEN 'failing'
                         WHEN job.begun > 0 THEN 'running' ELSE 'scheduled' END::citus_job_status,
            started_at = coalesce(j.started_at, CASE WHEN job.begun > 0 THEN clock_timestamp() END),
            finished_at = CASE WHEN job.left_over = 0 THEN clock_timestamp() END
        WHERE (j.groupid, j.job_id) = (job.groupid, job.job_id);
    END LOOP;
END $$;

CREATE PROCEDURE citus_lab.tick() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(13203) THEN RETURN; END IF;
    IF EXISTS (SELECT FROM citus_lab.background_job WHERE NOT citus_lab.is_over(state)) THEN
        PERFORM citus_lab.end_tasks(), citus_lab.start_tasks(), citus_lab.update_jobs();
    END IF;
    DELETE FROM citus_lab.cleanup
    WHERE created_at < clock_timestamp() - make_interval(secs => citus_lab.in_seconds('citus.defer_shard_delete_interval', 15));
END $$;

-- After a crash of the server: what ran then runs again from its beginning, and counts no retry.
CREATE PROCEDURE citus_lab.recover() LANGUAGE sql AS $$
    UPDATE citus_lab.background_task SET status = 'runnable', pid = NULL, began_at = NULL
    WHERE status = 'running' AND pid IS DISTINCT FROM pg_backend_pid() $$;

REVOKE EXECUTE ON PROCEDURE citus_lab.tick, citus_lab.recover FROM PUBLIC;
