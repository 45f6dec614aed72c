-- Catalog of the stand-in: types, tables and their rights as Citus 13.2 has them.
-- Runs as superuser with allow_system_table_mods on. Whatever is not Citus' own lives in schema citus_lab.

CREATE SCHEMA citus;
CREATE SCHEMA citus_lab;
GRANT USAGE ON SCHEMA citus_lab TO PUBLIC;
COMMENT ON SCHEMA citus_lab IS 'Stand-in for Citus: placement of shards is simulated';

CREATE TYPE citus.shard_transfer_mode AS ENUM ('auto', 'force_logical', 'block_writes');
CREATE TYPE citus.distribution_type AS ENUM ('hash', 'range', 'append');
CREATE TYPE pg_catalog.noderole AS ENUM ('primary', 'secondary', 'unavailable');
CREATE TYPE pg_catalog.citus_job_status AS ENUM
    ('scheduled', 'running', 'finished', 'cancelling', 'cancelled', 'failing', 'failed');
CREATE TYPE pg_catalog.citus_task_status AS ENUM
    ('blocked', 'runnable', 'running', 'done', 'cancelling', 'error', 'unscheduled', 'cancelled');

CREATE SEQUENCE pg_catalog.pg_dist_groupid_seq;
CREATE SEQUENCE pg_catalog.pg_dist_node_nodeid_seq;
CREATE SEQUENCE pg_catalog.pg_dist_colocationid_seq;
CREATE SEQUENCE pg_catalog.pg_dist_shardid_seq START 102008;
CREATE SEQUENCE pg_catalog.pg_dist_placement_placementid_seq;
CREATE SEQUENCE pg_catalog.pg_dist_background_job_job_id_seq;
CREATE SEQUENCE pg_catalog.pg_dist_background_task_task_id_seq;
CREATE SEQUENCE pg_catalog.pg_dist_cleanup_recordid_seq;
CREATE SEQUENCE pg_catalog.pg_dist_operationid_seq;

CREATE TABLE pg_catalog.pg_dist_node (
    nodeid int PRIMARY KEY DEFAULT nextval('pg_catalog.pg_dist_node_nodeid_seq'),
    groupid int NOT NULL DEFAULT nextval('pg_catalog.pg_dist_groupid_seq'),
    nodename text NOT NULL, nodeport int NOT NULL, noderack text NOT NULL DEFAULT 'default',
    hasmetadata boolean NOT NULL DEFAULT true, isactive boolean NOT NULL DEFAULT true,
    noderole pg_catalog.noderole NOT NULL DEFAULT 'primary', nodecluster name NOT NULL DEFAULT 'default',
    metadatasynced boolean DEFAULT true, shouldhaveshards boolean NOT NULL DEFAULT true,
    nodeisclone boolean NOT NULL DEFAULT false, nodeprimarynodeid int NOT NULL DEFAULT 0,
    UNIQUE (nodename, nodeport));

CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass PRIMARY KEY, partmethod "char" NOT NULL, partkey text,
    colocationid int NOT NULL DEFAULT 0, repmodel "char" NOT NULL DEFAULT 's', autoconverted boolean DEFAULT false);
CREATE INDEX ON pg_catalog.pg_dist_partition (colocationid);

CREATE TABLE pg_catalog.pg_dist_shard (
    logicalrelid regclass NOT NULL, shardid bigint PRIMARY KEY DEFAULT nextval('pg_catalog.pg_dist_shardid_seq'),
    shardstorage "char" NOT NULL DEFAULT 't', shardminvalue text, shardmaxvalue text);
CREATE INDEX ON pg_catalog.pg_dist_shard (logicalrelid);

CREATE TABLE pg_catalog.pg_dist_placement (
    placementid bigint PRIMARY KEY DEFAULT nextval('pg_catalog.pg_dist_placement_placementid_seq'),
    shardid bigint NOT NULL, shardstate int NOT NULL DEFAULT 1, shardlength bigint NOT NULL DEFAULT 0,
    groupid int NOT NULL);
CREATE UNIQUE INDEX ON pg_catalog.pg_dist_placement (shardid, groupid);
CREATE INDEX ON pg_catalog.pg_dist_placement (groupid);

CREATE TABLE pg_catalog.pg_dist_colocation (
    colocationid int PRIMARY KEY, shardcount int NOT NULL, replicationfactor int NOT NULL,
    distributioncolumntype oid NOT NULL, distributioncolumncollation oid NOT NULL);

CREATE TABLE pg_catalog.pg_dist_schema (schemaid oid PRIMARY KEY, colocationid int NOT NULL UNIQUE);

CREATE TABLE pg_catalog.pg_dist_object (
    classid oid NOT NULL, objid oid NOT NULL, objsubid int NOT NULL, type text, object_names text[],
    object_args text[], distribution_argument_index int, colocationid int, force_delegation boolean,
    PRIMARY KEY (classid, objid, objsubid));

CREATE TABLE pg_catalog.pg_dist_rebalance_strategy (
    name name PRIMARY KEY, default_strategy boolean NOT NULL DEFAULT false, shard_cost_function regproc NOT NULL,
    node_capacity_function regproc NOT NULL, shard_allowed_on_node_function regproc NOT NULL,
    default_threshold real NOT NULL, minimum_threshold real NOT NULL DEFAULT 0,
    improvement_threshold real NOT NULL DEFAULT 0);

CREATE TABLE pg_catalog.pg_dist_authinfo (
    nodeid int NOT NULL, rolename name NOT NULL, authinfo text NOT NULL, PRIMARY KEY (nodeid, rolename));
CREATE TABLE pg_catalog.pg_dist_poolinfo (nodeid int PRIMARY KEY, poolinfo text NOT NULL);

