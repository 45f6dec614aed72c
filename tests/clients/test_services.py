"""Services against real servers: what `apply` reads, plans, refuses and makes, and that a second run finds nothing."""

from __future__ import annotations

import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.services.migrations import read_migrations
from orchestrator.clients.services.passwords import Passwords, password_problems
from orchestrator.clients.services.services import ServicesClient
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import DatabaseError, Problem
from orchestrator.core.observed.state import ServicesState
from orchestrator.core.planning.checks_services import check_services, service_notices
from orchestrator.core.planning.plan_services import plan_services
from orchestrator.core.planning.steps_services import EnsureRole, EnsureSchema, RunMigration, ServiceStep
from tests.fix_lab import Cluster

USERS = "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);"


@dataclass
class Stack:
    """A stack file's services on a shared cluster, with names of their own."""

    cluster: Cluster
    folder: Path
    environment: dict[str, str]
    services: list[ServiceSpec] = field(default_factory=list)
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def name(self, name: str) -> str:
        return f"{name}_{self.suffix}"

    def declare(self, name: str, migrations: dict[str, str] | None = None, **options: Any) -> ServiceSpec:
        """Add a service, or replace the one of that name; `migrations` maps file names to their text."""
        full = options.pop("full_name", None) or self.name(name)
        folder = self.folder / "migrations" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (migrations or {}).items():
            (folder / file).write_text(text, "utf-8")
        paths = (f"migrations/{name}",) if migrations else ()
        service = ServiceSpec.model_validate({"name": full, "migrations": paths, **options})
        self.services = [other for other in self.services if other.name != full] + [service]
        return service

    def connect(self, *, user: str | None = None, password: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(self.cluster.dsn(role=user, password=password), autocommit=True)

    @property
    def passwords(self) -> Passwords:
        return Passwords(self.folder, "test", self.environment)

    @contextmanager
    def client(self) -> Iterator[ServicesClient]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        with ServicesClient(self.connect, self.cluster.admin_login, self.passwords, migrations) as client:
            yield client

    def observe(self) -> ServicesState:
        with self.client() as client:
            return client.observe(self.services)

    def plan(self) -> tuple[ServiceStep, ...]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        return plan_services(self.services, migrations, self.observe())

    def problems(self) -> tuple[Problem, ...]:
        migrations = {service.name: read_migrations(service, self.folder) for service in self.services}
        state = self.observe()
        found = check_services(self.services, migrations, state, self.cluster.admin_login)
        return found + password_problems(self.services, self.passwords.read_all(self.services), state)

    def apply(self, steps: tuple[ServiceStep, ...] | None = None) -> None:
        if steps is None:
            assert self.problems() == ()
            steps = self.plan()
        with self.client() as client:
            for step in steps:
                client.ensure(step)

    def as_service(self, service: ServiceSpec) -> psycopg.Connection[Any]:
        password = self.passwords.read(service.role_name, service.password)
        assert isinstance(password, str)
        return self.connect(user=service.role_name, password=password)

    def admin(self, *statements: str) -> list[Any]:
        """Run statements as the admin; the rows of the last one."""
        with self.connect() as conn:
            for statement in statements:
                cursor = conn.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def stack(cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(cluster, tmp_path, {})
    yield stack
    with stack.connect() as conn:
        for service in stack.services:
            schema, role = sql.Identifier(service.schema_name), sql.Identifier(service.role_name)
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            if conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [service.role_name]).fetchone():
                conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        for service in stack.services:
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(service.role_name)))
        if conn.execute("SELECT to_regclass('orchestrator.migration')").fetchone() != (None,):
            names = [service.name for service in stack.services]
            conn.execute("DELETE FROM orchestrator.migration WHERE service = ANY(%s)", [names])


def whats(problems: tuple[Problem, ...]) -> str:
    return "\n".join(str(problem) for problem in problems)


def test_a_declared_service_can_work_after_one_run_and_a_second_run_finds_nothing(stack: Stack) -> None:
    user = stack.declare("user", {"001_users.sql": USERS})
    stack.apply()
    with stack.as_service(user) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('Ann')")
        assert conn.execute("SELECT name FROM users").fetchall() == [("Ann",)]
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
    rows = stack.admin(f"SELECT count(*) FROM citus_schemas WHERE schema_name::text = '{user.schema_name}'")
    assert rows == [(1,)]
    assert stack.plan() == ()
    assert stack.problems() == ()


