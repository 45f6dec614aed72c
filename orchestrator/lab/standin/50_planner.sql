-- Which shard groups a rebalance moves. Single precision throughout, as in Citus: ties and thresholds depend on it.

CREATE FUNCTION pg_catalog.citus_shard_cost_1(bigint) RETURNS real LANGUAGE sql IMMUTABLE AS $$ SELECT 1.0::real $$;
CREATE FUNCTION pg_catalog.citus_node_capacity_1(int) RETURNS real LANGUAGE sql IMMUTABLE AS $$ SELECT 1.0::real $$;
CREATE FUNCTION pg_catalog.citus_shard_allowed_on_node_true(bigint, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT true $$;

CREATE FUNCTION citus_lab.base_cost() RETURNS real LANGUAGE sql STABLE AS $$
    SELECT pg_size_bytes(coalesce(current_setting('citus.rebalancer_by_disk_size_base_cost', true), '100MB'))::real $$;

-- One row per shard group: what moves together. Its id is the shard of its first table.
CREATE FUNCTION citus_lab.shard_groups()
RETURNS TABLE (shardid bigint, colocationid int, index bigint, groupid int, bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT min(b.shardid), p.colocationid, i.index, b.groupid, sum(b.bytes)::bigint
    FROM citus_lab.placement_bytes() b JOIN pg_dist_partition p ON p.logicalrelid = b.relid
    JOIN (SELECT s.shardid, row_number() OVER (PARTITION BY s.logicalrelid ORDER BY s.shardid) AS index
          FROM pg_dist_shard s) i USING (shardid)
    WHERE p.repmodel <> 't' GROUP BY p.colocationid, i.index, b.groupid $$;

CREATE FUNCTION pg_catalog.citus_shard_cost_by_disk_size(bigint) RETURNS real LANGUAGE sql STABLE AS $$
    SELECT bytes::real + citus_lab.base_cost() FROM citus_lab.shard_groups() WHERE shardid = $1 $$;

INSERT INTO pg_catalog.pg_dist_rebalance_strategy VALUES
    ('by_shard_count', false, 'citus_shard_cost_1', 'citus_node_capacity_1', 'citus_shard_allowed_on_node_true', 0, 0, 0),
    ('by_disk_size', true, 'citus_shard_cost_by_disk_size', 'citus_node_capacity_1', 'citus_shard_allowed_on_node_true',
     0.1, 0.01, 0.5);

CREATE FUNCTION pg_catalog.citus_add_rebalance_strategy(
    name name, shard_cost_function regproc, node_capacity_function regproc, shard_allowed_on_node_function regproc,
    default_threshold real, minimum_threshold real DEFAULT 0, improvement_threshold real DEFAULT 0)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_dist_rebalance_strategy VALUES (name, false, shard_cost_function, node_capacity_function,
        shard_allowed_on_node_function, default_threshold, minimum_threshold, improvement_threshold);
    IF node_capacity_function <> 'citus_node_capacity_1'::regproc
       OR shard_allowed_on_node_function <> 'citus_shard_allowed_on_node_true'::regproc THEN
        PERFORM citus_lab.fail('the stand-in only knows the capacity and allowed-on-node functions of Citus'' own strategies',
                               NULL, NULL, '0A000');
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_set_default_rebalance_strategy(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE pg_dist_rebalance_strategy IN SHARE ROW EXCLUSIVE MODE;
    PERFORM citus_lab.strategy(name::name);
    UPDATE pg_dist_rebalance_strategy s SET default_strategy = (s.name = $1);
END $$;

CREATE FUNCTION citus_lab.strategy(wanted name) RETURNS pg_dist_rebalance_strategy LANGUAGE plpgsql AS $$
DECLARE match pg_dist_rebalance_strategy;
BEGIN
    SELECT * INTO match FROM pg_dist_rebalance_strategy WHERE name = wanted OR (wanted IS NULL AND default_strategy);
    IF NOT FOUND THEN
        PERFORM citus_lab.fail('could not find rebalance strategy with name ' || coalesce(wanted, ''));
    END IF;
    RETURN match;
END $$;

-- Shard groups with their cost and the number of the set that is balanced together: a colocation group with at least as
-- many shard groups as eligible nodes stands alone (pool = its id, first); all others are one set.
CREATE FUNCTION citus_lab.costs(cost_function regproc, only_colocation int, excluded bigint[])
RETURNS TABLE (pool bigint, shardid bigint, groupid int, cost real) LANGUAGE plpgsql AS $$
DECLARE cost text := CASE WHEN cost_function = 'citus_shard_cost_by_disk_size'::regproc
                     THEN 'g.bytes::real + citus_lab.base_cost()' ELSE format('%s(g.shardid)', cost_function) END;
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT CASE WHEN count(*) OVER (PARTITION BY colocationid) >= e.eligible THEN colocationid::bigint ELSE 9999999999 END,
               g.shardid, g.groupid, %s
        FROM citus_lab.shard_groups() g, (SELECT count(*) AS eligible FROM pg_dist_node WHERE shouldhaveshards AND isactive) e
        WHERE ($1 IS NULL OR g.colocationid = $1) AND g.shardid <> ALL ($2)$q$, cost) USING only_colocation, excluded;
END $$;

CREATE FUNCTION citus_lab.plan(
    strategy pg_dist_rebalance_strategy, threshold real DEFAULT NULL, improvement real DEFAULT NULL,
    max_moves int DEFAULT 1000000,
    drain_only boolean DEFAULT false, only_colocation int DEFAULT NULL, excluded bigint[] DEFAULT '{}')
RETURNS TABLE (shardid bigint, source int, target int) LANGUAGE plpgsql AS $$
DECLARE
    by_size boolean := strategy.shard_cost_function = 'citus_shard_cost_by_disk_size'::regproc;
    pool record; left_over int := max_moves; move record;
BEGIN
    IF by_size AND cardinality(citus_lab.warn_unreadable()) > 0 THEN
        PERFORM citus_lab.fail('cannot get the size because of a connection error', NULL, NULL, '08006');
    END IF;
    IF threshold < strategy.minimum_threshold THEN
        RAISE WARNING USING MESSAGE = 'the given threshold is lower than the minimum threshold allowed by the rebalance '
            'strategy, using the minimum allowed threshold instead',
            DETAIL = format('Using threshold of %s', strategy.minimum_threshold);
    END IF;
    threshold := greatest(coalesce(threshold, strategy.default_threshold), strategy.minimum_threshold);
    improvement := coalesce(improvement, strategy.improvement_threshold);
    FOR pool IN SELECT c.pool, array_agg(c.shardid ORDER BY c.cost DESC, c.shardid) AS ids,
            array_agg(c.cost ORDER BY c.cost DESC, c.shardid) AS costs,
            array_agg(n.nodeid ORDER BY c.cost DESC, c.shardid) AS homes,
            citus_lab.fill(array_agg(c.cost ORDER BY c.shardid), array_agg(n.nodeid ORDER BY c.shardid)) AS fill
        FROM citus_lab.costs(strategy.shard_cost_function, only_colocation, excluded) c JOIN pg_dist_node n USING (groupid)
        GROUP BY c.pool ORDER BY c.pool
    LOOP
        FOR move IN SELECT * FROM citus_lab.balance(pool.ids, pool.costs, pool.homes, pool.fill, threshold,
                                                    improvement, drain_only,
                                                    left_over) LOOP
            shardid := move.shardid; source := move.source; target := move.target; left_over := left_over - 1;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;

-- The cost on each node, by node id, added up in order of shard id: the order decides the rounding.
CREATE FUNCTION citus_lab.fill(costs real[], homes int[]) RETURNS real[] LANGUAGE plpgsql STABLE AS $$
DECLARE fill real[] := array_fill(0::real, ARRAY[(SELECT max(nodeid) FROM pg_dist_node)]);
BEGIN
    FOR i IN 1 .. cardinality(homes) LOOP fill[homes[i]] := fill[homes[i]] + costs[i]; END LOOP;
    RETURN fill;
END $$;

-- One pool. `ids`, `costs` and `homes` describe its shard groups, the most expensive first, equal cost by lower id; `fill` is
-- the cost on each node, by node id.
CREATE FUNCTION citus_lab.balance(
    ids bigint[], costs real[], homes int[], fill real[], threshold real, improvement real, drain_only boolean, max_moves int)
RETURNS TABLE (shardid bigint, source int, target int) LANGUAGE plpgsql AS $$
DECLARE
    allowed int[]; nodes int[]; average real; found record; pick int; ignored int := 0;
    max_logged int := coalesce(current_setting('citus.max_rebalancer_logged_ignored_moves', true), '5');
BEGIN
    SELECT array_agg(nodeid ORDER BY nodeid) INTO allowed FROM pg_dist_node WHERE shouldhaveshards AND isactive;
    IF allowed IS NULL THEN RETURN; END IF;
    FOR taken IN 1 .. max_moves LOOP
        SELECT array_agg(n ORDER BY fill[n], n) INTO nodes FROM unnest(allowed) n;
        SELECT min(i) INTO pick FROM generate_subscripts(homes, 1) i WHERE average IS NULL AND homes[i] <> ALL (allowed);
        IF pick IS NOT NULL THEN
            target := nodes[1];
        ELSIF drain_only THEN
            EXIT;
        ELSE
            average := coalesce(average, citus_lab.total(fill) / cardinality(allowed)::real);
            SELECT * INTO found FROM citus_lab.next_move(ids, costs, homes, fill, nodes, (1::real - threshold) * average,
                (1::real + threshold) * average, improvement, ignored, max_logged);
            pick := found.pick; target := found.target; ignored := found.ignored;
        END IF;
        EXIT WHEN pick IS NULL;
        shardid := ids[pick]; source := homes[pick]; homes[pick] := target;
        fill[source] := fill[source] - costs[pick]; fill[target] := fill[target] + costs[pick];
        RETURN NEXT;
    END LOOP;
    PERFORM citus_lab.tell_number_ignored(ignored, max_logged, improvement);
END $$;

-- Added up in order of node id.
CREATE FUNCTION citus_lab.total(fill real[]) RETURNS real LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE total real := 0; one real;
BEGIN
    FOREACH one IN ARRAY fill LOOP total := total + one; END LOOP;
    RETURN total;
END $$;

-- The first move worth making, from the fullest node to the emptiest; `nodes` is sorted from the emptiest to the fullest.
CREATE FUNCTION citus_lab.next_move(
    ids bigint[], costs real[], homes int[], fill real[], nodes int[], low real, high real, improvement real,
    INOUT ignored int, max_logged int, OUT pick int, OUT target int) LANGUAGE plpgsql AS $$
DECLARE source int; gain real;
BEGIN
    <<sources>>
    FOR s IN REVERSE cardinality(nodes) .. 1 LOOP
        source := nodes[s];
        EXIT WHEN fill[source] <= low;
        FOREACH target IN ARRAY nodes LOOP
            CONTINUE sources WHEN fill[target] >= high OR (fill[target] >= low AND fill[source] <= high);
            FOR i IN 1 .. cardinality(ids) LOOP
                CONTINUE WHEN homes[i] <> source;
                gain := citus_lab.gain(fill[source], fill[target], costs[i]);
                IF gain >= improvement THEN
                    pick := i;
                    RETURN;
                ELSIF gain IS NOT NULL THEN
                    ignored := ignored + 1;
                    IF ignored <= max_logged THEN
                        PERFORM citus_lab.tell_ignored(ids[i], source, target, gain, improvement);
                    END IF;
                END IF;
            END LOOP;
        END LOOP;
    END LOOP;
END $$;

-- What a move brings, relative to what it moves. Infinity: it leaves the target no fuller than the source. Null: no use.
CREATE FUNCTION citus_lab.gain(source real, target real, cost real) RETURNS real LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE source_after real := source - cost; target_after real := target + cost;
BEGIN
    IF target_after <= source_after THEN RETURN 'infinity'; END IF;
    IF target_after > source OR (target_after = source AND source_after <= target) THEN RETURN NULL; END IF;
    RETURN greatest(source - target_after, source_after - target) / least(target_after - target, source - source_after);
END $$;

CREATE FUNCTION citus_lab.tell_ignored(shard bigint, source int, target int, gain real, improvement real) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE s pg_dist_node; t pg_dist_node;
BEGIN
    SELECT * INTO s FROM pg_dist_node WHERE nodeid = source;
    SELECT * INTO t FROM pg_dist_node WHERE nodeid = target;
    RAISE NOTICE USING
        MESSAGE = format('Ignoring move of shard %s from %s:%s to %s:%s, because the move only brings a small improvement '
                         'relative to the shard its size', shard, s.nodename, s.nodeport, t.nodename, t.nodeport),
        DETAIL = format('The balance improvement of %s is lower than the improvement_threshold of %s',
                        citus_lab.six_digits(gain), improvement);
END $$;

CREATE FUNCTION citus_lab.six_digits(value real) RETURNS text LANGUAGE sql IMMUTABLE SET extra_float_digits = 0 AS $$
    SELECT value::text $$;

CREATE FUNCTION citus_lab.tell_number_ignored(ignored int, max_logged int, improvement real) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF ignored > 0 THEN
        RAISE NOTICE USING
            MESSAGE = format('Ignored %s moves, %s of which are shown in notices above', ignored,
                             CASE WHEN ignored <= max_logged THEN 'all' ELSE max_logged::text END),
            HINT = format('If you do want these moves to happen, try changing improvement_threshold to a lower value than what '
                          'it is now (%s).', improvement);
    END IF;
END $$;

-- One row per table of each group that moves. shard_size is 0 in Citus 13.2, too.
CREATE FUNCTION pg_catalog.get_rebalance_table_shards_plan(
    relation regclass DEFAULT NULL, threshold real DEFAULT NULL, max_shard_moves int DEFAULT 1000000,
    excluded_shard_list bigint[] DEFAULT '{}', drain_only boolean DEFAULT false, rebalance_strategy name DEFAULT NULL,
    improvement_threshold real DEFAULT NULL)
RETURNS TABLE (table_name regclass, shardid bigint, shard_size bigint, sourcename text, sourceport int,
    targetname text, targetport int)
LANGUAGE plpgsql AS $$
DECLARE only_colocation int;
BEGIN
    IF relation IS NOT NULL THEN
        SELECT colocationid INTO only_colocation FROM pg_dist_partition WHERE logicalrelid = relation;
        IF NOT FOUND THEN
            PERFORM citus_lab.fail(format('table %s is a regular postgres table, you can only move shards of a citus table',
                                          citus_lab.table_name(relation)), NULL, NULL, '0A000');
        END IF;
    END IF;
    RETURN QUERY
        SELECT g.relid::regclass, g.shardid, 0::bigint, s.nodename, s.nodeport, t.nodename, t.nodeport
        FROM citus_lab.plan(citus_lab.strategy(rebalance_strategy), threshold, improvement_threshold, max_shard_moves,
                            drain_only, only_colocation, excluded_shard_list) WITH ORDINALITY p (shardid, source, target, n)
        CROSS JOIN LATERAL citus_lab.group_of(p.shardid) g
        JOIN pg_dist_node s ON s.nodeid = p.source JOIN pg_dist_node t ON t.nodeid = p.target
        ORDER BY p.n, g.shardid;
END $$;

-- All shards that move with this one.
CREATE FUNCTION citus_lab.group_of(shard bigint) RETURNS TABLE (relid oid, shardid bigint) LANGUAGE sql STABLE AS $$
    SELECT o.logicalrelid::oid, o.shardid FROM pg_dist_shard s JOIN pg_dist_partition p USING (logicalrelid)
    JOIN pg_dist_partition q USING (colocationid)
    JOIN pg_dist_shard o ON o.logicalrelid = q.logicalrelid AND o.shardminvalue IS NOT DISTINCT FROM s.shardminvalue
    WHERE s.shardid = shard $$;

GRANT SELECT ON pg_catalog.pg_dist_rebalance_strategy TO PUBLIC;
