"""How each service step is made true: statements run by the admin on the coordinator. Every step can be repeated.

The admin is a member of the services' roles and acts through that membership; only migrations run as the role itself.
Citus keeps a connection to every node for each role that a session acts as, so those get a session of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.services import services_sql
from orchestrator.clients.services.services_reading import read_tables
from orchestrator.core.errors import DatabaseError
from orchestrator.core.observed.state import Table
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.steps_services import (
    EnsureGrant,
    EnsureRole,
    EnsureRowTables,
    EnsureSchema,
    RunMigration,
)

Connection = psycopg.Connection[Any]

# With it on, Citus converts local tables that refer to a reference table, and then refuses to distribute the tables
# that those refer to. Measured on 13.2.2: with it off, creating, filling and distributing such tables all work.
NO_CONVERSION = "SET LOCAL citus.enable_local_reference_table_foreign_keys TO off"


def ensure_role(conn: Connection, step: EnsureRole, admin: str, password: str | None) -> None:
    role = sql.Identifier(step.role)
    options = sql.SQL("LOGIN CONNECTION LIMIT {}").format(sql.Literal(step.connection_limit))
    hashed = verifier(conn, step.role, password)
    if hashed is not None:
        options += sql.SQL(" PASSWORD {}").format(sql.Literal(hashed))
    with conn.transaction():
        # Not in the plan: a run that was killed may have made the role after this plan was read.
        there = conn.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [step.role]).fetchone()
        verb = sql.SQL("CREATE" if there is None else "ALTER")
        conn.execute(sql.SQL("{} ROLE {} {}").format(verb, role, options))
        if step.grant_to_admin:
            conn.execute(sql.SQL("GRANT {} TO {}").format(role, sql.Identifier(admin)))
        _search_path(conn, step, role)


def verifier(conn: Connection, role: str, password: str | None) -> str | None:
    """What is sent instead of the password.

    Citus forwards a clear password to every node, where it would be hashed anew and logged; a verifier is the same
    everywhere and of no use to who reads it in a log.
    """
    if password is None:
        return None
    return conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()


def search_path(role: sql.Identifier, schema: str) -> sql.Composed:
    return sql.SQL("ALTER ROLE {} SET search_path TO {}, public").format(role, sql.Identifier(schema))


def _search_path(conn: Connection, step: EnsureRole, role: sql.Identifier) -> None:
    database = conn.execute("SELECT current_database()").fetchone()
    name = sql.Identifier(str(database[0]) if database else "")
    if not step.create:
        conn.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET search_path").format(role, name))
    if step.search_path is not None:
        conn.execute(search_path(role, step.search_path))
    elif not step.create:
        conn.execute(sql.SQL("ALTER ROLE {} RESET search_path").format(role))


def ensure_schema(conn: Connection, step: EnsureSchema) -> None:
    schema, role = sql.Identifier(step.schema), sql.Identifier(step.role)
    with conn.transaction():
        # The setting may be on for the whole database. What is to be distributed is, below, and said so.
        conn.execute("SET LOCAL citus.enable_schema_based_sharding TO off")
        if step.create:
            conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(schema, role))
        if step.take_over:
            _take_over(conn, step, schema, role)
        if step.distribute:
            conn.execute("SELECT citus_schema_distribute(quote_ident(%s)::regnamespace)", [step.schema])


def _take_over(conn: Connection, step: EnsureSchema, schema: sql.Identifier, role: sql.Identifier) -> None:
    conn.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, role))
    for _, name, kind in conn.execute(services_sql.OWNED_BY_ADMIN, [[step.schema]]).fetchall():
        relation = sql.Identifier(step.schema, name)
        conn.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), relation, role))


def run_migration(conn: Connection, step: RunMigration, migration: Migration) -> None:
    """As the role, on a connection of its own that the caller closes afterwards."""
    role, schema = sql.Identifier(step.role), sql.Identifier(step.schema)
    with conn.transaction():
        if ran_already(conn, step):
            return
        conn.execute(NO_CONVERSION)
        conn.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
        conn.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(schema))
        run_statements(conn, migration, f"as {step.role}")
        conn.execute("RESET ROLE")
        record(conn, step)


def run_statements(conn: Connection, migration: Migration, for_whom: str) -> None:
    lines = migration.lines or (1,) * len(migration.statements)
    for statement, line in zip(migration.statements, lines, strict=True):
        with translated(f"run migration {migration.path}, line {line}, {for_whom}"):
            conn.execute(sql.SQL(statement))


def record(conn: Connection, step: RunMigration) -> None:
    conn.execute(
        "INSERT INTO orchestrator.migration (service, name, sha256) VALUES (%s, %s, %s)",
        [step.service, step.name, step.sha256],
    )


def ran_already(conn: Connection, step: RunMigration) -> bool:
    row = conn.execute(
        "SELECT sha256 FROM orchestrator.migration WHERE service = %s AND name = %s", [step.service, step.name]
    ).fetchone()
    if row is not None and row[0] != step.sha256:
        raise DatabaseError(
            f"run migration {step.name}",
            "another text ran under this name meanwhile",
            fix="Write the change into a new migration",
        )
    return row is not None


def ensure_row_tables(conn: Connection, step: EnsureRowTables) -> None:
    with conn.transaction():
        conn.execute(NO_CONVERSION)
        tables = read_tables(conn, step.schema)
        local = [name for name in _referenced_first(tables) if tables[name].kind == "local"]
        for name in local:
            if name in step.reference_tables:
                with translated(f"copy {step.schema}.{name} to every node"):
                    table = sql.Identifier(step.schema, name).as_string(conn)
                    conn.execute(sql.SQL("SELECT create_reference_table({})").format(sql.Literal(table)))
        # The service's tables share a colocation group of their own, so that keys of one tenant stay together and
        # other services can be moved without them.
        together = next((name for name, table in tables.items() if table.distribution_column == step.column), None)
        for name in local:
            if name in step.reference_tables:
                continue
            with translated(f"distribute {step.schema}.{name} by {step.column}"):
                _distribute(conn, step, name, together)
            together = together or name


def _distribute(conn: Connection, step: EnsureRowTables, name: str, together: str | None) -> None:
    table = sql.Literal(sql.Identifier(step.schema, name).as_string(conn))
    group = sql.Literal(sql.Identifier(step.schema, together).as_string(conn) if together else "none")
    conn.execute(
        sql.SQL("SELECT create_distributed_table({}, {}, colocate_with := {})").format(
            table, sql.Literal(step.column), group
        )
    )


def _referenced_first(tables: Mapping[str, Table]) -> list[str]:
    """Names in an order in which a table comes after those that its foreign keys point to."""
    ordered: dict[str, None] = {}

    def visit(name: str, path: frozenset[str]) -> None:
        if name in ordered or name in path or name not in tables:
            return
        for key in tables[name].foreign_keys:
            visit(key.to_table, path | {name})
        ordered[name] = None

    for name in tables:
        visit(name, frozenset())
    return list(ordered)


def ensure_grant(conn: Connection, step: EnsureGrant) -> None:
    schema, role = sql.Identifier(step.schema), sql.Identifier(step.role)
    with conn.transaction():
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
        grant_on_tables(conn, [step])


def grant_on_tables(conn: Connection, steps: Sequence[EnsureGrant]) -> None:
    """The same privileges for one role on the tables of several schemas. Without USAGE, in the caller's transaction."""
    role, privileges = sql.Identifier(steps[0].role), sql.SQL(", ").join(map(sql.SQL, steps[0].privileges))
    schemas = sql.SQL(", ").join(sql.Identifier(step.schema) for step in steps)
    kinds: list[tuple[LiteralString, sql.Composable]] = [("TABLES", privileges)]
    if "INSERT" in steps[0].privileges:  # without it an INSERT into a table with a serial column fails
        kinds.append(("SEQUENCES", sql.SQL("USAGE")))
    for kind, granted in kinds:
        of_kind = sql.SQL(kind)
        conn.execute(sql.SQL("GRANT {} ON ALL {} IN SCHEMA {} TO {}").format(granted, of_kind, schemas, role))
        for step in steps:
            owner, schema = sql.Identifier(step.owner), sql.Identifier(step.schema)
            conn.execute(
                sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT {} ON {} TO {}").format(
                    owner, schema, granted, of_kind, role
                )
            )