def test_every_beginning_of_a_plan_can_be_continued_by_a_new_run(stack: Stack) -> None:
    """Killed after any step: the next run does what is left, and nothing twice."""
    stack.declare("reader")
    stack.declare("owner", {"001.sql": USERS, "002.sql": "INSERT INTO users (name) VALUES ('Ann');"},
                  grants=[{"role": stack.name("reader")}])  # fmt: skip
    planned = stack.plan()
    assert len(planned) >= 7
    for _ in planned:
        steps = stack.plan()
        if not steps:
            break
        stack.apply(steps[:1])
    assert stack.plan() == ()
    with stack.as_service(stack.services[0]) as conn:
        rows = conn.execute(sql.SQL("SELECT name FROM {}.users").format(sql.Identifier(stack.name("owner"))))
        assert rows.fetchall() == [("Ann",)]


def test_repeating_steps_that_took_effect_already_changes_nothing(stack: Stack) -> None:
    user = stack.declare("user", {"001.sql": USERS, "002.sql": "INSERT INTO users (name) VALUES ('Ann');"})
    steps = stack.plan()
    stack.apply(steps)
    stack.apply(steps)
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (1,)
    assert stack.plan() == ()


def test_a_name_that_needs_quotes_works_everywhere(stack: Stack) -> None:
    other = stack.declare("reader", full_name=f"Re-Ader {stack.suffix}")
    odd = stack.declare("odd", {"001.sql": USERS}, full_name=f"My-Svc.1 {stack.suffix}",
                        grants=[{"role": other.name}], schema=f"It's %s {stack.suffix}")  # fmt: skip
    stack.apply()
    with stack.as_service(odd) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('Ann')")
    with stack.as_service(other) as conn:
        query = sql.SQL("SELECT name FROM {}").format(sql.Identifier(odd.schema_name, "users"))
        assert conn.execute(query).fetchall() == [("Ann",)]
    assert stack.plan() == ()


def test_a_grant_covers_tables_of_today_and_of_later_migrations(stack: Stack) -> None:
    reader = stack.declare("reader")
    owner = stack.declare("owner", {"001.sql": USERS}, grants=[{"role": reader.name}])
    stack.apply()
    stack.declare("owner", {"002.sql": "CREATE TABLE orders (id bigint PRIMARY KEY);"}, grants=[{"role": reader.name}])
    stack.apply()
    with stack.as_service(reader) as conn:
        for table in ("users", "orders"):
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(owner.schema_name, table))
            assert conn.execute(query).fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(owner.schema_name, "users")))
    assert stack.plan() == ()


def test_a_grant_to_a_role_that_nobody_declares_is_refused(stack: Stack) -> None:
    stack.declare("owner", grants=[{"role": stack.name("nobody")}])
    assert f"there is no role {stack.name('nobody')}" in whats(stack.problems())


def test_role_settings_that_somebody_changed_are_put_right(stack: Stack) -> None:
    user = stack.declare("user", connection_limit=7, schema=stack.name("data"))
    stack.apply()
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
    stack.admin(
        f"ALTER ROLE {user.role_name} NOLOGIN CONNECTION LIMIT 3",
        f"ALTER ROLE {user.role_name} IN DATABASE {stack.cluster.database} SET search_path TO elsewhere",
    )
    assert [type(step) for step in stack.plan()] == [EnsureRole]
    stack.apply()
    assert stack.plan() == ()
    with stack.as_service(user) as conn:
        assert conn.execute("SELECT current_schema()").fetchone() == (user.schema_name,)
        limit = conn.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user").fetchone()
    assert limit == (7,)


