"""One contract for every engine: what the product relies on of Citus, of the lab's roles and of its ports.

Runs against real Citus wherever an engine with it is found, so that the stand-in cannot drift from it unnoticed. What
it imitates differently is listed in orchestrator/lab/standin/README.md.
"""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.fix_sandbox import Sandbox

# Nodes and roles


def test_every_node_holds_shards_and_the_first_is_the_coordinator(sandbox: Sandbox) -> None:
    rows = sandbox.run("SELECT groupid, isactive, metadatasynced, shouldhaveshards FROM pg_dist_node ORDER BY nodeid")
    assert rows == [(0, True, True, True), (1, True, True, True)]
    assert sandbox.run("SELECT citus_is_coordinator()") == [(True,)]
    assert [role for (role,) in sandbox.run("SELECT role FROM citus_nodes ORDER BY nodeport")].count("coordinator") == 1


def test_the_version_says_whether_placement_is_simulated(sandbox: Sandbox) -> None:
    version = sandbox.run("SELECT citus_version()")[0][0]
    assert ("simulated" in version) == (sandbox.cluster.engine == "embedded")
    assert version.startswith("Citus 1")


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("SELECT citus_add_node('localhost', 1)", "42501 permission denied for function citus_add_node"),
        ("SELECT citus_remove_node('localhost', 1)", "42501 permission denied for function citus_remove_node"),
        ("SELECT citus_drain_node('localhost', 1)", "42501 permission denied for function citus_drain_node"),
        (
            "SELECT citus_set_node_property('localhost', 1, 'shouldhaveshards', true)",
            "42501 permission denied for function citus_set_node_property",
        ),
        ("SELECT 'auto'::citus.shard_transfer_mode", "42501 permission denied for schema citus"),
        (
            "ALTER SYSTEM SET work_mem = '8MB'",
            '42501 permission denied to set parameter "work_mem"',
        ),
        ("SELECT citus_rebalance_start('nosuch')", "XX000 could not find rebalance strategy with name nosuch"),
        (
            "SELECT citus_rebalance_start(shard_transfer_mode := 'bogus')",
            '22P02 invalid input value for enum citus.shard_transfer_mode: "bogus"',
        ),
        ("SELECT citus_rebalance_stop()", "XX000 no ongoing rebalance that can be stopped"),
        ("SELECT citus_job_wait(999999)", "XX000 no job found for job with jobid: 999999"),
        ("SELECT citus_job_cancel(999999)", "XX000 could not find background jobs entry for job_id: 999999"),
        ("SELECT citus_schema_distribute('nope')", '3F000 schema "nope" does not exist'),
    ],
)
def test_what_the_administrator_may_not_or_cannot_do(sandbox: Sandbox, statement: str, answer: str) -> None:
    assert sandbox.refused(statement) == answer


def test_a_wrong_password_is_refused(sandbox: Sandbox) -> None:
    role = sandbox.role("svc")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sandbox.cluster.connect(role, "wrong")
    with sandbox.cluster.connect(role, f"secret-{role}") as session:
        assert session.execute("SELECT current_user").fetchone() == (role,)


# Schemas and tables


def test_distributing_a_schema_is_idempotent_and_says_so(sandbox: Sandbox) -> None:
    schema = sandbox.schema("s", distribute=False)
    sandbox.run(f"SELECT citus_schema_distribute('{schema}')")
    assert f"distributing the schema {schema}" in sandbox.notices
    sandbox.run(f"SELECT citus_schema_distribute('{schema}')")
    assert sandbox.notices == [f"schema {schema} is already distributed"]
    rows = sandbox.run(f"SELECT schema_owner FROM citus_schemas WHERE schema_name::text = '{schema}'")
    assert rows == [("clusteradmin",)]


def test_an_empty_distributed_schema_has_no_placement_and_a_table_gives_it_one(sandbox: Sandbox) -> None:
    schema = sandbox.schema("s", table=False)
    shards = f"SELECT count(*) FROM citus_shards WHERE table_name::text LIKE '{schema}.%'"
    assert sandbox.run(shards) == [(0,)]
    sandbox.run(f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY)")
    sandbox.run(f"CREATE TABLE {schema}.u (id bigint PRIMARY KEY)")
    assert sandbox.run(shards) == [(2,)]
    rows = sandbox.run(
        "SELECT count(DISTINCT (nodename, nodeport)), count(DISTINCT colocation_id), min(citus_table_type)"
        " FROM citus_shards"
        f" WHERE table_name::text LIKE '{schema}.%'"
    )
    assert rows == [(1, 1, "schema")]


