-- Moving a shard group: what Citus refuses, and the simulated move itself.

-- Commands that move shards exclude one another as in Citus: a rebalance is not planned while another move is under way.
CREATE FUNCTION citus_lab.lock_moves(shared boolean, relid oid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE WHEN shared THEN pg_try_advisory_xact_lock_shared(13202) ELSE pg_try_advisory_xact_lock(13202) END) THEN
        PERFORM citus_lab.fail(
            'could not acquire the lock required to rebalance ' || citus_lab.table_name(relid),
            'It means that either a concurrent shard move or shard copy is happening.',
            'Make sure that the concurrent operation has finished and re-run the command');
    END IF;
END $$;

CREATE FUNCTION citus_lab.seconds_for(mode citus.shard_transfer_mode, bytes bigint) RETURNS interval LANGUAGE sql AS $$
    SELECT CASE mode WHEN 'block_writes'
        THEN block_writes_fixed + make_interval(secs => bytes / block_writes_bytes_per_second)
        ELSE logical_fixed + make_interval(secs => bytes / logical_bytes_per_second) END FROM citus_lab.settings $$;

CREATE FUNCTION citus_lab.group_bytes(shard bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(b.bytes), 0)::bigint FROM (
        SELECT DISTINCT p.shardid, p.bytes FROM citus_lab.group_of(shard) g
        JOIN citus_lab.placement_bytes() p USING (shardid)) b $$;

