"""One contract for every engine: what the product relies on of Citus, of the lab's roles and of its ports.

Runs against real Citus wherever an engine with it is found, so that the stand-in cannot drift from it unnoticed. What
it imitates differently is listed in orchestrator/lab/standin/README.md.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.core.planning.placement import predict
from orchestrator.core.planning.steps import AT_ONCE
from tests.fix_lab import Cluster

Connection = psycopg.Connection[Any]


@dataclass
class Sandbox:
    """The administrator's session, and schemas of its own that are dropped afterwards."""

    admin: Connection
    cluster: Cluster
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    schemas: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def name(self, stem: str) -> str:
        return f"{stem}_{self.suffix}"

    def schema(self, stem: str, *, distribute: bool = True, table: bool = True) -> str:
        name = self.name(stem)
        self.schemas.append(name)
        self.admin.execute(f"CREATE SCHEMA {name}")
        if distribute:
            self.admin.execute(f"SELECT citus_schema_distribute('{name}')")
        if table:
            self.admin.execute(f"CREATE TABLE {name}.t (id bigint PRIMARY KEY, other bigint)")
        return name

    def role(self, stem: str) -> str:
        name = self.name(stem)
        self.roles.append(name)
        self.admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret-{name}'")
        return name

    def run(self, statement: str) -> list[Any]:
        self.notices.clear()
        cursor = self.admin.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def refused(self, statement: str, connection: Connection | None = None) -> str:
        """`SQLSTATE message`, with the sandbox's own suffix taken out."""
        with pytest.raises(psycopg.Error) as caught:
            (connection or self.admin).execute(statement)
        return f"{caught.value.sqlstate} {caught.value.diag.message_primary}".replace(f"_{self.suffix}", "")

    def worker(self) -> Connection:
        port = self.run("SELECT nodeport FROM pg_dist_node WHERE groupid = 1")[0][0]
        return self.cluster.connect(port=self.reachable(port))

    def reachable(self, port: int) -> int:
        if self.cluster.engine == "docker":
            pytest.skip("engine docker: nodes are reached through published ports, not through those in pg_dist_node")
        return port

    def place(self, schema: str) -> tuple[str, int]:
        query = "SELECT nodename, nodeport FROM citus_shards WHERE table_name = %s::regclass"
        host, port = self.admin.execute(query, (f"{schema}.t",)).fetchone()
        return host, port


@pytest.fixture
def sandbox(cluster: Cluster) -> Iterator[Sandbox]:
    with cluster.connect() as admin:
        made = Sandbox(admin, cluster)
        admin.add_notice_handler(lambda note: made.notices.append(note.message_primary or ""))
        yield made
        for schema in made.schemas:
            admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        for role in made.roles:
            # Before PostgreSQL 16 whoever makes a role is not a member of it.
            admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
            admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


# Rebalancing


def crowded(sandbox: Sandbox, count: int = 6) -> list[str]:
    """Distributed schemas that are all on the coordinator."""
    schemas = [sandbox.schema(f"m{number}") for number in range(count)]
    first = sandbox.run("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")[0]
    for schema in schemas:
        if sandbox.place(schema) != first:
            sandbox.run(f"SELECT citus_schema_move('{schema}', '{first[0]}', {first[1]}, 'block_writes')")
    return schemas


def test_the_plan_of_the_rebalancer_is_what_the_predictor_says(sandbox: Sandbox) -> None:
    crowded(sandbox)
    with sandbox.cluster.connect() as connection:
        state = CitusClient(lambda: connection, "test").observe()
    predicted = predict(state.shard_groups, state.nodes, state.strategy(None)).moves
    rows = sandbox.run(
        "SELECT shardid, source.nodeid, target.nodeid FROM get_rebalance_table_shards_plan() plan"
        " JOIN pg_dist_node source ON (source.nodename, source.nodeport) = (plan.sourcename, plan.sourceport)"
        " JOIN pg_dist_node target ON (target.nodename, target.nodeport) = (plan.targetname, plan.targetport)"
    )
    assert [(move.shard_id, move.source, move.target) for move in predicted] == rows
    assert len(rows) == 3


