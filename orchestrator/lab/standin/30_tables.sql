-- Distributed schemas, distributed tables and reference tables: which exist, what Citus refuses.

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
    INSERT INTO pg_dist_colocation SELECT nextval('pg_dist_colocationid_seq'), shards, replicas, type, collat RETURNING colocationid $$;

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

-- A distributed table's unique constraints must contain its distribution column.
CREATE FUNCTION citus_lab.check_unique(relid oid, attnum int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = relid AND (indisunique OR indisexclusion)
               AND NOT attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])) THEN
        PERFORM citus_lab.fail(
            format('cannot create constraint on "%s"', (SELECT relname FROM pg_class WHERE oid = relid)),
            'Distributed relations cannot have UNIQUE, EXCLUDE, or PRIMARY KEY constraints that do not include the '
            'partition column (with an equality operator if EXCLUDE).', NULL, '0A000');
    END IF;
END $$;

-- Foreign keys of one distributed table or table in a distributed schema.
CREATE FUNCTION citus_lab.check_references(relid oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fk record; mine int := (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = relid); my_kind text := citus_lab.kind(relid);
BEGIN
    FOR fk IN SELECT c.relname, p.colocationid, citus_lab.kind(confrelid) AS kind, EXISTS (
            SELECT FROM unnest(conkey, confkey) AS k (here, there)
            WHERE here = citus_lab.attnum_of(conrelid) AND there = citus_lab.attnum_of(confrelid)) AS by_distribution_column
        FROM pg_constraint JOIN pg_class c ON c.oid = confrelid LEFT JOIN pg_dist_partition p ON p.logicalrelid = confrelid
        WHERE contype = 'f' AND conrelid = relid AND confrelid <> relid
    LOOP
        IF fk.kind IS NULL AND my_kind <> 'reference' THEN
            PERFORM citus_lab.fail(
                format('referenced table "%s" must be a distributed table or a reference table', fk.relname),
                'To enforce foreign keys, the referencing and referenced rows need to be stored on the same node.',
                format('You could use SELECT create_reference_table(''%s'') to replicate the referenced table to all nodes '
                       'or consider dropping the foreign key', fk.relname), '42P16');
        ELSIF fk.kind <> 'reference' AND my_kind = 'reference' THEN
            PERFORM citus_lab.fail(
                'cannot create foreign key constraint since foreign keys from reference tables and local tables to distributed '
                'tables are not supported',
                'Reference tables and local tables can only have foreign keys to reference tables and local tables', NULL, '0A000');
        ELSIF fk.kind = 'distributed' AND fk.colocationid = mine AND NOT fk.by_distribution_column THEN
            PERFORM citus_lab.fail(
                'cannot create foreign key constraint',
                'Foreign keys are supported in two cases, either in between two colocated tables including partition column in '
                'the same ordinal in the both tables or from distributed to reference tables', NULL, '0A000');
        ELSIF fk.kind <> 'reference' AND fk.colocationid <> mine THEN
            PERFORM citus_lab.fail(
                'cannot create foreign key constraint since relations are not colocated or not referencing a reference table',
                'A distributed table can only have foreign keys if it is referencing another colocated hash distributed table '
                'or a reference table', NULL, '0A000');
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.attnum_of(relid oid) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT substring(partkey FROM ':varattno (\d+)')::int FROM pg_dist_partition WHERE logicalrelid = relid $$;

CREATE FUNCTION pg_catalog.column_to_column_name(table_name regclass, column_var_text text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT attname FROM pg_attribute WHERE attrelid = table_name
    AND attnum = substring(column_var_text FROM ':varattno (\d+)')::int $$;

CREATE FUNCTION citus_lab.require_plain_table(relid oid) RETURNS pg_class LANGUAGE plpgsql AS $$
DECLARE tab pg_class;
BEGIN
    PERFORM citus_lab.require_coordinator();
    SELECT * INTO tab FROM pg_class WHERE oid = relid;
    IF tab.relkind NOT IN ('r', 'p', 'f') THEN
        PERFORM citus_lab.fail(format('%s is not a regular, foreign or partitioned table', tab.relname), NULL, NULL, '42809');
    END IF;
    PERFORM citus_lab.require_table_owner(relid);
    IF citus_lab.kind(relid) IS NOT NULL THEN
        PERFORM citus_lab.fail(format('table "%s" is already distributed', tab.relname), NULL, NULL, '42P16');
    END IF;
    RETURN tab;
END $$;

CREATE FUNCTION citus_lab.colocation_for(tab pg_class, col pg_attribute, mode text, partner regclass, shards int)
RETURNS int LANGUAGE plpgsql AS $$
DECLARE match pg_dist_colocation;
BEGIN
    IF partner IS NOT NULL THEN
        SELECT c.* INTO match FROM pg_dist_partition JOIN pg_dist_colocation c USING (colocationid) WHERE logicalrelid = partner;
        IF match.distributioncolumntype IS DISTINCT FROM col.atttypid THEN
            PERFORM citus_lab.fail(
                format('cannot colocate tables %s and %s', (SELECT relname FROM pg_class WHERE oid = partner), tab.relname),
                format('Distribution column types don''t match for %s and %s.',
                       (SELECT relname FROM pg_class WHERE oid = partner), tab.relname));
        END IF;
    ELSIF mode = 'default' THEN
        SELECT * INTO match FROM pg_dist_colocation WHERE shardcount = shards AND replicationfactor = 1
            AND distributioncolumntype = col.atttypid AND distributioncolumncollation = col.attcollation
        ORDER BY colocationid LIMIT 1;
    END IF;
    RETURN coalesce(match.colocationid, citus_lab.new_colocation(shards, 1, col.atttypid, col.attcollation));
END $$;

CREATE FUNCTION citus_lab.add_hash_shards(relid oid, colocation int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE count int := (SELECT shardcount FROM pg_dist_colocation WHERE colocationid = colocation); homes int[]; low bigint; high bigint;
BEGIN
    SELECT array_agg(groupid ORDER BY shardid) INTO homes FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
    WHERE logicalrelid = (SELECT min(logicalrelid::oid) FROM pg_dist_partition
                          WHERE colocationid = colocation AND logicalrelid <> relid);
    FOR i IN 0 .. count - 1 LOOP
        low := -2147483648 + i * (4294967296 / count);
        high := CASE WHEN i = count - 1 THEN 2147483647 ELSE low + 4294967296 / count - 1 END;
        PERFORM citus_lab.add_shard(relid, ARRAY[coalesce(homes[i + 1], citus_lab.home_of(0, i))], low::text, high::text);
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.distribute_table(relid oid, column_name text, mode text, partner regclass, shards int)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE tab pg_class := citus_lab.require_plain_table(relid); col pg_attribute; colocation int;
BEGIN
    SELECT * INTO col FROM pg_attribute WHERE attrelid = relid AND attname = column_name AND attnum > 0 AND NOT attisdropped;
    IF NOT FOUND THEN
        PERFORM citus_lab.fail(format('column "%s" of relation "%s" does not exist', column_name, tab.relname), NULL, NULL, '42703');
    ELSIF shards NOT BETWEEN 1 AND 64000 THEN
        PERFORM citus_lab.fail(format('%s is outside the valid range for parameter "shard_count" (1 .. 64000)', shards));
    END IF;
    colocation := citus_lab.colocation_for(tab, col, mode, partner, shards);
    PERFORM citus_lab.check_unique(relid, col.attnum);
    INSERT INTO pg_dist_partition (logicalrelid, partmethod, partkey, colocationid) VALUES (relid, 'h',
        format('{VAR :varno 1 :varattno %s :vartype %s :vartypmod %s :varcollid %s :varlevelsup 0 :varnosyn 1 :varattnosyn %1$s '
               ':location -1}', col.attnum, col.atttypid, col.atttypmod, col.attcollation), colocation);
    PERFORM citus_lab.check_references(relid), citus_lab.add_hash_shards(relid, colocation), citus_lab.tell_copied(relid);
    PERFORM citus_lab.distribute_table(inhrelid, column_name, mode, relid, shards) FROM pg_inherits WHERE inhparent = relid;
END $$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type citus.distribution_type DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF distribution_type <> 'hash' THEN
        PERFORM citus_lab.fail('the stand-in only distributes tables by hash', NULL, NULL, '0A000');
    END IF;
    -- Here and not in the SECURITY DEFINER function, because a name without a schema means what the caller's search_path says.
    PERFORM citus_lab.distribute_table(table_name, distribution_column, colocate_with,
        CASE WHEN colocate_with NOT IN ('default', 'none') THEN colocate_with::regclass END,
        coalesce(shard_count, current_setting('citus.shard_count')::int));
END $$;

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE colocation int;
BEGIN
    PERFORM citus_lab.require_plain_table(table_name);
    SELECT colocationid INTO colocation FROM pg_dist_colocation WHERE replicationfactor = -1;
    INSERT INTO pg_dist_partition (logicalrelid, partmethod, colocationid, repmodel)
    VALUES (table_name, 'n', coalesce(colocation, citus_lab.new_colocation(1, -1, 0, 0)), 't');
    PERFORM citus_lab.check_references(table_name);
    PERFORM citus_lab.add_shard(table_name, ARRAY(SELECT groupid FROM pg_dist_node WHERE isactive ORDER BY groupid));
    PERFORM citus_lab.copy_reference_tables(), citus_lab.tell_copied(table_name);
END $$;

-- Nodes that were added later get the reference tables here.
CREATE FUNCTION citus_lab.copy_reference_tables() RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_placement (shardid, groupid)
    SELECT s.shardid, n.groupid FROM pg_dist_partition p JOIN pg_dist_shard s USING (logicalrelid)
    JOIN pg_dist_node n ON n.isactive WHERE p.repmodel = 't'
        AND NOT EXISTS (SELECT FROM pg_dist_placement o WHERE o.shardid = s.shardid AND o.groupid = n.groupid) $$;

CREATE FUNCTION pg_catalog.replicate_reference_tables(shard_transfer_mode citus.shard_transfer_mode DEFAULT 'auto')
RETURNS void LANGUAGE sql AS $$ SELECT citus_lab.require_coordinator(); SELECT citus_lab.copy_reference_tables() $$;

CREATE FUNCTION pg_catalog.undistribute_table(table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE name text := citus_lab.table_name(table_name); kind text := citus_lab.kind(table_name);
BEGIN
    PERFORM citus_lab.require_coordinator(), citus_lab.require_table_owner(table_name);
    IF kind IS NULL THEN
        PERFORM citus_lab.fail('cannot undistribute table because the table is not distributed');
    ELSIF kind = 'schema' THEN
        PERFORM citus_lab.fail(name || ' is not allowed for undistribute_table because it belongs to a distributed schema');
    ELSIF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = table_name AND conrelid <> table_name)
          AND NOT cascade_via_foreign_keys THEN
        PERFORM citus_lab.fail(
            format('cannot complete operation because table %s is referenced by a foreign key', split_part(name, '.', 2)), NULL,
            format('Use cascade option to undistribute all the relations involved in a foreign key relationship with %s by '
                   'executing SELECT undistribute_table(%s, cascade_via_foreign_keys=>true)', name, '$' || '$' || name || '$' || '$'));
    END IF;
    RAISE NOTICE 'creating a new table for %', name;
    RAISE NOTICE 'moving the data of %', name;
    RAISE NOTICE 'dropping the old %', name;
    RAISE NOTICE 'renaming the new table to %', name;
    PERFORM citus_lab.forget_table(table_name);
END $$;

REVOKE EXECUTE ON FUNCTION pg_catalog.replicate_reference_tables FROM PUBLIC;
