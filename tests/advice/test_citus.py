"""What is advised beside what real Citus does: predicted skew, keys that it refuses, schemas that it distributes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.advice.advice import AdviceReader
from orchestrator.core.advice.advice import advise
from orchestrator.core.advice.answers import Answers
from orchestrator.core.advice.candidates import Candidate, rank
from orchestrator.core.advice.spread import shard_of
from orchestrator.core.outlook.pricing import shipped_prices
from tests.advice.shapes import BY_COLUMN, BY_SCHEMA
from tests.fix_lab import Cluster, Project, superuser

# A twentieth of the rows is one tenant's, nearly half are those of forty others, the rest of three thousand small ones.
NUMBER = "CASE WHEN i % 20 = 0 THEN 7 WHEN i % 2 = 0 THEN (sqrt(i % 1600))::int + 10 ELSE 100 + i % 3000 END"
KINDS = {"bigint": "{}", "integer": "{}::int", "text": "'tenant ' || {}", "uuid": "md5(({})::text)::uuid"}
SHARD = "get_shard_id_for_distribution_column('advised.spread', tenant)"


def rows(connection: Any, query: str) -> list[Any]:
    found: list[Any] = connection.execute(query.encode()).fetchall()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_fullest_shard_is_as_predicted(cluster: Cluster, kind: str) -> None:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: there are no shards to count in")
    with closing(cluster.connect()) as connection:
        for statement in (
            "DROP SCHEMA IF EXISTS advised CASCADE",
            "CREATE SCHEMA advised",
            f"CREATE TABLE advised.spread (tenant {kind} NOT NULL, id bigint, PRIMARY KEY (tenant, id))",
            f"INSERT INTO advised.spread SELECT {KINDS[kind].format(NUMBER)}, i FROM generate_series(1, 60000) i",
            "ANALYZE advised.spread",
        ):
            connection.execute(statement.encode())
        database = AdviceReader(connection).read().database
        candidate = next(one for one in rank(database, 2) if one.columns.get("advised.spread") == "tenant")
        table = database.table("advised.spread")
        connection.execute("SELECT create_distributed_table('advised.spread', 'tenant')")
        counts = dict(rows(connection, f"SELECT {SHARD}, count(*) FROM advised.spread GROUP BY 1"))
        shards = rows(
            connection,
            "SELECT shardid FROM pg_dist_shard WHERE logicalrelid = 'advised.spread'::regclass"
            " ORDER BY shardminvalue::int",
        )
        ((home,),) = rows(
            connection, f"SELECT {SHARD} FROM advised.spread GROUP BY tenant ORDER BY count(*) DESC LIMIT 1"
        )
        connection.execute("DROP SCHEMA advised CASCADE")
    assert candidate.hottest == pytest.approx(max(counts.values()) / 60000, rel=0.2)
    # The largest tenant lies in the very shard that its hash says.
    tenant = table.column("tenant") if table else None
    assert tenant is not None
    assert shards[shard_of(max(tenant.common, key=lambda one: one.share).hash or 0)] == (home,)


@pytest.fixture
def server(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's session on real Citus: the shapes make their tables in public."""
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: the stand-in does not refuse all that Citus refuses")
    with superuser(cluster, cluster.port) as connection:
        before = {row[0] for row in rows(connection, "SELECT nspname FROM pg_namespace")}
        yield connection
        connection.execute("DROP TABLE IF EXISTS invoices, order_items, orders, tenants, countries, currencies CASCADE")
        for (name,) in rows(connection, "SELECT nspname FROM pg_namespace"):
            if name not in before:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def distribute(connection: psycopg.Connection[Any], candidate: Candidate) -> None:
    """As advised. Keys between tables that become distributed are dropped meanwhile: Citus refuses half of a pair."""
    keys = rows(
        connection,
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace",
    )
    for table, name, _ in keys:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for title in candidate.references:
        connection.execute("SELECT create_reference_table(%s)", [title])
    for title, column in candidate.columns.items():
        connection.execute("SELECT create_distributed_table(%s, %s)", [title, column])
    for table, name, definition in keys:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())


def test_citus_refuses_the_keys_that_are_said_to_break_and_takes_the_rest(server: psycopg.Connection[Any]) -> None:
    for statement in BY_COLUMN.setup:
        server.execute(statement.encode())
    database = AdviceReader(server).read().database
    answers = Answers.model_validate({"data": {"tenantColumn": "tenant_id"}, "queries": {"oneTenantPercent": 99}})
    report = advise(database, answers, shipped_prices())
    candidate = report.candidates[0]
    named = [one.objects for one in report.breaks if one.scenario == "unique keys without the distribution column"]
    assert named == [("invoices_pkey on public.invoices (id)", "invoices_number_key on public.invoices (number)")]
    assert not [one for one in report.breaks if "foreign keys" in one.scenario]
    refused = pytest.raises(psycopg.errors.FeatureNotSupported, match='cannot create constraint on "invoices"')
    with refused, server.transaction():
        distribute(server, candidate)
    server.execute("ALTER TABLE invoices DROP CONSTRAINT invoices_pkey, DROP CONSTRAINT invoices_number_key")
    distribute(server, candidate)
    spread = "SELECT count(DISTINCT colocation_id) FROM citus_tables WHERE citus_table_type = 'distributed'"
    assert rows(server, spread) == [(1,)]


def test_schemas_that_are_said_to_fit_can_be_distributed(server: psycopg.Connection[Any]) -> None:
    for statement in (*BY_SCHEMA.setup, "ALTER TABLE t5.items ADD FOREIGN KEY (order_id) REFERENCES t6.orders"):
        server.execute(statement.encode())
    report = advise(AdviceReader(server).read().database, Answers(), shipped_prices())
    crossing = [name for one in report.breaks if one.scenario == "foreign keys across schemas" for name in one.objects]
    assert len(crossing) == 1
    assert "t5.items to t6.orders" in crossing[0]
    server.execute("SELECT create_reference_table('currencies')")
    server.execute("SELECT citus_schema_distribute('t1')")
    for name in ("t5", "t6"):
        with pytest.raises(psycopg.Error, match="foreign key"):
            server.execute("SELECT citus_schema_distribute(%s)", [name])
    server.execute("DROP SCHEMA t5 CASCADE")
    server.execute("SELECT citus_schema_distribute('t6')")


def test_no_benchmark_goes_through_a_pooler(cluster: Cluster, project: Project) -> None:
    """It would leave its settings on sessions that services share."""
    if cluster.pooled is None:
        pytest.skip("no PgBouncer on this machine")
    (project.folder / "s.sql").write_text("SELECT 1;\n")
    for port, code in ((cluster.pooled, 2), (cluster.port, 0)):
        environment = {
            "ORCHESTRATOR_ADMIN_PASSWORD": cluster.admin_password,
            "ORCHESTRATOR_URL": f"postgresql://{cluster.admin_login}@{cluster.host}:{port}/{cluster.database}",
        }
        run = project.call(
            "advise", "--benchmark", "--script", "s.sql", "--seconds", "1", "--max-clients", "1", "--yes",
            env=environment,
        )  # fmt: skip
        assert (run.returncode, "is a pooler" in run.stderr) == (code, code == 2), run.stderr
