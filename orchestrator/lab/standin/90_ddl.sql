-- DDL that concerns distributed schemas and tables: event triggers follow it and refuse what Citus refuses.

CREATE FUNCTION citus_lab.schema_created(nsp oid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_lab.require_coordinator();
    IF NOT coalesce(nullif(current_setting('citus.enable_schema_based_sharding', true), '')::boolean, false) THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM pg_class WHERE relnamespace = nsp AND relkind IN ('r', 'p')) THEN
        PERFORM citus_lab.fail('cannot create distributed schema and table in a single statement', NULL,
            'SET citus.enable_schema_based_sharding TO off, or create the schema and table in separate commands.', '0A000');
    END IF;
    PERFORM citus_lab.distribute_schema(nsp);
END $$;

CREATE FUNCTION citus_lab.check_parents(relid oid, is_partition boolean, nsp oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE parent record;
BEGIN
    FOR parent IN SELECT relnamespace FROM pg_inherits JOIN pg_class p ON p.oid = inhparent WHERE inhrelid = relid LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_dist_schema WHERE schemaid IN (nsp, parent.relnamespace));
        IF NOT is_partition THEN
            PERFORM citus_lab.fail('tables in a distributed schema cannot inherit or be inherited');
        ELSIF parent.relnamespace <> nsp THEN
            PERFORM citus_lab.fail('partitioning within a distributed schema is not supported when the parent and the child '
                                   'are in different schemas');
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.table_created(relid oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE tab pg_class; colocation int; parent oid;
BEGIN
    SELECT * INTO tab FROM pg_class WHERE oid = relid AND relkind IN ('r', 'p');
    IF NOT FOUND OR tab.relpersistence = 't' OR citus_lab.kind(relid) IS NOT NULL THEN RETURN; END IF;
    PERFORM citus_lab.check_parents(relid, tab.relispartition, tab.relnamespace);
    SELECT colocationid INTO colocation FROM pg_dist_schema WHERE schemaid = tab.relnamespace;
    IF FOUND THEN
        IF citus_lab.local_group() <> 0 THEN
            PERFORM citus_lab.fail('cannot create tables in a distributed schema from a worker node', NULL,
                                   'Connect to the coordinator node and try again.');
        END IF;
        PERFORM citus_lab.add_schema_table(relid, colocation), citus_lab.check_references(relid);
    ELSIF tab.relispartition THEN
        SELECT inhparent INTO parent FROM pg_inherits WHERE inhrelid = relid AND citus_lab.kind(inhparent) = 'distributed';
        IF FOUND THEN
            PERFORM citus_lab.distribute_table(relid, a.attname, 'default', parent, 1)
            FROM pg_attribute a WHERE attrelid = parent AND attnum = citus_lab.attnum_of(parent);
        END IF;
    END IF;
END $$;

-- Out of a distributed schema a table becomes an ordinary one, into one it moves to that schema's node.
CREATE FUNCTION citus_lab.follow_schema(tab pg_class) RETURNS void LANGUAGE plpgsql AS $$
DECLARE was record; becomes record;
BEGIN
    SELECT s.schemaid, nspname, s.colocationid INTO was FROM pg_dist_partition p JOIN pg_dist_schema s USING (colocationid)
    JOIN pg_namespace n ON n.oid = schemaid WHERE logicalrelid = tab.oid;
    IF was.schemaid = tab.relnamespace THEN RETURN; END IF;
    IF was.schemaid IS NOT NULL THEN
        RAISE NOTICE 'undistributing table % in distributed schema % before altering its schema', tab.relname, was.nspname;
        PERFORM citus_lab.forget_table(tab.oid);
    END IF;
    SELECT nspname, colocationid INTO becomes FROM pg_dist_schema JOIN pg_namespace n ON n.oid = schemaid
    WHERE schemaid = tab.relnamespace;
    IF FOUND AND citus_lab.kind(tab.oid) IS NULL THEN
        RAISE NOTICE 'Moving % into distributed schema %', tab.relname, becomes.nspname;
        PERFORM citus_lab.add_schema_table(tab.oid, becomes.colocationid);
    END IF;
END $$;

CREATE FUNCTION citus_lab.table_altered(relid oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE tab pg_class; kind text := citus_lab.kind(relid);
BEGIN
    SELECT * INTO tab FROM pg_class WHERE oid = relid AND relkind IN ('r', 'p');
    IF NOT FOUND OR tab.relpersistence = 't' THEN RETURN; END IF;
    IF kind IS NOT NULL THEN
        PERFORM citus_lab.require_coordinator();
    END IF;
    PERFORM citus_lab.check_parents(relid, tab.relispartition, tab.relnamespace), citus_lab.follow_schema(tab);
    kind := citus_lab.kind(relid);
    IF kind = 'distributed' THEN
        PERFORM citus_lab.check_unique(relid, citus_lab.attnum_of(relid));
    END IF;
    IF kind IS NOT NULL THEN
        PERFORM citus_lab.check_references(relid);
    END IF;
END $$;

CREATE FUNCTION citus_lab.column_added_with_sequence(sequence_id oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE dependence "char";
BEGIN
    SELECT deptype INTO dependence FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = sequence_id
        AND refclassid = 'pg_class'::regclass AND refobjsubid > 0 AND citus_lab.kind(refobjid) IS NOT NULL;
    IF FOUND THEN
        PERFORM citus_lab.fail(
            format('cannot execute ADD COLUMN commands involving %s when metadata is synchronized to workers',
                   CASE dependence WHEN 'i' THEN 'identity columns' ELSE 'serial pseudotypes' END), NULL, NULL, '0A000');
    END IF;
END $$;

CREATE FUNCTION citus_lab.index_created(index_id oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE idx record;
BEGIN
    SELECT i.*, citus_lab.kind(indrelid) AS kind INTO idx FROM pg_index i WHERE indexrelid = index_id;
    IF idx.kind IS NULL THEN RETURN; END IF;
    PERFORM citus_lab.require_coordinator();
    IF idx.kind = 'distributed' AND idx.indisunique
       AND NOT citus_lab.attnum_of(idx.indrelid) = ANY ((idx.indkey::int2[])[0:idx.indnkeyatts - 1]) THEN
        PERFORM citus_lab.fail('creating unique indexes on non-partition columns is currently unsupported', NULL, NULL, '0A000');
    END IF;
END $$;

CREATE FUNCTION citus_lab.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE did record;
BEGIN
    FOR did IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE NOT in_extension LOOP
        IF did.command_tag = 'CREATE SCHEMA' THEN
            PERFORM citus_lab.schema_created(did.objid);
        ELSIF did.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') THEN
            PERFORM citus_lab.table_created(did.objid);
        ELSIF did.command_tag = 'ALTER TABLE' THEN
            PERFORM citus_lab.table_altered(did.objid);
        ELSIF did.command_tag = 'CREATE INDEX' THEN
            PERFORM citus_lab.index_created(did.objid);
        ELSIF did.command_tag = 'CREATE TRIGGER' THEN
            PERFORM citus_lab.fail(format('triggers are not supported on %s tables',
                                   CASE kind WHEN 'schema' THEN 'distributed' ELSE kind END))
            FROM pg_trigger, citus_lab.kind(tgrelid) WHERE oid = did.objid AND kind IS NOT NULL;
        ELSIF did.command_tag = 'CREATE SEQUENCE' AND tg_tag = 'ALTER TABLE' THEN
            PERFORM citus_lab.column_added_with_sequence(did.objid);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION citus_lab.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE gone record;
BEGIN
    FOR gone IN SELECT d.objid, d.object_type FROM pg_event_trigger_dropped_objects() d
        WHERE (d.object_type = 'table' AND EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = d.objid))
           OR (d.object_type = 'schema' AND EXISTS (SELECT FROM pg_dist_schema WHERE schemaid = d.objid))
    LOOP
        PERFORM citus_lab.require_coordinator();
        IF gone.object_type = 'table' THEN
            PERFORM citus_lab.forget_table(gone.objid);
        ELSE
            PERFORM citus_lab.forget_schema(gone.objid);
        END IF;
    END LOOP;
END $$;

CREATE EVENT TRIGGER citus_lab_after_ddl ON ddl_command_end
    WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO',
              'ALTER TABLE', 'CREATE INDEX', 'CREATE TRIGGER')
    EXECUTE FUNCTION citus_lab.after_ddl();
CREATE EVENT TRIGGER citus_lab_after_drop ON sql_drop EXECUTE FUNCTION citus_lab.after_drop();
