-- What is there before a statement of the corpus runs: row-sharded tables, a reference table, a local one, two tenants.
CREATE SCHEMA lr;
CREATE TABLE lr.orders (tenant_id bigint, id bigint, v int, note text, PRIMARY KEY (tenant_id, id));
SELECT create_distributed_table('lr.orders', 'tenant_id', shard_count := 8);
CREATE TABLE lr.items (tenant_id bigint, id bigint, order_id bigint, qty int, PRIMARY KEY (tenant_id, id));
SELECT create_distributed_table('lr.items', 'tenant_id', colocate_with := 'lr.orders');
CREATE TABLE lr.other (key bigint PRIMARY KEY, v int);
SELECT create_distributed_table('lr.other', 'key', colocate_with := 'none', shard_count := 8);
CREATE TABLE lr.countries (code text PRIMARY KEY, name text);
SELECT create_reference_table('lr.countries');
CREATE TABLE lr.local (id bigint PRIMARY KEY, v int);
CREATE SCHEMA la;
SELECT citus_schema_distribute('la');
CREATE TABLE la.t (id bigint PRIMARY KEY, v int);
CREATE TABLE la.u (id bigint PRIMARY KEY, t_id bigint);
CREATE SCHEMA lb;
SELECT citus_schema_distribute('lb');
CREATE TABLE lb.t (id bigint PRIMARY KEY, v int);
