-- Nodes: who may change them, what Citus answers, statements that run on every node.

CREATE FUNCTION citus_lab.fail(message text, detail text DEFAULT NULL, hint text DEFAULT NULL, code text DEFAULT 'XX000')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF detail IS NOT NULL AND hint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
    ELSIF detail IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail;
    ELSIF hint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
END $$;

CREATE FUNCTION citus_lab.require_coordinator() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF citus_lab.local_group() <> 0 THEN
        PERFORM citus_lab.fail('operation is not allowed on this node', NULL, 'Connect to the coordinator and run it again.');
    END IF;
END $$;

CREATE FUNCTION citus_lab.require_superuser() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('is_superuser') <> 'on' THEN
        PERFORM citus_lab.fail('operation is not allowed', NULL, 'Run the command with a superuser.');
    END IF;
END $$;

-- The role whose rights count inside a SECURITY DEFINER function.
CREATE FUNCTION citus_lab.caller() RETURNS name LANGUAGE sql STABLE AS $$
    SELECT CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END $$;

CREATE FUNCTION citus_lab.is_up(nodename text, nodeport int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT h.up FROM citus_lab.host h WHERE h.nodename = $1 AND h.nodeport = $2), false) $$;

CREATE FUNCTION citus_lab.refused(nodename text, nodeport int) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('connection to the remote node %s@%s:%s failed with the following error: Connection refused', current_user,
                  nodename, nodeport) || E'\n\tIs the server running on that host and accepting TCP/IP connections?' $$;

CREATE FUNCTION citus_lab.require_up(nodename text, nodeport int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT citus_lab.is_up(nodename, nodeport) THEN
        PERFORM citus_lab.fail(citus_lab.refused(nodename, nodeport), NULL, NULL, '08006');
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_version() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'Citus 13.2 stand-in (placement simulated) on PostgreSQL ' || current_setting('server_version') $$;
CREATE FUNCTION pg_catalog.citus_is_coordinator() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT citus_lab.local_group() = 0 $$;
CREATE FUNCTION pg_catalog.citus_coordinator_nodeid() RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT nodeid FROM pg_dist_node WHERE groupid = 0), 0) $$;
CREATE FUNCTION citus_lab.local_node() RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT nodeid FROM pg_dist_node WHERE groupid = citus_lab.local_group()), 0) $$;
CREATE FUNCTION pg_catalog.citus_calculate_gpid(nodeid int, pid int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT nodeid * 10000000000 + pid $$;
CREATE FUNCTION pg_catalog.citus_backend_gpid() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT citus_calculate_gpid(citus_lab.local_node(), pg_backend_pid()) $$;
CREATE FUNCTION pg_catalog.citus_nodeid_for_gpid(global_pid bigint) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT (global_pid / 10000000000)::int $$;
CREATE FUNCTION pg_catalog.citus_nodename_for_nodeid(nodeid int) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT n.nodename FROM pg_dist_node n WHERE n.nodeid = $1 $$;
CREATE FUNCTION pg_catalog.citus_nodeport_for_nodeid(nodeid int) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT n.nodeport FROM pg_dist_node n WHERE n.nodeid = $1 $$;

CREATE FUNCTION pg_catalog.citus_get_active_worker_nodes(OUT node_name text, OUT node_port bigint)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT nodename, nodeport FROM pg_dist_node WHERE isactive AND groupid <> 0 ORDER BY nodeid $$;
CREATE FUNCTION pg_catalog.master_get_active_worker_nodes(OUT node_name text, OUT node_port bigint)
RETURNS SETOF record LANGUAGE sql STABLE AS $$ SELECT * FROM citus_get_active_worker_nodes() $$;

CREATE FUNCTION pg_catalog.citus_check_connection_to_node(nodename text, nodeport int DEFAULT 5432)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT citus_lab.is_up(nodename, nodeport) THEN
        RAISE WARNING USING ERRCODE = '08006', MESSAGE = citus_lab.refused(nodename, nodeport);
    END IF;
    RETURN citus_lab.is_up(nodename, nodeport);
END $$;

-- true and false: could it connect; null: it could not even be asked.
CREATE FUNCTION pg_catalog.citus_check_cluster_node_health(
    OUT from_nodename text, OUT from_nodeport int, OUT to_nodename text, OUT to_nodeport int, OUT result boolean)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    FOR node IN SELECT * FROM pg_dist_node n WHERE NOT citus_lab.is_up(n.nodename, n.nodeport) ORDER BY nodeid LOOP
        RAISE WARNING USING ERRCODE = '08006', MESSAGE = citus_lab.refused(node.nodename, node.nodeport);
    END LOOP;
    RETURN QUERY SELECT f.nodename, f.nodeport, t.nodename, t.nodeport,
            CASE WHEN citus_lab.is_up(f.nodename, f.nodeport) THEN citus_lab.is_up(t.nodename, t.nodeport) END
        FROM pg_dist_node f, pg_dist_node t ORDER BY f.nodeid, t.nodeid;
END $$;

CREATE FUNCTION citus_lab.require_node(name text, port int) RETURNS pg_dist_node LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    SELECT * INTO node FROM pg_dist_node n WHERE n.nodename = name AND n.nodeport = port;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('node at "%s:%s" does not exist', name, port));
    END IF;
    RETURN node;