def test_a_rebalance_is_a_job_that_moves_what_it_planned(sandbox: Sandbox) -> None:
    schemas = crowded(sandbox)
    sandbox.run(f"INSERT INTO {schemas[0]}.t SELECT i, i FROM generate_series(1, 1000) i")
    job = sandbox.run("SELECT citus_rebalance_start(shard_transfer_mode := 'block_writes')")[0][0]
    assert "Scheduled 3 moves as job " + str(job) in sandbox.notices
    assert sandbox.refused("SELECT citus_rebalance_start()") == f"XX000 A rebalance is already running as job {job}"
    state = sandbox.run("SELECT state::text, details->'task_state_counts' FROM citus_rebalance_status()")[0]
    assert state[0] in {"scheduled", "running", "finished"}
    assert sum(state[1].values()) == 3
    with sandbox.cluster.connect() as connection:
        client = CitusClient(lambda: connection, "test")
        until(lambda: not client.read_job(job).in_flight)
        ended = client.read_job(job)
    assert (ended.state, ended.done, len(ended.tasks)) == ("finished", 3, 3)
    assert all(task.shard_id for task in ended.tasks)
    places = [sandbox.place(schema) for schema in schemas]
    assert sorted(places.count(place) for place in set(places)) == [3, 3]
    assert sandbox.run(f"SELECT count(*) FROM {schemas[0]}.t") == [(1000,)]
    assert sandbox.run("SELECT citus_rebalance_start()") == [(None,)]
    assert "No moves available for rebalancing" in sandbox.notices


def test_a_stopped_rebalance_is_cancelled_and_the_rest_can_be_planned_again(sandbox: Sandbox) -> None:
    crowded(sandbox)
    job = sandbox.run("SELECT citus_rebalance_start()")[0][0]
    sandbox.run("SELECT citus_rebalance_stop()")
    with sandbox.cluster.connect() as connection:
        client = CitusClient(lambda: connection, "test")
        until(lambda: not client.read_job(job).in_flight)
        assert client.read_job(job).state == "cancelled"


def test_a_table_of_somebody_else_blocks_the_rebalance(sandbox: Sandbox) -> None:
    crowded(sandbox, 2)
    role = sandbox.role("svc")
    sandbox.run(f"GRANT {role} TO CURRENT_USER")
    schema = sandbox.schema("foreign")
    sandbox.run(f"GRANT CREATE ON SCHEMA {schema} TO {role}")
    sandbox.run(f"ALTER TABLE {schema}.t OWNER TO {role}")
    sandbox.run(f"REVOKE {role} FROM CURRENT_USER")
    try:
        assert sandbox.refused("SELECT citus_rebalance_start('by_shard_count')") == "42501 must be owner of table t"
    finally:
        sandbox.run(f"GRANT {role} TO CURRENT_USER")


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


def test_the_balanced_port_spreads_connections_over_all_nodes(sandbox: Sandbox) -> None:
    seen = set()
    for _ in range(6):
        with sandbox.cluster.connect(port=sandbox.cluster.balanced) as session:
            seen.add(session.execute("SELECT citus_is_coordinator()").fetchone())
    assert seen == {(True,), (False,)}


def test_the_pooled_port_lets_every_role_in_with_its_own_password(sandbox: Sandbox) -> None:
    if sandbox.cluster.pooled is None:
        pytest.skip("no pgbouncer was found on this machine")
    role = sandbox.role("svc")
    with sandbox.cluster.connect(role, f"secret-{role}", port=sandbox.cluster.pooled) as session:
        assert session.execute("SELECT current_user").fetchone() == (role,)
    with pytest.raises(psycopg.OperationalError):
        sandbox.cluster.connect(role, "wrong", port=sandbox.cluster.pooled)


# Azure's control plane in front of it


def test_a_parameter_set_through_arm_is_what_the_server_shows(sandbox: Sandbox) -> None:
    with ArmClient("sub", "lab", "lab-test", sandbox.cluster.arm) as arm:
        before = arm.read_parameters([AT_ONCE])[AT_ONCE]
        assert (before.value, before.default, before.read_only) == ("1", "1", False)
        for value in ("3", "1"):
            operation = arm.start_set_parameter(AT_ONCE, value)
            until(lambda op=operation: arm.read_operation(op).status != "InProgress")  # type: ignore[misc]
            assert arm.read_operation(operation).status == "Succeeded"
            until(lambda v=value: sandbox.run(f"SELECT current_setting('{AT_ONCE}')") == [(v,)])  # type: ignore[misc]
        server = arm.read_server()
    assert (server.nodes, server.database, server.admin_login, server.state) == (2, "citus", "clusteradmin", "Ready")
