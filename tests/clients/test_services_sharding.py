"""How a service's tables are spread, against real servers: by schema and by row, and what the cluster would refuse."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import DatabaseError
from orchestrator.core.planning.steps_services import EnsureSchema
from tests.fix_services import Stack, whats


class TestSchemaSharding:
    def existing(self, stack: Stack, *statements: str) -> ServiceSpec:
        """A regular schema as somebody made it by hand, its owner the service's role."""
        service = stack.declare("old")
        role = service.role_name
        made = [f"CREATE ROLE {role} LOGIN", f"GRANT {role} TO {stack.cluster.admin_login}"]
        made += [f"CREATE SCHEMA {role} AUTHORIZATION {role}", f"SET search_path TO {role}, public"]
        stack.admin(*made, *statements)
        return service

    def test_an_existing_regular_schema_is_distributed_with_its_rows(self, stack: Stack) -> None:
        service = self.existing(stack, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
        assert [type(step) for step in stack.plan()] == [EnsureSchema]
        stack.apply()
        assert stack.plan() == ()
        assert stack.admin(f"SELECT count(*) FROM {service.schema_name}.t") == [(2,)]
        state = stack.observe().schemas[service.schema_name]
        assert state.colocation_id is not None
        assert state.tables["t"].kind == "schema"
        assert state.tables["t"].owner == service.role_name, "what the admin owned was handed over"

    def test_a_schema_of_the_admin_is_handed_over(self, stack: Stack) -> None:
        service = stack.declare("old")
        stack.admin(f"CREATE SCHEMA {service.schema_name}", f"CREATE TABLE {service.schema_name}.t (id serial)",
                    f"CREATE VIEW {service.schema_name}.v AS SELECT 1 AS one")  # fmt: skip
        stack.apply()
        assert stack.plan() == ()
        with stack.as_service(service) as conn:
            conn.execute("INSERT INTO t DEFAULT VALUES")
            assert conn.execute("SELECT * FROM v").fetchone() == (1,)

    def test_distributed_and_reference_tables_are_refused(self, stack: Stack) -> None:
        service = self.existing(
            stack,
            "CREATE TABLE d (id bigint PRIMARY KEY)",
            "CREATE TABLE r (id bigint PRIMARY KEY)",
            "SELECT create_distributed_table('d', 'id')",
            "SELECT create_reference_table('r')",
        )
        found = whats(stack.problems())
        assert f"table {service.schema_name}.d is distributed by itself" in found
        assert f"table {service.schema_name}.r is a reference table" in found
        assert f'undistribute_table(\'"{service.schema_name}"."d"\')' in found

    def test_foreign_keys_across_schemas_are_refused_in_both_directions(self, stack: Stack) -> None:
        other = stack.name("outside")
        try:
            service = self.existing(
                stack,
                f"CREATE SCHEMA {other}",
                f"CREATE TABLE {other}.p (id int PRIMARY KEY)",
                f"CREATE TABLE t (id int PRIMARY KEY, p int CONSTRAINT out REFERENCES {other}.p)",
                f"CREATE TABLE {other}.c (t int REFERENCES {stack.name('old')}.t)",
            )
            found = whats(stack.problems())
            assert f"a foreign key (out) of {service.schema_name}.t points to {other}.p" in found
            assert f"table {other}.c has a foreign key into schema {service.schema_name}" in found
        finally:
            stack.admin(f"DROP SCHEMA IF EXISTS {other} CASCADE")

    def test_triggers_and_inheritance_are_refused(self, stack: Stack) -> None:
        service = self.existing(
            stack,
            "CREATE TABLE t (id int PRIMARY KEY)",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            "CREATE TRIGGER watch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE TABLE parent (id int)",
            "CREATE TABLE child () INHERITS (parent)",
        )
        found = whats(stack.problems())
        assert f"table {service.schema_name}.t has a trigger watch" in found
        assert f"table {service.schema_name}.child inherits" in found

    def test_partitioned_tables_are_welcome_when_they_are_there_and_later(self, stack: Stack) -> None:
        self.existing(stack, *PARTITIONED.split("\n"))
        assert stack.problems() == ()
        stack.apply()
        stack.declare("old", {"001.sql": PARTITIONED.replace("log", "later")})
        stack.apply()
        assert stack.plan() == ()
        assert stack.problems() == ()

    def test_what_refuses_the_schema_is_told_with_what_to_do(self, stack: Stack) -> None:
        """The checks are not asked here: an error of Citus itself reaches the user translated."""
        service = self.existing(stack, "CREATE TABLE d (id bigint)", "SELECT create_distributed_table('d', 'id')")
        with pytest.raises(DatabaseError) as caught:
            stack.apply((EnsureSchema(service.name, service.schema_name, service.role_name, False, True),))
        assert caught.value.message.startswith(f"distribute schema {service.schema_name}: distributed schema cannot")
        assert "undistribute_table" in caught.value.message

    def test_a_schema_is_distributed_also_where_the_database_does_so_by_itself(self, stack: Stack) -> None:
        service, row = stack.declare("user"), stack.declare("row", sharding="row", distribution_column="tenant")
        connect = stack.connect

        def with_setting(**options: Any) -> psycopg.Connection[Any]:
            conn = connect(**options)
            conn.execute("SET citus.enable_schema_based_sharding TO on")
            return conn

        stack.connect = with_setting  # type: ignore[method-assign]
        stack.apply()
        schemas = stack.observe().schemas
        assert schemas[service.schema_name].colocation_id is not None
        assert schemas[row.schema_name].colocation_id is None


PARTITIONED = """CREATE TABLE log (tenant bigint, at date, PRIMARY KEY (tenant, at)) PARTITION BY RANGE (at);
CREATE TABLE log_20 PARTITION OF log FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');"""
SHOP = """
CREATE TABLE country (code text PRIMARY KEY);
CREATE TABLE shop (tenant bigint PRIMARY KEY, country text REFERENCES country);
CREATE TABLE line (tenant bigint REFERENCES shop, id bigint, country text REFERENCES country, PRIMARY KEY (tenant, id));
CREATE TABLE a_first (tenant bigint, id bigint, PRIMARY KEY (tenant, id), FOREIGN KEY (tenant, id) REFERENCES line);
INSERT INTO country VALUES ('de');
INSERT INTO shop VALUES (1, 'de'), (2, 'de');
"""


class TestRowSharding:
    def shop(self, stack: Stack, migrations: dict[str, str], **options: Any) -> ServiceSpec:
        return stack.declare("shop", migrations, sharding="row", distributionColumn="tenant", **options)

    def test_tables_are_distributed_together_after_the_tables_they_refer_to(self, stack: Stack) -> None:
        shop = self.shop(stack, {"001.sql": SHOP}, referenceTables=["country"])
        stack.apply()
        assert stack.plan() == ()
        assert stack.problems() == ()
        tables = stack.observe().schemas[shop.schema_name].tables
        kinds = {name: table.kind for name, table in tables.items()}
        assert kinds == {"country": "reference", "shop": "distributed", "line": "distributed", "a_first": "distributed"}
        groups = stack.admin(
            "SELECT count(DISTINCT colocationid) FROM pg_dist_partition WHERE partmethod = 'h' AND logicalrelid::text"
            f" LIKE '{shop.schema_name}.%'"
        )
        assert groups == [(1,)]
        with stack.as_service(shop) as conn:
            assert conn.execute("SELECT count(*) FROM shop JOIN country ON code = country").fetchone() == (2,)

    def test_a_partitioned_table_is_distributed_with_its_partitions(self, stack: Stack) -> None:
        shop = self.shop(stack, {"001.sql": PARTITIONED})
        stack.apply()
        assert stack.plan() == ()
        assert stack.problems() == ()
        with stack.as_service(shop) as conn:
            conn.execute("INSERT INTO log VALUES (1, '2020-02-02')")
            assert conn.execute("SELECT count(*) FROM log_20").fetchone() == (1,)

    def test_a_grant_holds_on_every_node(self, stack: Stack) -> None:
        reader = stack.declare("reader")
        shop = self.shop(stack, {"001.sql": SHOP}, referenceTables=["country"], grants=[{"role": reader.name}])
        stack.apply()
        with stack.as_service(reader) as conn:
            for table, rows in (("shop", 2), ("country", 1)):
                query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(shop.schema_name, table))
                assert conn.execute(query).fetchone() == (rows,)

    def test_a_later_table_may_refer_to_distributed_and_reference_tables(self, stack: Stack) -> None:
        shop = self.shop(stack, {"001.sql": SHOP}, referenceTables=["country"])
        stack.apply()
        later = (
            "CREATE TABLE bill (tenant bigint REFERENCES shop, id bigint, country text REFERENCES country,"
            " PRIMARY KEY (tenant, id));\nINSERT INTO bill VALUES (1, 1, 'de');"
        )
        self.shop(stack, {"002.sql": later}, referenceTables=["country"])
        stack.apply()
        assert stack.plan() == ()
        assert stack.observe().schemas[shop.schema_name].tables["bill"].kind == "distributed"
        with stack.as_service(shop) as conn:
            assert conn.execute("SELECT * FROM bill").fetchall() == [(1, 1, "de")]

    def test_a_key_without_the_column_is_refused_in_a_file_and_in_a_table(self, stack: Stack) -> None:
        bad = "CREATE TABLE t (\n  id bigint PRIMARY KEY,\n  tenant bigint\n);"
        shop = self.shop(stack, {"001.sql": bad})
        found = whats(stack.problems())
        assert "001.sql:2: a primary key (id)" in found
        assert f"of table {shop.schema_name}.t does not include the distribution column tenant" in found
        stack.apply(tuple(step for step in stack.plan() if not type(step).__name__.startswith("EnsureRowTables")))
        found = whats(stack.problems())
        assert "primary key t_pkey (id)" in found
        with pytest.raises(DatabaseError, match="must include the distribution column"):
            stack.apply(stack.plan())

    def test_a_later_migration_may_mend_the_key(self, stack: Stack) -> None:
        bad = "CREATE TABLE t (id bigint PRIMARY KEY, tenant bigint);"
        self.shop(stack, {"001.sql": bad})
        stack.apply(tuple(step for step in stack.plan() if not type(step).__name__.startswith("EnsureRowTables")))
        mend = "ALTER TABLE t DROP CONSTRAINT t_pkey;\nALTER TABLE t ADD PRIMARY KEY (tenant, id);"
        self.shop(stack, {"002.sql": mend})
        stack.apply()
        assert stack.plan() == ()

    def test_a_table_without_the_column_must_be_a_reference_table(self, stack: Stack) -> None:
        shop = self.shop(stack, {"001.sql": "CREATE TABLE t (id bigint PRIMARY KEY);"}, referenceTables=["missing"])
        found = whats(stack.problems())
        assert f"table {shop.schema_name}.t has no column tenant" in found
        assert "or list the table under `referenceTables`" in found
        assert f"reference table {shop.schema_name}.missing does not exist" in found

    def test_a_table_distributed_by_another_column_is_refused(self, stack: Stack) -> None:
        shop = self.shop(stack, {"001.sql": "CREATE TABLE t (tenant bigint, other bigint);"})
        stack.apply(tuple(step for step in stack.plan() if not type(step).__name__.startswith("EnsureRowTables")))
        stack.admin(f"SELECT create_distributed_table('{shop.schema_name}.t', 'other')")
        assert "is distributed by other already, not by tenant" in whats(stack.problems())

    def test_a_schema_distributed_as_a_whole_is_refused(self, stack: Stack) -> None:
        stack.declare("shop", {"001.sql": "CREATE TABLE t (tenant bigint);"})
        stack.apply()
        self.shop(stack, {"001.sql": "CREATE TABLE t (tenant bigint);"})
        assert "is distributed as a schema" in whats(stack.problems())


def test_two_services_do_not_share_a_colocation_group(stack: Stack) -> None:
    """Otherwise neither could be moved without the other."""
    for name in ("one", "two"):
        stack.declare(name, {"001.sql": "CREATE TABLE t (tenant bigint PRIMARY KEY);"}, sharding="row",
                      distributionColumn="tenant")  # fmt: skip
    stack.apply()
    names = ", ".join(f"'{stack.name(name)}.t'::regclass" for name in ("one", "two"))
    query = f"SELECT count(DISTINCT colocationid) FROM pg_dist_partition WHERE logicalrelid IN ({names})"
    assert stack.admin(query) == [(2,)]