END $$;

CREATE FUNCTION pg_catalog.citus_add_node(
    nodename text, nodeport int, groupid int DEFAULT -1, noderole noderole DEFAULT 'primary', nodecluster name DEFAULT 'default')
RETURNS int LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE id int;
BEGIN
    PERFORM citus_lab.require_superuser(), citus_lab.require_coordinator();
    SELECT nodeid INTO id FROM pg_dist_node n WHERE n.nodename = $1 AND n.nodeport = $2;
    IF NOT FOUND THEN
        PERFORM citus_lab.require_up($1, $2);
        INSERT INTO pg_dist_node (groupid, nodename, nodeport, noderole, nodecluster)
        VALUES (CASE WHEN $3 < 0 THEN nextval('pg_dist_groupid_seq') ELSE $3 END, $1, $2, $4, $5) RETURNING nodeid INTO id;
    END IF;
    UPDATE pg_dist_node SET isactive = true, metadatasynced = true, hasmetadata = true WHERE nodeid = id;
    RETURN id;
END $$;

CREATE FUNCTION pg_catalog.citus_activate_node(nodename text, nodeport int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    PERFORM citus_lab.require_superuser(), citus_lab.require_coordinator();
    node := citus_lab.require_node(nodename, nodeport);
    PERFORM citus_lab.require_up(nodename, nodeport);
    UPDATE pg_dist_node SET isactive = true, metadatasynced = true, hasmetadata = true WHERE nodeid = node.nodeid;
    RETURN node.nodeid;
END $$;

-- The row of the coordinator starts without shards, as with Citus; a superuser then allows them.
CREATE FUNCTION pg_catalog.citus_set_coordinator_host(
    host text, port int DEFAULT current_setting('port')::int, node_role noderole DEFAULT 'primary',
    node_cluster name DEFAULT 'default')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_lab.require_superuser(), citus_lab.require_coordinator();
    UPDATE pg_dist_node SET nodename = host, nodeport = port WHERE groupid = 0;
    IF NOT FOUND THEN
        INSERT INTO pg_dist_node (groupid, nodename, nodeport, shouldhaveshards) VALUES (0, host, port, false);
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_set_node_property(nodename text, nodeport int, property text, value boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    PERFORM citus_lab.require_coordinator();
    node := citus_lab.require_node(nodename, nodeport);
    IF property <> 'shouldhaveshards' THEN
        PERFORM citus_lab.fail('only the ''shouldhaveshards'' property can be set using this function');
    END IF;
    UPDATE pg_dist_node SET shouldhaveshards = value WHERE nodeid = node.nodeid;
END $$;

CREATE FUNCTION citus_lab.require_no_shards(node pg_dist_node) RETURNS void LANGUAGE plpgsql AS $$
DECLARE shard record;
BEGIN
    SELECT s.shardid, c.relnamespace::regnamespace || '.' || quote_ident(c.relname) AS name INTO shard
    FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid) JOIN pg_class c ON c.oid = s.logicalrelid
    WHERE p.groupid = node.groupid AND NOT EXISTS (
        SELECT FROM pg_dist_placement o WHERE o.shardid = p.shardid AND o.groupid <> p.groupid)
    ORDER BY s.shardid LIMIT 1;
    IF FOUND THEN
        PERFORM citus_lab.fail(
            format('cannot remove or disable the node %s:%s because because it contains the only shard placement for shard %s',
                   node.nodename, node.nodeport, shard.shardid),
            'One of the table(s) that prevents the operation complete successfully is ' || shard.name,
            'To proceed, either drop the tables or use undistribute_table() function to convert them to local tables');
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_remove_node(nodename text, nodeport int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    PERFORM citus_lab.require_coordinator();
    node := citus_lab.require_node(nodename, nodeport);
    PERFORM citus_lab.require_no_shards(node);
    DELETE FROM pg_dist_placement WHERE groupid = node.groupid;
    DELETE FROM pg_dist_node WHERE nodeid = node.nodeid;
END $$;

CREATE FUNCTION pg_catalog.citus_disable_node(nodename text, nodeport int, synchronous boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    PERFORM citus_lab.require_coordinator();
    node := citus_lab.require_node(nodename, nodeport);
    IF node.groupid = 0 THEN
        PERFORM citus_lab.fail('cannot change "isactive" field of the coordinator node');
    ELSIF node.groupid = (SELECT min(groupid) FROM pg_dist_node WHERE groupid > 0) AND NOT synchronous THEN
        PERFORM citus_lab.fail('disabling the first worker node in the metadata is not allowed',
            'Citus uses the first worker node in the metadata for certain internal operations when '
            'replicated tables are modified. '
            'Synchronous mode ensures that all nodes have the same view of the first worker node, '
            'which is used for certain locking operations.',
            format('You can force disabling node, SELECT citus_disable_node(%L, %s, synchronous:=true);', nodename, nodeport),
            '55000');
    END IF;
    PERFORM citus_lab.require_no_shards(node);
    UPDATE pg_dist_node SET isactive = false WHERE nodeid = node.nodeid;
END $$;

-- A row's only column as the server would send it.
CREATE FUNCTION citus_lab.only_column(row_text text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN row_text LIKE '("%' THEN replace(replace(substr(row_text, 3, length(row_text) - 4), '""', '"'), '\\', '\')
                ELSE substr(row_text, 2, length(row_text) - 2) END $$;

-- Run a statement once, as on one node. What returns rows gives its first row; anything else gives its tag.
CREATE FUNCTION citus_lab.run_once(command text, OUT success boolean, OUT result text) LANGUAGE plpgsql AS $$
DECLARE line record; affected bigint; words text[] := regexp_split_to_array(upper(btrim(command)), '\s+');
BEGIN
    success := true;
    IF words[1] IN ('SELECT', 'WITH', 'VALUES', 'SHOW', 'TABLE', 'EXPLAIN') THEN
        result := '';
        FOR line IN EXECUTE command LOOP
            IF (SELECT count(*) FROM json_object_keys(to_json(line))) <> 1 THEN
                success := false; result := 'expected a single column in query target';
            ELSE
                result := citus_lab.only_column(line::text);
            END IF;
            RETURN;
        END LOOP;
        RETURN;
    END IF;
    EXECUTE command;
    GET DIAGNOSTICS affected = ROW_COUNT;
    result := CASE WHEN words[1] = 'INSERT' THEN 'INSERT 0 ' || affected
                   WHEN words[1] IN ('UPDATE', 'DELETE', 'MERGE') THEN words[1] || ' ' || affected
                   WHEN words[1] IN ('CREATE', 'ALTER', 'DROP', 'TRUNCATE') THEN words[1] || ' ' || words[2]
                   ELSE words[1] END;
EXCEPTION WHEN OTHERS THEN
    success := false; result := 'ERROR:  ' || SQLERRM;
END $$;

-- All simulated nodes are one server: a query runs as on each node in turn, a change is made once.
CREATE FUNCTION citus_lab.run_on(nodes int[], command text)
RETURNS TABLE (nodeid int, success boolean, result text) LANGUAGE plpgsql AS $$
DECLARE before text := coalesce(current_setting('citus_lab.node_id', true), ''); query boolean;
BEGIN
    query := command ~* '^\s*(select|with|values|show|table|explain)\y';
    FOREACH nodeid IN ARRAY nodes LOOP
        IF query OR nodeid = nodes[1] THEN
            IF query THEN PERFORM set_config('citus_lab.node_id', nodeid::text, true); END IF;
            SELECT r.success, r.result INTO success, result FROM citus_lab.run_once(command) r;
            PERFORM set_config('citus_lab.node_id', before, true);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION pg_catalog.run_command_on_all_nodes(
    command text, parallel boolean DEFAULT true, give_warning_for_connection_errors boolean DEFAULT false,
    OUT nodeid int, OUT success boolean, OUT result text) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT r.* FROM citus_lab.run_on(ARRAY(SELECT n.nodeid FROM pg_dist_node n WHERE isactive ORDER BY 1), command) r $$;
CREATE FUNCTION pg_catalog.run_command_on_coordinator(
    command text, give_warning_for_connection_errors boolean DEFAULT false, OUT nodeid int, OUT success boolean, OUT result text)
RETURNS SETOF record LANGUAGE sql AS $$
    SELECT r.* FROM citus_lab.run_on(ARRAY[citus_coordinator_nodeid()], command) r $$;
CREATE FUNCTION pg_catalog.run_command_on_workers(
    command text, parallel boolean DEFAULT true, OUT nodename text, OUT nodeport int, OUT success boolean, OUT result text)
RETURNS SETOF record LANGUAGE sql AS $$
    SELECT n.nodename, n.nodeport, r.success, r.result
    FROM citus_lab.run_on(ARRAY(SELECT w.nodeid FROM pg_dist_node w WHERE isactive AND groupid <> 0 ORDER BY 1), command) r
    JOIN pg_dist_node n USING (nodeid) ORDER BY n.nodeid $$;

REVOKE EXECUTE ON FUNCTION pg_catalog.citus_add_node, pg_catalog.citus_activate_node, pg_catalog.citus_remove_node,
    pg_catalog.citus_disable_node, pg_catalog.citus_set_node_property, pg_catalog.citus_set_coordinator_host FROM PUBLIC;

-- The disk of a simulated node is nobody's own: unknown, so nothing is said about it.
CREATE FUNCTION pg_catalog.citus_local_disk_space_stats(OUT available_disk_size bigint, OUT total_disk_size bigint)
RETURNS record LANGUAGE sql STABLE AS $$ SELECT 0::bigint, 0::bigint $$;
