"""A batch of services that are not distributed yet: made whole in three transactions, with few messages to the nodes.

Roles, then schemas, then tables, each kind for the whole batch. What that saves was measured on Citus 13.2:

- Tables are made and handed over while their schema is an ordinary one. All of that stays on the coordinator, and
  distributing the schema then carries the result to the nodes.
- For a table with a sequence that the nodes do not have yet, Citus opens a connection to every node, which costs more
  than the rest of the service. One function that names the sequences of the whole batch makes Citus take all of them
  along at once. It lives for that one transaction. The schemas must be committed by then: those connections are others.
- Granting a role locks pg_auth_members on every node until the commit, so it is done last, and for all roles at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.services import services_sql
from orchestrator.clients.services.services_steps import (
    NO_CONVERSION,
    grant_on_tables,
    ran_already,
    record,
    run_statements,
    search_path,
    verifier,
)
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.steps_services import EnsureGrant, EnsureRole, EnsureSchema, RunMigration, SingleStep

Connection = psycopg.Connection[Any]
Bundle: TypeAlias = tuple[SingleStep, ...]


@dataclass(frozen=True, slots=True)
class WholeService:
    """The steps of a service whose schema is not distributed yet. Without `role` that is there already."""

    role: EnsureRole | None
    schema: EnsureSchema
    migrations: tuple[tuple[RunMigration, Migration], ...]
    grants: tuple[EnsureGrant, ...]
    password: str | None = field(repr=False, default=None)


def make_batch(conn: Connection, batch: Sequence[WholeService], admin: str) -> None:
    """Each of three transactions whole or not at all. Can be repeated from wherever it was cut off."""
    _make_roles(conn, batch, admin)
    _make_schemas(conn, batch)
    _make_tables(conn, batch)


def _make_roles(conn: Connection, batch: Sequence[WholeService], admin: str) -> None:
    # Hashing a password is slow on purpose: before the transaction, which holds locks.
    roles = [(s.role, verifier(conn, s.role.role, s.password)) for s in batch if s.role is not None]
    if not roles:
        return
    names = [step.role for step, _ in roles]
    with conn.transaction():
        found = conn.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)", [names]).fetchall()
        there = {row[0] for row in found}
        for step, hashed in roles:
            with translated(step.title):
                _make_role(conn, step, hashed, "ALTER" if step.role in there else "CREATE")
        with translated(f"make the administrator a member of {_some(names)}"):
            conn.execute(sql.SQL("GRANT {} TO {}").format(_listed(names), sql.Identifier(admin)))


def _make_role(conn: Connection, step: EnsureRole, hashed: str | None, verb: str) -> None:
    role = sql.Identifier(step.role)
    options = sql.SQL("LOGIN CONNECTION LIMIT {}").format(sql.Literal(step.connection_limit))
    if hashed is not None:
        options += sql.SQL(" PASSWORD {}").format(sql.Literal(hashed))
    conn.execute(sql.SQL("{} ROLE {} {}").format(sql.SQL(verb), role, options))
    if step.search_path is not None:
        conn.execute(search_path(role, step.search_path))


def _make_schemas(conn: Connection, batch: Sequence[WholeService]) -> None:
    usage: dict[str, list[str]] = defaultdict(list)
    with conn.transaction():
        conn.execute("SET LOCAL citus.enable_schema_based_sharding TO off")
        for service in batch:
            step = service.schema
            with translated(step.title):
                schema, role = sql.Identifier(step.schema), sql.Identifier(step.role)
                conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(schema, role))
            for grant in service.grants:
                usage[grant.role].append(step.schema)
        for grantee, schemas in usage.items():
            with translated(f"grant USAGE on {_some(schemas)} to {grantee}"):
                conn.execute(
                    sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(_listed(schemas), sql.Identifier(grantee))
                )


def _make_tables(conn: Connection, batch: Sequence[WholeService]) -> None:
    schemas = [service.schema.schema for service in batch]
    with conn.transaction():
        conn.execute(NO_CONVERSION)
        for service in batch:
            _make_tables_of(conn, service)
        with translated(f"hand the tables of {_some(schemas)} over to their roles"):
            _hand_over(conn, batch, schemas)
        with translated(f"take the sequences of {_some(schemas)} to every node"):
            _take_sequences_along(conn, schemas)
        with translated(f"distribute schema {_some(schemas)}"):
            conn.execute(
                "SELECT citus_schema_distribute(quote_ident(name)::regnamespace) FROM unnest(%s::text[]) name",
                [schemas],
            )
        # Not before: what is granted on a table travels with it one privilege at a time, the owner's too.
        _grant(conn, batch)


def _grant(conn: Connection, batch: Sequence[WholeService]) -> None:
    alike: dict[tuple[str, tuple[str, ...]], list[EnsureGrant]] = defaultdict(list)
    for service in batch:
        for step in service.grants:
            alike[step.role, step.privileges].append(step)
    for (role, _), steps in alike.items():
        schemas = [step.schema for step in steps]
        with translated(f"grant rights on {_some(schemas)} to {role}"):
            grant_on_tables(conn, steps)


def _make_tables_of(conn: Connection, service: WholeService) -> None:
    conn.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(sql.Identifier(service.schema.schema)))
    for step, migration in service.migrations:
        if not ran_already(conn, step):
            run_statements(conn, migration, f"for {step.role}")
            record(conn, step)


def _hand_over(conn: Connection, batch: Sequence[WholeService], schemas: Sequence[str]) -> None:
    roles = {service.schema.schema: sql.Identifier(service.schema.role) for service in batch}
    for schema, name, kind in conn.execute(services_sql.OWNED_BY_ADMIN, [schemas]).fetchall():
        relation = sql.Identifier(schema, name)
        conn.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), relation, roles[schema]))


def _take_sequences_along(conn: Connection, schemas: Sequence[str]) -> None:
    found = conn.execute(services_sql.SEQUENCES_OF_DEFAULTS, [schemas]).fetchall()
    if not found:
        return
    # Named after the session: two batches at once must not meet.
    name = sql.Identifier("orchestrator", f"sequences_{conn.info.backend_pid}")
    body = sql.SQL(" ").join(
        sql.SQL("SELECT nextval({}::regclass);").format(sql.Literal(sql.Identifier(*row).as_string(conn)))
        for row in found
    )
    conn.execute(sql.SQL("CREATE FUNCTION {}() RETURNS bigint LANGUAGE sql BEGIN ATOMIC {} END").format(name, body))
    conn.execute(sql.SQL("DROP FUNCTION {}()").format(name))


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