-- Every node of a real cluster has its own jobs, so these tables carry the node group, and the views of Citus' names
-- show those of the node that the session is on.
CREATE TABLE citus_lab.background_job (
    groupid int NOT NULL, job_id bigint NOT NULL, state pg_catalog.citus_job_status NOT NULL DEFAULT 'scheduled',
    job_type name NOT NULL, description text NOT NULL, started_at timestamptz, finished_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (groupid, job_id));

CREATE TABLE citus_lab.background_task (
    groupid int NOT NULL, job_id bigint NOT NULL, task_id bigint NOT NULL, owner regrole NOT NULL, pid int DEFAULT 0,
    status pg_catalog.citus_task_status NOT NULL DEFAULT 'runnable', command text NOT NULL, retry_count int DEFAULT 0,
    not_before timestamptz DEFAULT '2000-01-01 00:00:00+00', message text NOT NULL DEFAULT '', nodes_involved int[],
    shardid bigint, transfer_mode citus.shard_transfer_mode, bytes bigint, began_at timestamptz, duration interval,
    PRIMARY KEY (groupid, job_id, task_id),
    FOREIGN KEY (groupid, job_id) REFERENCES citus_lab.background_job);

CREATE TABLE citus_lab.background_task_depend (
    groupid int NOT NULL, job_id bigint NOT NULL, task_id bigint NOT NULL, depends_on bigint NOT NULL,
    PRIMARY KEY (groupid, job_id, task_id, depends_on));

CREATE TABLE citus_lab.cleanup (
    record_id bigint PRIMARY KEY DEFAULT nextval('pg_catalog.pg_dist_cleanup_recordid_seq'),
    operation_id bigint NOT NULL, object_type int NOT NULL, object_name text NOT NULL, node_group_id int NOT NULL,
    policy_type int NOT NULL, shardid bigint, created_at timestamptz NOT NULL DEFAULT clock_timestamp());

-- The machines that answer, and whether they do: citus_add_node refuses any other.
CREATE TABLE citus_lab.host (
    nodename text, nodeport int, up boolean NOT NULL DEFAULT true, PRIMARY KEY (nodename, nodeport));

-- How long the simulation takes. A background move takes its fixed time plus bytes over throughput.
CREATE TABLE citus_lab.settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    start_delay interval NOT NULL DEFAULT '0.3 s',
    logical_fixed interval NOT NULL DEFAULT '0.25 s',
    logical_bytes_per_second double precision NOT NULL DEFAULT 400e6,
    block_writes_fixed interval NOT NULL DEFAULT '0.05 s',
    block_writes_bytes_per_second double precision NOT NULL DEFAULT 600e6,
    retry_delay_factor double precision NOT NULL DEFAULT 1);
INSERT INTO citus_lab.settings DEFAULT VALUES;

-- Moves of this shard (null: of any) fail with this message the next `remaining` times.
CREATE TABLE citus_lab.fault (
    fault_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, shard_id bigint, message text NOT NULL,
    remaining int NOT NULL DEFAULT 1);

-- Bytes that a shard is said to have, whatever is in the table.
CREATE TABLE citus_lab.size_override (shardid bigint PRIMARY KEY, bytes bigint NOT NULL);

CREATE TABLE citus_lab.installed (digest text NOT NULL);

-- The node group that this session is on. The lab opens sessions that come in through the port of a worker with
-- citus_lab.node_id set; without it the session is on the coordinator, whose group is 0.
CREATE FUNCTION citus_lab.local_group() RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT groupid FROM pg_catalog.pg_dist_node
                     WHERE nodeid = nullif(current_setting('citus_lab.node_id', true), '')::int), 0) $$;

CREATE VIEW pg_catalog.pg_dist_local_group AS SELECT citus_lab.local_group() AS groupid;
CREATE VIEW pg_catalog.pg_dist_background_job AS
    SELECT job_id, state, job_type, description, started_at, finished_at
    FROM citus_lab.background_job WHERE groupid = (SELECT citus_lab.local_group());
CREATE VIEW pg_catalog.pg_dist_background_task AS
    SELECT job_id, task_id, owner, pid, status, command, retry_count, not_before, message, nodes_involved
    FROM citus_lab.background_task WHERE groupid = (SELECT citus_lab.local_group());
CREATE VIEW pg_catalog.pg_dist_background_task_depend AS
    SELECT job_id, task_id, depends_on
    FROM citus_lab.background_task_depend WHERE groupid = (SELECT citus_lab.local_group());
-- Citus keeps these records where the operation ran: on the coordinator.
CREATE VIEW pg_catalog.pg_dist_cleanup AS
    SELECT record_id, operation_id, object_type, object_name, node_group_id, policy_type
    FROM citus_lab.cleanup WHERE (SELECT citus_lab.local_group()) = 0;

GRANT SELECT ON pg_catalog.pg_dist_node, pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard,
    pg_catalog.pg_dist_placement, pg_catalog.pg_dist_colocation, pg_catalog.pg_dist_schema, pg_catalog.pg_dist_object,
    pg_catalog.pg_dist_rebalance_strategy, pg_catalog.pg_dist_poolinfo, pg_catalog.pg_dist_local_group,
    pg_catalog.pg_dist_background_job, pg_catalog.pg_dist_background_task,
    pg_catalog.pg_dist_background_task_depend, pg_catalog.pg_dist_cleanup TO PUBLIC;
GRANT SELECT ON citus_lab.size_override, citus_lab.host TO PUBLIC;

-- CREATE EXTENSION IF NOT EXISTS citus then says, as with Citus, that it is there. What has an id below 12000 cannot be dropped.
INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 11999, 'citus', oid, 'pg_catalog'::regnamespace, false, '13.2-1'
FROM pg_catalog.pg_roles WHERE rolname = current_user;