def test_foreign_keys_between_schemas_are_refused_in_both_directions(sandbox: Sandbox) -> None:
    parent, child = sandbox.schema("p", distribute=False), sandbox.schema("c", distribute=False)
    sandbox.run(f"ALTER TABLE {child}.t ADD FOREIGN KEY (other) REFERENCES {parent}.t (id)")
    assert sandbox.refused(f"SELECT citus_schema_distribute('{child}')").startswith(
        "XX000 foreign keys from distributed schemas can only point to the same distributed schema"
    )
    assert sandbox.refused(f"SELECT citus_schema_distribute('{parent}')") == (
        "XX000 cannot create foreign keys to tables in a distributed schema from another schema"
    )


def test_row_sharding_wants_the_distribution_column_in_every_key(sandbox: Sandbox) -> None:
    schema = sandbox.schema("r", distribute=False)
    assert sandbox.refused(f"SELECT create_distributed_table('{schema}.t', 'other')") == (
        '0A000 cannot create constraint on "t"'
    )
    assert sandbox.refused(f"SELECT create_distributed_table('{schema}.t', 'nope')") == (
        '42703 column "nope" of relation "t" does not exist'
    )
    sandbox.run(f"SELECT create_distributed_table('{schema}.t', 'id')")
    assert sandbox.refused(f"SELECT create_distributed_table('{schema}.t', 'id')") == (
        '42P16 table "t" is already distributed'
    )
    assert sandbox.refused(f"CREATE UNIQUE INDEX ON {schema}.t (other)") == (
        "0A000 creating unique indexes on non-partition columns is currently unsupported"
    )
    assert sandbox.refused(f"SELECT citus_schema_distribute('{schema}')") == (
        "XX000 distributed schema cannot have distributed tables"
    )
    rows = sandbox.run(
        "SELECT count(*), count(DISTINCT (nodename, nodeport)) FROM citus_shards"
        f" WHERE table_name = '{schema}.t'::regclass"
    )
    assert rows == [(32, 2)]


def test_a_reference_table_is_on_every_node(sandbox: Sandbox) -> None:
    schema = sandbox.schema("ref", distribute=False)
    sandbox.run(f"SELECT create_reference_table('{schema}.t')")
    rows = sandbox.run(
        f"SELECT count(DISTINCT (nodename, nodeport)) FROM citus_shards WHERE table_name = '{schema}.t'::regclass"
    )
    assert rows == [(2,)]


def test_triggers_and_inheritance_are_refused_in_a_distributed_schema(sandbox: Sandbox) -> None:
    schema = sandbox.schema("s")
    assert sandbox.refused(f"CREATE TABLE {schema}.child () INHERITS ({schema}.t)") == (
        "XX000 tables in a distributed schema cannot inherit or be inherited"
    )


# Sizes


def test_sizes_are_those_of_the_real_tables(sandbox: Sandbox) -> None:
    schema = sandbox.schema("s")
    sandbox.run(f"INSERT INTO {schema}.t SELECT i, i FROM generate_series(1, 20000) i")
    size = sandbox.run(f"SELECT shard_size FROM citus_shards WHERE table_name = '{schema}.t'::regclass")[0][0]
    assert 800_000 < size < 2_500_000
    shard = sandbox.run(f"SELECT shardid FROM pg_dist_shard WHERE logicalrelid = '{schema}.t'::regclass")[0][0]
    assert sandbox.run(f"SELECT size FROM citus_shard_sizes() WHERE shard_id = {shard}") == [(size,)]


def test_a_schema_that_the_caller_may_not_use_makes_sizes_unknown(sandbox: Sandbox) -> None:
    sandbox.schema("hidden")
    role = sandbox.role("svc")
    sandbox.run(f"GRANT {role} TO CURRENT_USER")
    with sandbox.cluster.connect(role, f"secret-{role}") as session:
        warnings: list[str] = []
        session.add_notice_handler(lambda note: warnings.append(note.message_primary or ""))
        rows = session.execute("SELECT shard_size FROM citus_shards").fetchall()
    assert None in {size for (size,) in rows}
    assert any(re.match(r"permission denied for schema ", text) for text in warnings)


# Workers


@pytest.mark.parametrize(
    "statement",
    ["SELECT citus_schema_distribute('s')", "SELECT citus_schema_move('s', 'localhost', 1)"],
)
def test_a_worker_refuses_what_changes_the_cluster(sandbox: Sandbox, statement: str) -> None:
    schema = sandbox.schema("s")
    with sandbox.worker() as worker:
        assert worker.execute("SELECT citus_is_coordinator()").fetchone() == (False,)
        said = sandbox.refused(statement.replace("'s'", f"'{schema}'"), worker)
        assert said == "XX000 operation is not allowed on this node"
        assert sandbox.refused(f"CREATE TABLE {schema}.x (id bigint)", worker) == (
            "XX000 cannot create tables in a distributed schema from a worker node"
        )
        worker.execute(f"INSERT INTO {schema}.t VALUES (1, 1)")
    assert sandbox.run(f"SELECT count(*) FROM {schema}.t") == [(1,)]