-- Online moves replicate rows logically, which needs a way to tell rows apart.
CREATE FUNCTION citus_lab.require_replica_identity(shard bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE tab name;
BEGIN
    SELECT relname INTO tab FROM citus_lab.group_of(shard) JOIN pg_class c ON c.oid = relid
    WHERE relkind = 'r' AND (relreplident = 'n' OR (relreplident = 'd' AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = relid AND indisprimary))) ORDER BY shardid LIMIT 1;
    IF FOUND THEN
        PERFORM citus_lab.fail(
            format('cannot use logical replication to transfer shards of the relation %s since it doesn''t have a '
                   'REPLICA IDENTITY or PRIMARY KEY', tab),
            'UPDATE and DELETE commands on the shard will error out during logical replication unless there is a '
            'REPLICA IDENTITY or PRIMARY KEY.',
            'If you wish to continue without a replica identity set the shard_transfer_mode to '
            '''force_logical'' or ''block_writes''.',
            '0A000');
    END IF;
END $$;

CREATE FUNCTION citus_lab.require_movable(shard bigint, source pg_dist_node, target pg_dist_node) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE relid oid := (SELECT logicalrelid FROM pg_dist_shard WHERE shardid = shard);
BEGIN
    IF relid IS NULL THEN
        PERFORM citus_lab.fail('could not find valid entry for shard ' || shard);
    ELSIF citus_lab.kind(relid) = 'reference' THEN
        PERFORM citus_lab.fail(format('table %s is a reference table, moving shard of a reference table is not supported',
                                      citus_lab.table_name(relid)), NULL, NULL, '0A000');
    ELSIF source.nodeid = target.nodeid THEN
        PERFORM citus_lab.fail('cannot move shard to the same node', NULL, NULL, '22023');
    ELSIF NOT target.shouldhaveshards THEN
        PERFORM citus_lab.fail('Moving shards to a node that shouldn''t have a shard is not supported', NULL,
            format('Allow shards on the target node via SELECT * FROM citus_set_node_property('
                   '%L, %s, ''shouldhaveshards'', true);',
                   target.nodename, target.nodeport), '0A000');
    END IF;
    PERFORM citus_lab.require_up(source.nodename, source.nodeport), citus_lab.require_up(target.nodename, target.nodeport);
END $$;

CREATE FUNCTION citus_lab.node_by_id(id int) RETURNS pg_dist_node LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    SELECT * INTO node FROM pg_dist_node WHERE nodeid = id;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('node with node id %s could not be found', id));
    END IF;
    RETURN node;
END $$;

CREATE FUNCTION citus_lab.target_node(name text, port int) RETURNS pg_dist_node LANGUAGE plpgsql AS $$
DECLARE node pg_dist_node;
BEGIN
    SELECT * INTO node FROM pg_dist_node n WHERE n.nodename = name AND n.nodeport = port;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail('Moving shards to a non-existing node is not supported', NULL,
            format('Add the target node via SELECT citus_add_node(%L, %s);', name, port), '0A000');
    END IF;
    RETURN node;
END $$;

-- Moves the group's placements and leaves the old copies to be dropped later. False: it was there already.
CREATE FUNCTION citus_lab.move_group(shard bigint, source_id int, target_id int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE source pg_dist_node := citus_lab.node_by_id(source_id); target pg_dist_node := citus_lab.node_by_id(target_id);
BEGIN
    PERFORM citus_lab.require_movable(shard, source, target);
    IF EXISTS (SELECT FROM pg_dist_placement WHERE shardid = shard AND groupid = target.groupid) THEN
        RAISE WARNING USING MESSAGE = format('shard is already present on node %s:%s', target.nodename, target.nodeport),
            DETAIL = 'Move may have already completed.';
        RETURN false;
    END IF;
    UPDATE pg_dist_placement p SET groupid = target.groupid FROM citus_lab.group_of(shard) g
    WHERE p.shardid = g.shardid AND p.groupid = source.groupid;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('could not find placement matching "%s:%s"', source.nodename, source.nodeport), NULL,
                               'Confirm the placement still exists and try again.', '55000');
    END IF;
    -- object_type 1: a shard's copy; policy_type 2: drop it after success. A copy that comes back is no longer dropped.
    DELETE FROM citus_lab.cleanup c USING citus_lab.group_of(shard) g
    WHERE c.shardid = g.shardid AND c.node_group_id = target.groupid;
    INSERT INTO citus_lab.cleanup (operation_id, object_type, object_name, node_group_id, policy_type, shardid)
    SELECT operation, 1, citus_lab.table_name(g.relid) || '_' || g.shardid, source.groupid, 2, g.shardid
    FROM citus_lab.group_of(shard) g, nextval('pg_dist_operationid_seq') operation;
    RETURN true;
END $$;

-- A move that the session waits for.
CREATE FUNCTION citus_lab.move_now(shard bigint, source pg_dist_node, target pg_dist_node, mode citus.shard_transfer_mode)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    PERFORM citus_lab.require_movable(shard, source, target);
    PERFORM citus_lab.require_table_owner(relid), citus_lab.lock_moves(true, relid) FROM citus_lab.group_of(shard);
    IF mode = 'auto' THEN
        PERFORM citus_lab.require_replica_identity(shard);
    END IF;
    IF citus_lab.move_group(shard, source.nodeid, target.nodeid) THEN
        PERFORM pg_sleep_for(citus_lab.seconds_for(mode, citus_lab.group_bytes(shard)));
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_move_shard_placement(
    shard_id bigint, source_node_id int, target_node_id int, transfer_mode citus.shard_transfer_mode DEFAULT 'auto')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    PERFORM citus_lab.move_now(shard_id, citus_lab.node_by_id(source_node_id),
                               citus_lab.node_by_id(target_node_id), transfer_mode);
END $$;

CREATE FUNCTION pg_catalog.citus_move_shard_placement(
    shard_id bigint, source_node_name text, source_node_port int, target_node_name text, target_node_port int,
    shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    PERFORM citus_lab.move_now(shard_id, citus_lab.require_node(source_node_name, source_node_port),
                               citus_lab.target_node(target_node_name, target_node_port), shard_transfer_mode);
END $$;

-- The node and anchor shard of a distributed schema. Citus moves over other connections, which do not see a schema that
-- this transaction made.
CREATE FUNCTION citus_lab.schema_home(nsp_id oid, OUT shard bigint, OUT node pg_dist_node) LANGUAGE plpgsql AS $$
DECLARE nsp record; first record;
BEGIN
    PERFORM citus_lab.require_coordinator();
    SELECT nspname, nspowner, xmin = pg_current_xact_id_if_assigned()::xid AS mine INTO nsp FROM pg_namespace WHERE oid = nsp_id;
    PERFORM citus_lab.require_owner('schema', nsp.nspname, nsp.nspowner);
    IF NOT EXISTS (SELECT FROM pg_dist_schema WHERE schemaid = nsp_id) THEN
        PERFORM citus_lab.fail(format('schema %s is not a distributed schema', nsp.nspname));
    END IF;
    SELECT s.shardid, p.groupid INTO first FROM pg_dist_schema d JOIN pg_dist_partition t USING (colocationid)
    JOIN pg_dist_shard s USING (logicalrelid) JOIN pg_dist_placement p USING (shardid)
    WHERE d.schemaid = nsp_id ORDER BY s.shardid LIMIT 1;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('cannot move distributed schema %s because it is empty', nsp.nspname));
    ELSIF nsp.mine THEN
        PERFORM citus_lab.fail(format('schema "%s" does not exist', nsp.nspname), NULL, NULL, '3F000');
    END IF;
    shard := first.shardid;
    SELECT * INTO node FROM pg_dist_node n WHERE n.groupid = first.groupid;
END $$;

CREATE FUNCTION pg_catalog.citus_schema_move(
    schema_id regnamespace, target_node_id int, shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE home record;
BEGIN
    SELECT * INTO home FROM citus_lab.schema_home(schema_id);
    PERFORM citus_lab.move_now(home.shard, home.node, citus_lab.node_by_id(target_node_id), shard_transfer_mode);
END $$;

CREATE FUNCTION pg_catalog.citus_schema_move(
    schema_id regnamespace, target_node_name text, target_node_port int,
    shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto')
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE home record;
BEGIN
    SELECT * INTO home FROM citus_lab.schema_home(schema_id);
    PERFORM citus_lab.move_now(home.shard, home.node, citus_lab.target_node(target_node_name, target_node_port),
                               shard_transfer_mode);
END $$;

CREATE PROCEDURE pg_catalog.citus_cleanup_orphaned_resources()
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE dropped int;
BEGIN
    IF citus_lab.local_group() <> 0 THEN RETURN; END IF;
    DELETE FROM citus_lab.cleanup;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    IF dropped > 0 THEN
        RAISE NOTICE 'cleaned up % orphaned resources', dropped;
    END IF;
END $$;
