-- Row-sharded tables and reference tables: which exist, what Citus refuses.

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
    fk record; mine int := (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = relid);
    my_kind text := citus_lab.kind(relid);
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
                'Reference tables and local tables can only have foreign keys to reference tables and local tables',
                NULL, '0A000');
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
DECLARE count int := (SELECT shardcount FROM pg_dist_colocation WHERE colocationid = colocation);
    homes int[]; low bigint; high bigint;
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
        PERFORM citus_lab.fail(format('column "%s" of relation "%s" does not exist', column_name, tab.relname), NULL,
                               NULL, '42703');
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
                   'executing SELECT undistribute_table(%s, cascade_via_foreign_keys=>true)',
                   name, '$' || '$' || name || '$' || '$'));
    END IF;
    RAISE NOTICE 'creating a new table for %', name;
    RAISE NOTICE 'moving the data of %', name;
    RAISE NOTICE 'dropping the old %', name;
    RAISE NOTICE 'renaming the new table to %', name;
    PERFORM citus_lab.forget_table(table_name);
END $$;

REVOKE EXECUTE ON FUNCTION pg_catalog.replicate_reference_tables FROM PUBLIC;
