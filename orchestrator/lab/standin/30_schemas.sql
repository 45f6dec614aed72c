-- Distributed schemas: which exist, what lies in them, what Citus refuses.

CREATE FUNCTION citus_lab.table_name(relid oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = relid $$;

CREATE FUNCTION citus_lab.kind(relid oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p.partmethod = 'h' THEN 'distributed' WHEN p.repmodel = 't' THEN 'reference'
                WHEN s.schemaid IS NOT NULL THEN 'schema' ELSE 'local' END
    FROM pg_dist_partition p LEFT JOIN pg_dist_schema s USING (colocationid) WHERE p.logicalrelid = relid $$;

CREATE FUNCTION citus_lab.require_owner(kind text, name name, owner oid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_has_role(citus_lab.caller(), owner, 'USAGE') THEN
        PERFORM citus_lab.fail(format('must be owner of %s %s', kind, name), NULL, NULL, '42501');
    END IF;
END $$;

CREATE FUNCTION citus_lab.require_table_owner(relid oid) RETURNS void LANGUAGE sql AS $$
    SELECT citus_lab.require_owner('table', relname, relowner) FROM pg_class WHERE oid = relid $$;

-- New shard groups go to the nodes in turn, by colocation id.
CREATE FUNCTION citus_lab.home_of(colocation int, shard_index int DEFAULT 0) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT groups[(colocation + shard_index) % cardinality(groups) + 1] FROM (
        SELECT array_agg(groupid ORDER BY nodeid) AS groups FROM pg_dist_node WHERE isactive AND shouldhaveshards) n $$;

CREATE FUNCTION citus_lab.add_shard(relid oid, groups int[], low text DEFAULT NULL, high text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE id bigint;
BEGIN
    INSERT INTO pg_dist_shard (logicalrelid, shardminvalue, shardmaxvalue) VALUES (relid, low, high) RETURNING shardid INTO id;
    INSERT INTO pg_dist_placement (shardid, groupid) SELECT id, g FROM unnest(groups) g;
END $$;

CREATE FUNCTION citus_lab.forget_table(relid oid) RETURNS void LANGUAGE sql AS $$
    DELETE FROM pg_dist_placement WHERE shardid IN (SELECT shardid FROM pg_dist_shard WHERE logicalrelid = relid);
    DELETE FROM pg_dist_shard WHERE logicalrelid = relid;
    WITH gone AS (DELETE FROM pg_dist_partition WHERE logicalrelid = relid RETURNING colocationid)
    DELETE FROM pg_dist_colocation c USING gone WHERE c.colocationid = gone.colocationid
        AND NOT EXISTS (SELECT FROM pg_dist_schema s WHERE s.colocationid = c.colocationid)
        AND NOT EXISTS (SELECT FROM pg_dist_partition p WHERE p.colocationid = c.colocationid AND p.logicalrelid <> relid) $$;

CREATE FUNCTION citus_lab.forget_schema(nsp oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE id int;
BEGIN
    DELETE FROM pg_dist_schema WHERE schemaid = nsp RETURNING colocationid INTO id;
    PERFORM citus_lab.forget_table(logicalrelid) FROM pg_dist_partition WHERE colocationid = id;
    DELETE FROM pg_dist_colocation WHERE colocationid = id;
END $$;

-- Citus copies the rows of a table that is not empty into its shards and says so.
CREATE FUNCTION citus_lab.tell_copied(relid oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE filled boolean := false;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = relid) = 'r' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', relid::regclass) INTO filled;
    END IF;
    IF filled THEN
        RAISE NOTICE 'Copying data from local table...';
        RAISE NOTICE USING MESSAGE = 'copying the data has completed',
            DETAIL = 'The local data in the table is no longer visible, but is still on disk.',
            HINT = format('To remove the local data, run: SELECT truncate_local_data_after_distributing_table(%1$s%2$s%1$s)',
                          '$' || '$', citus_lab.table_name(relid));
    END IF;
END $$;

-- All tables of a distributed schema lie on one node: that of its first table.
CREATE FUNCTION citus_lab.add_schema_table(relid oid, colocation int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE home int;
BEGIN
    PERFORM pg_advisory_xact_lock(13201, colocation);
    SELECT groupid INTO home FROM pg_dist_partition JOIN pg_dist_shard USING (logicalrelid)
        JOIN pg_dist_placement USING (shardid) WHERE colocationid = colocation LIMIT 1;
    INSERT INTO pg_dist_partition (logicalrelid, partmethod, colocationid) VALUES (relid, 'n', colocation);
    PERFORM citus_lab.add_shard(relid, ARRAY[coalesce(home, citus_lab.home_of(colocation))]), citus_lab.tell_copied(relid);
END $$;

CREATE FUNCTION citus_lab.check_foreign_keys(nsp oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE fk record;
BEGIN
    FOR fk IN SELECT c.conname, c.conrelid, c.confrelid, child.relnamespace = nsp AS leaves
        FROM pg_constraint c JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
        WHERE contype = 'f' AND (child.relnamespace = nsp) <> (parent.relnamespace = nsp)
        ORDER BY child.relnamespace = nsp DESC, c.oid
    LOOP
        CONTINUE WHEN fk.leaves AND citus_lab.kind(fk.confrelid) = 'reference';
        PERFORM citus_lab.fail(
            CASE WHEN fk.leaves THEN 'foreign keys from distributed schemas can only point to the same distributed schema '
                                     'or reference tables in regular schemas'
                 ELSE 'cannot create foreign keys to tables in a distributed schema from another schema' END,
            format('"%s" references "%s" via foreign key constraint "%s"', citus_lab.table_name(fk.conrelid),
                   citus_lab.table_name(fk.confrelid), fk.conname));
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.check_table_of_schema(relid oid, relname name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relid AND NOT tgisinternal) THEN
        PERFORM citus_lab.fail(format('cannot distribute relation "%s" because it has triggers', relname), NULL,
                               format('Consider dropping all the triggers on "%s" and retry.', relname));
    ELSIF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                  WHERE relid IN (i.inhrelid, i.inhparent) AND NOT c.relispartition) THEN
        PERFORM citus_lab.fail('tables in a distributed schema cannot inherit or be inherited');
    END IF;
END $$;

CREATE FUNCTION citus_lab.new_colocation(shards int, replicas int, type oid, collat oid) RETURNS int LANGUAGE sql AS $$
    INSERT INTO pg_dist_colocation SELECT nextval('pg_dist_colocationid_seq'), shards, replicas, type, collat
    RETURNING colocationid $$;

CREATE FUNCTION pg_catalog.citus_schema_distribute(schemaname regnamespace) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE nsp pg_namespace; tab record; colocation int;
BEGIN
    PERFORM citus_lab.require_coordinator();
    SELECT * INTO nsp FROM pg_namespace WHERE oid = schemaname;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('schema with OID %s does not exist', schemaname::oid), NULL, NULL, '3F000');
    END IF;
    PERFORM citus_lab.require_owner('schema', nsp.nspname, nsp.nspowner);
    IF nsp.nspname IN ('public', 'information_schema', 'citus', 'citus_lab') OR nsp.nspname LIKE 'pg\_%' THEN
        PERFORM citus_lab.fail(format('%s schema cannot be distributed', nsp.nspname));
    END IF;
    PERFORM pg_advisory_xact_lock(13200, nsp.oid::int);
    IF EXISTS (SELECT FROM pg_dist_schema WHERE schemaid = nsp.oid) THEN
        RAISE NOTICE 'schema % is already distributed', nsp.nspname;
        RETURN;
    END IF;
    FOR tab IN SELECT oid, relname FROM pg_class WHERE relnamespace = nsp.oid AND relkind IN ('r', 'p') ORDER BY oid LOOP
        PERFORM citus_lab.require_table_owner(tab.oid);
        IF citus_lab.kind(tab.oid) IS NOT NULL THEN
            PERFORM citus_lab.fail('distributed schema cannot have distributed tables', NULL,
                                   'Undistribute distributed tables before ''citus_schema_distribute''.');
        END IF;
    END LOOP;
    PERFORM citus_lab.check_foreign_keys(nsp.oid);
    RAISE NOTICE 'distributing the schema %', nsp.nspname;
    colocation := citus_lab.distribute_schema(nsp.oid);
    FOR tab IN SELECT oid, relname FROM pg_class WHERE relnamespace = nsp.oid AND relkind IN ('r', 'p') ORDER BY oid LOOP
        PERFORM citus_lab.check_table_of_schema(tab.oid, tab.relname), citus_lab.add_schema_table(tab.oid, colocation);
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.distribute_schema(nsp oid) RETURNS int LANGUAGE sql AS $$
    INSERT INTO pg_dist_schema VALUES (nsp, citus_lab.new_colocation(1, 1, 0, 0)) RETURNING colocationid $$;

CREATE FUNCTION pg_catalog.citus_schema_undistribute(schemaname regnamespace) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE nsp pg_namespace;
BEGIN
    PERFORM citus_lab.require_coordinator();
    SELECT * INTO nsp FROM pg_namespace WHERE oid = schemaname;
    PERFORM citus_lab.require_owner('schema', nsp.nspname, nsp.nspowner);
    IF NOT EXISTS (SELECT FROM pg_dist_schema WHERE schemaid = schemaname) THEN
        PERFORM citus_lab.fail(format('schema %s is not distributed', nsp.nspname));
    END IF;
    PERFORM citus_lab.require_table_owner(oid) FROM pg_class WHERE relnamespace = nsp.oid AND relkind IN ('r', 'p');
    RAISE NOTICE 'undistributing schema %', nsp.nspname;
    PERFORM citus_lab.forget_schema(nsp.oid);
END $$;
