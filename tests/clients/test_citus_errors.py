"""Errors of the server reach people as a sentence with what to do, and never with a password in it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from orchestrator.clients.cluster.citus_errors import fix_for, translate, translated
from orchestrator.core.errors import (
    ClusterUnreachable,
    ConnectionLost,
    DatabaseError,
    LoginRefused,
    RebalanceRunning,
    Refused,
)
from tests.fix_lab import Cluster

# Recorded from Citus 13.2.2; most come with SQLSTATE XX000.
RECORDED = {
    "distributed schema cannot have distributed tables": "undistribute_table",
    "foreign keys from distributed schemas can only point to the same distributed schema or reference tables in "
    "regular schemas": "Drop the foreign key",
    "cannot create foreign keys to tables in a distributed schema from another schema": "Drop that foreign key",
    "tables in a distributed schema cannot inherit or be inherited": "separate tables",
    "triggers are not supported on distributed tables": "Drop the trigger",
    'cannot distribute relation "t" because it has triggers': "Drop the trigger",
    "public schema cannot be distributed": "a schema of its own",
    'cannot create constraint on "d1"': "distribution column",
    "creating unique indexes on non-partition columns is currently unsupported": "distribution column",
    'table "d3" is already distributed': "undistribute_table('schema.d3')",
    "cannot create foreign key constraint": "include the distribution column",
    "cannot create foreign key constraint since foreign keys from reference tables and local tables to distributed "
    "tables are not supported": "reference table cannot refer to a distributed one",
    "cannot colocate tables company and inttype": "same type",
    "operation is not allowed on this node": "direct port",
    "cannot create tables in a distributed schema from a worker node": "direct port",
    "nextval(sequence) calls in worker nodes are not supported for column defaults of type int or "
    "smallint": "bigserial",
    "connection to the remote node postgres@localhost:7001 failed with the following error: Connection refused\n"
    "\tIs the server running": "Node localhost:7001 does not answer",
    "connection to the remote node x@h:1 failed with the following error: FATAL: remaining connection slots are "
    "reserved for non-replication superuser connections": "no connection left",
    'connection to the remote node x@h:1 failed with the following error: FATAL:  too many connections for role "x"': (
        "count against the role's limit"
    ),
    'connection to the remote node x@h:1 failed with the following error: FATAL:  role "x" does not exist': (
        "Node h:1 refuses"
    ),
    "cannot get the size because of a connection error": "does not answer",
    'must be member of role "svc1"': 'GRANT "svc1" TO the admin',
    'must be able to SET ROLE "svc1"': 'GRANT "svc1" TO the admin',
    "must be owner of table evil": "evil OWNER TO",
    "permission denied for database citus": "GRANT CREATE ON DATABASE citus",
    "permission denied for function citus_add_node": "scale-out",
    "cannot use logical replication to transfer shards of the relation b since it doesn't have a REPLICA IDENTITY or "
    "PRIMARY KEY": "primary key",
    "could not find rebalance strategy with name nosuch": "by_disk_size",
    "shard move failed as the orphaned shard big.t_102008 leftover from the previous move could not be cleaned "
    "up": "citus_cleanup_orphaned_resources",
    "Could not fetch disk stats for node: localhost-7001": "localhost-7001",
    "Moving shards to a node that shouldn't have a shard is not supported": "shouldhaveshards",
    "canceling statement due to lock timeout": "same command again",
    "cannot insert multiple commands into a prepared statement": "one DDL statement at a time",
}


@pytest.mark.parametrize(("text", "fix"), RECORDED.items())
def test_what_citus_says_comes_with_what_to_do(text: str, fix: str) -> None:
    assert fix in fix_for(text)


def test_what_is_not_known_gets_no_advice() -> None:
    assert fix_for("division by zero") == ""


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("A rebalance is already running as job 12", 12),
        ("could not acquire the lock required to rebalance s1_0.t", None),
    ],
)
def test_a_rebalance_that_runs_already_is_an_error_of_its_own(text: str, job: int | None) -> None:
    error = translate(psycopg.errors.InternalError_(text), "start the rebalance")
    assert isinstance(error, RebalanceRunning)
    assert error.job_id == job


def test_secrets_in_a_text_are_not_shown() -> None:
    text = "syntax error: ALTER ROLE x PASSWORD 'hunter2', SCRAM-SHA-256$4096:salt$key, postgresql://u:hunter2@h/db"
    error = translate(psycopg.errors.SyntaxError(text), "alter role x")
    assert "hunter2" not in error.message
    assert "salt" not in error.message


def test_a_wrong_password_is_told_as_that(cluster: Cluster) -> None:
    with pytest.raises(LoginRefused) as caught, translated("connect", endpoint="here:1", role="clusteradmin"):
        psycopg.connect(cluster.dsn(role=cluster.admin_login, password="hunter2"))
    assert caught.value.message.startswith("here:1 refuses the login of 'clusteradmin': password authentication failed")
    assert "hunter2" not in caught.value.message
    assert isinstance(caught.value, Refused)


def test_an_unknown_database_is_told_as_that(cluster: Cluster) -> None:
    with pytest.raises(LoginRefused, match="Check `database` in the stack file"), translated("connect", role="x"):
        psycopg.connect(cluster.dsn(dbname="nowhere"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-host.invalid"])
def test_where_nobody_listens_no_cluster_answers(host: str) -> None:
    with pytest.raises(ClusterUnreachable, match="Check that the cluster runs"), translated("connect", endpoint=host):
        psycopg.connect(make_conninfo(host=host, port=1, user="x", password="y", dbname="z"))


def test_a_connection_that_breaks_leaves_the_outcome_open(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
        with pytest.raises(ConnectionLost, match="Run the same command again"), translated("try it"):
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(ConnectionLost, match="Run the same command again"), translated("try it once more"):
            conn.execute("SELECT 1")


def test_an_error_says_what_was_being_done_and_keeps_what_the_server_said(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
        with pytest.raises(DatabaseError) as caught, translated("distribute schema public"):
            conn.execute("SELECT citus_schema_distribute('pg_catalog')")
        with pytest.raises(DatabaseError) as plain, translated("divide"):
            conn.execute("SELECT 1/0")
    assert caught.value.message.startswith("distribute schema public: ")
    assert plain.value.message == "divide: division by zero."
    assert plain.value.sqlstate == "22012"
