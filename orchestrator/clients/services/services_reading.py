"""Reads what the database has of the services: a handful of catalog queries, whatever their number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.clients.services import services_sql
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import DatabaseError
from orchestrator.core.observed.state import (
    AppliedMigration,
    ForeignKey,
    Role,
    Schema,
    ServicesState,
    Table,
    TableKind,
    UniqueKey,
)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class _SchemaRow:
    name: str
    owner: str
    colocation_id: int | None
    usage: list[str]


@dataclass(frozen=True, slots=True)
class _TableRow:
    schema: str
    name: str
    owner: str
    kind: TableKind
    distribution_column: str | None
    columns: list[str]
    inherits: bool
    triggers: list[str]


@dataclass(frozen=True, slots=True)
class _KeyRow:
    schema: str
    table: str
    name: str
    primary: bool
    columns: list[str]


@dataclass(frozen=True, slots=True)
class _ForeignKeyRow:
    schema: str
    table: str
    name: str
    to_schema: str
    to_table: str
    columns: list[str]
    to_reference: bool


@dataclass(frozen=True, slots=True)
class _GrantRow:
    schema: str
    grantee: str
    privileges: list[str]
    table: str = ""


@dataclass(frozen=True, slots=True)
class _MigrationRow:
    service: str
    name: str
    sha256: str


def read_services(conn: psycopg.Connection[Any], services: Sequence[ServiceSpec]) -> ServicesState:
    """One consistent reading; whether the services can log in is not part of it."""
    names = [service.schema_name for service in services]
    roles = {service.role_name for service in services} | {g.role for service in services for g in service.grants}
    with conn.transaction():
        found = _rows(conn, Role, services_sql.ROLES, [sorted(roles)])
        schemas = _schemas(conn, names)
        bookkeeping = _has_bookkeeping(conn)
        ran: dict[str, list[AppliedMigration]] = defaultdict(list)
        if bookkeeping:
            for row in _rows(conn, _MigrationRow, services_sql.MIGRATIONS, [[s.name for s in services]]):
                ran[row.service].append(AppliedMigration(row.name, row.sha256))
    return ServicesState(
        roles={role.name: role for role in found},
        schemas=schemas,
        migrations={service: tuple(rows) for service, rows in ran.items()},
        bookkeeping=bookkeeping,
    )


def read_keys(conn: psycopg.Connection[Any], query: str) -> list[str]:
    """The first column of a user's query as text, read-only and for a minute at most.

    A pipeline takes one statement at a time: a second one could end the read-only transaction and write.
    """
    doing = "ask the cluster for the keys of a service template"
    with translated(doing), conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        conn.execute("SET LOCAL statement_timeout TO '60s'")
        try:
            with conn.pipeline():
                cursor = conn.execute(sql.SQL(query))
        except psycopg.errors.SyntaxError as error:
            if "multiple commands" not in str(error):
                raise
            raise DatabaseError(doing, "the query has more than one statement") from error
        if cursor.description is None:
            raise DatabaseError(doing, "the query gives no rows")
        return [str(row[0]) for row in cursor.fetchall()]


def read_tables(conn: psycopg.Connection[Any], schema: str) -> Mapping[str, Table]:
    return _tables(conn, [schema], _foreign_keys(conn, [schema])).get(schema, {})


def _schemas(conn: psycopg.Connection[Any], names: list[str]) -> dict[str, Schema]:
    foreign_keys = _foreign_keys(conn, names)
    tables = _tables(conn, names, foreign_keys)
    incoming: dict[str, list[str]] = defaultdict(list)
    for row in foreign_keys:
        if row.schema != row.to_schema:
            incoming[row.to_schema].append(f"{row.schema}.{row.table}")
    default_grants: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for grant in _rows(conn, _GrantRow, services_sql.DEFAULT_GRANTS, [names]):
        default_grants[grant.schema][grant.grantee] = frozenset(grant.privileges)
    return {
        row.name: Schema(
            name=row.name,
            owner=row.owner,
            colocation_id=row.colocation_id,
            tables=tables.get(row.name, {}),
            referenced_from=tuple(sorted(set(incoming[row.name]))),
            usage=frozenset(row.usage),
            default_grants=default_grants[row.name],
        )
        for row in _rows(conn, _SchemaRow, services_sql.SCHEMAS, [names])
    }


def _tables(
    conn: psycopg.Connection[Any], names: list[str], foreign_keys: Sequence[_ForeignKeyRow]
) -> dict[str, dict[str, Table]]:
    unique: dict[tuple[str, str], list[UniqueKey]] = defaultdict(list)
    for key in _rows(conn, _KeyRow, services_sql.UNIQUE_KEYS, [names]):
        unique[key.schema, key.table].append(UniqueKey(key.name, tuple(key.columns), key.primary))
    foreign: dict[tuple[str, str], list[ForeignKey]] = defaultdict(list)
    for row in foreign_keys:
        foreign[row.schema, row.table].append(
            ForeignKey(row.name, row.to_schema, row.to_table, tuple(row.columns), row.to_reference)
        )
    grants: dict[tuple[str, str], dict[str, frozenset[str]]] = defaultdict(dict)
    for grant in _rows(conn, _GrantRow, services_sql.TABLE_GRANTS, [names]):
        grants[grant.schema, grant.table][grant.grantee] = frozenset(grant.privileges)
    tables: dict[str, dict[str, Table]] = defaultdict(dict)
    for table in _rows(conn, _TableRow, services_sql.TABLES, [names]):
        place = (table.schema, table.name)
        tables[table.schema][table.name] = Table(
            name=table.name,
            owner=table.owner,
            kind=table.kind,
            columns=tuple(table.columns),
            distribution_column=table.distribution_column,
            unique_keys=tuple(unique[place]),
            foreign_keys=tuple(foreign[place]),
            grants=grants[place],
            inherits=table.inherits,
            triggers=tuple(table.triggers),
        )
    return tables


def _foreign_keys(conn: psycopg.Connection[Any], names: list[str]) -> list[_ForeignKeyRow]:
    return _rows(conn, _ForeignKeyRow, services_sql.FOREIGN_KEYS, [names, names])


def _has_bookkeeping(conn: psycopg.Connection[Any]) -> bool:
    row = conn.execute(services_sql.BOOKKEEPING).fetchone()
    return bool(row and row[0])


def _rows(conn: psycopg.Connection[Any], kind: type[Row], query: LiteralString, values: list[list[str]]) -> list[Row]:
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, values).fetchall()