class TestPasswords:
    def test_a_new_value_in_the_environment_becomes_the_new_password(self, stack: Stack) -> None:
        stack.environment["PW"] = "first-password"
        user = stack.declare("user", password={"env": "PW"})
        stack.apply()
        stack.environment["PW"] = "second-password"
        assert [type(step) for step in stack.plan()] == [EnsureRole]
        stack.apply()
        assert stack.plan() == ()
        stack.as_service(user).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            stack.connect(user=user.role_name, password="first-password")

    def test_an_unset_variable_is_refused_for_a_new_role_and_leaves_an_old_one_alone(self, stack: Stack) -> None:
        stack.declare("user", password={"env": "PW"})
        assert "the environment variable PW is not set" in whats(stack.problems())
        stack.environment["PW"] = "secret"
        stack.apply()
        del stack.environment["PW"]
        assert stack.problems() == ()
        assert stack.plan() == ()

    def test_a_file_that_others_can_read_is_refused(self, stack: Stack) -> None:
        file = stack.folder / "user.password"
        file.write_text("from-a-file\n")
        file.chmod(0o644)
        user = stack.declare("user", password={"file": "user.password"})
        assert "mode 0644" in whats(stack.problems())
        assert f"chmod 600 {file}" in whats(stack.problems())
        file.chmod(0o600)
        stack.apply()
        stack.connect(user=user.role_name, password="from-a-file").close()

    def test_a_generated_password_is_kept_in_a_private_file_and_used_again(self, stack: Stack) -> None:
        user = stack.declare("user")
        stack.apply()
        file = stack.folder / ".secrets" / "test" / f"{user.role_name}.password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert len(file.read_text().strip()) >= 24
        stack.connect(user=user.role_name, password=file.read_text().strip()).close()
        assert list(file.parent.iterdir()) == [file]

    def test_a_role_whose_generated_password_is_elsewhere_keeps_it(self, stack: Stack) -> None:
        """Another person's machine: a new password here would lock out the running service."""
        user = stack.declare("user")
        stack.apply()
        file = stack.folder / ".secrets" / "test" / f"{user.role_name}.password"
        file.rename(stack.folder / "away")
        state = stack.observe()
        assert stack.plan() == ()
        assert not file.exists()
        assert "not on this machine" in "".join(
            service_notices(stack.services, {}, state, [s.role_name for s in stack.services])
        )

    def test_the_server_gets_a_verifier_and_never_the_password(self, stack: Stack) -> None:
        """pg_stat_activity shows the statement as the server received it."""
        stack.environment["PW"] = "in-clear-nowhere"
        user = stack.declare("user", password={"env": "PW"})
        step = stack.plan()[0]
        with stack.connect() as watched, stack.connect() as watching:
            pid = watched.info.backend_pid
            client = ServicesClient(lambda **_: watched, stack.cluster.admin_login, stack.passwords, {})
            seen = []
            original = watched.execute

            def execute(query: Any, *args: Any, **options: Any) -> Any:
                seen.append(query.as_string(watched) if isinstance(query, sql.Composable) else str(query))
                return original(query, *args, **options)

            watched.execute = execute  # type: ignore[method-assign]
            client.ensure(step)
            last = watching.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert last is not None
        assert any("SCRAM-SHA-256$" in statement for statement in seen)
        assert not any("in-clear-nowhere" in statement for statement in [*seen, last[0]])
        stack.connect(user=user.role_name, password="in-clear-nowhere").close()


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


class TestMigrations:
    def test_a_failing_statement_is_named_with_its_line_and_leaves_nothing_behind(self, stack: Stack) -> None:
        user = stack.declare("user", {"001.sql": f"{USERS}\n\nINSERT INTO users (nome)\n  VALUES ('Ann');"})
        with pytest.raises(DatabaseError) as caught:
            stack.apply()
        assert 'column "nome" of relation "users" does not exist' in caught.value.message
        assert "001.sql, line 3" in caught.value.message
        state = stack.observe()
        assert state.schemas[user.schema_name].tables == {}
        assert state.migrations.get(user.name, ()) == ()

    def test_a_migration_that_changed_after_it_ran_is_refused(self, stack: Stack) -> None:
        stack.declare("user", {"001.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": USERS + "-- changed"})
        assert "it was changed after it ran" in whats(stack.problems())

    def test_a_new_migration_before_one_that_ran_is_refused(self, stack: Stack) -> None:
        stack.declare("user", {"002.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": "SELECT 1;"})
        assert "comes before 002.sql" in whats(stack.problems())

    def test_percent_signs_and_braces_reach_the_server_as_they_are(self, stack: Stack) -> None:
        text = "CREATE TABLE t (a text);\nINSERT INTO t VALUES ('100 % {0} %s'), (format('%I', 'a b'));"
        user = stack.declare("user", {"001.sql": text})
        stack.apply()
        with stack.as_service(user) as conn:
            assert conn.execute("SELECT a FROM t ORDER BY a").fetchall() == [('"a b"',), ("100 % {0} %s",)]

    def test_a_migration_cannot_touch_another_service(self, stack: Stack) -> None:
        stack.declare("victim", {"001.sql": USERS})
        stack.apply()
        stack.declare("user", {"001.sql": f"DROP TABLE {stack.name('victim')}.users;"})
        with pytest.raises(DatabaseError, match=r"permission denied for schema|must be owner of table"):
            stack.apply()

    def test_the_text_that_was_planned_is_the_text_that_runs(self, stack: Stack) -> None:
        stack.declare("user", {"001.sql": USERS})
        steps = stack.plan()
        stack.declare("user", {"001.sql": "CREATE TABLE something_else (id int);"})
        with pytest.raises(DatabaseError, match="not the one that was planned"):
            stack.apply(steps)
        assert RunMigration in [type(step) for step in stack.plan()]


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


def test_an_orchestrator_schema_is_the_admins_alone(stack: Stack) -> None:
    user = stack.declare("user", {"001.sql": USERS})
    stack.apply()
    with stack.as_service(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM orchestrator.migration")
    assert stack.admin(f"SELECT has_schema_privilege('{user.role_name}', 'orchestrator', 'USAGE')") == [(False,)]
    query = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text LIKE 'orchestrator.%'"
    assert stack.admin(query) == [(0,)]
