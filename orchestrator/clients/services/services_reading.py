"""Reads what the database has of the services: a handful of catalog queries, whatever their number.

Their rows come in the order of the services, through cursors on the server where there are many, and are put together
for some services at a time: what is kept in memory does not grow with the number of services.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, LiteralString, Protocol, TypeAlias, TypeVar

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
from orchestrator.core.planning.plan_services import Reading

_DOING = "read roles, schemas and tables"
AT_A_TIME = 250


class _Placed(Protocol):
    @property
    def place(self) -> int: ...


Row = TypeVar("Row", bound=_Placed)
# Opens the rows of a query about names, in the order of those. Names are the text of an array: one text for all
# queries takes less time and memory than as many lists.
Open: TypeAlias = Callable[[type[Row], LiteralString, str], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class _RoleRow:
    place: int
    name: str
    can_login: bool
    superuser: bool
    connection_limit: int
    search_path: str | None
    admin_is_member: bool


@dataclass(frozen=True, slots=True)
class _SchemaRow:
    place: int
    name: str
    owner: str
    colocation_id: int | None
    usage: list[str]


@dataclass(frozen=True, slots=True)
class _TableRow:
    place: int
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
    place: int
    schema: str
    table: str
    name: str
    primary: bool
    columns: list[str]


@dataclass(frozen=True, slots=True)
class _ForeignKeyRow:
    place: int
    schema: str
    table: str
    name: str
    to_schema: str
    to_table: str
    columns: list[str]
    to_reference: bool


@dataclass(frozen=True, slots=True)
class _ReferenceRow:
    place: int
    schema: str
    from_schema: str
    from_table: str


@dataclass(frozen=True, slots=True)
class _GrantRow:
    place: int
    schema: str
    grantee: str
    privileges: list[str]
    table: str = ""


@dataclass(frozen=True, slots=True)
class _MigrationRow:
    place: int
    service: str
    name: str
    sha256: str


def read_services(
    conn: psycopg.Connection[Any], services: Sequence[ServiceSpec], at_a_time: int = AT_A_TIME
) -> Iterator[Reading]:
    """`at_a_time` services after each other, within one transaction; whether they can log in is not part of it."""
    with translated(_DOING), conn.transaction():
        open_rows = _opener(conn, cursors=len(services) > at_a_time)
        granted = {grant.role for service in services for grant in service.grants}
        named = {row.name: _role(row) for row in open_rows(_RoleRow, services_sql.ROLES, _array(sorted(granted)))}
        bookkeeping = _has_bookkeeping(conn)
        roles = open_rows(_RoleRow, services_sql.ROLES, _array(service.role_name for service in services))
        schemas = _schemas(open_rows, _array(service.schema_name for service in services), at_a_time)
        names = _array(service.name for service in services)
        ran = open_rows(_MigrationRow, services_sql.MIGRATIONS, names) if bookkeeping else iter(())
        parts = zip(_parts(roles, at_a_time), schemas, _parts(ran, at_a_time), strict=False)
        for first, (some_roles, some_schemas, some_ran) in zip(range(0, len(services), at_a_time), parts, strict=False):
            some = services[first : first + at_a_time]
            there = {row.name: _role(row) for row in some_roles}
            there |= {grant.role: named[grant.role] for s in some for grant in s.grants if grant.role in named}
            applied: dict[str, tuple[AppliedMigration, ...]] = {}
            for row in some_ran:
                applied[row.service] = (*applied.get(row.service, ()), AppliedMigration(row.name, row.sha256))
            yield Reading(first, some, ServicesState(there, some_schemas, applied, bookkeeping))


def some_of_the_roles(conn: psycopg.Connection[Any], names: Iterable[str], most: int) -> list[int]:
    """Where in `names` those of `most` roles that are there are, chosen by chance."""
    with translated(_DOING):
        return [row[0] - 1 for row in conn.execute(services_sql.SOME_ROLES, [_array(names), most]).fetchall()]


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
    rows = next(_tables(_opener(conn, cursors=False), _array([schema]), at_a_time=1))
    return rows.get(schema, {})


def _schemas(open_rows: Open[Any], names: str, at_a_time: int) -> Iterator[dict[str, Schema]]:
    """The schemas of the first `at_a_time` services, of the next ones, and so on."""
    tables = _tables(open_rows, names, at_a_time)
    incoming = _parts(open_rows(_ReferenceRow, services_sql.REFERENCED_FROM, names), at_a_time)
    defaults = _parts(open_rows(_GrantRow, services_sql.DEFAULT_GRANTS, names), at_a_time)
    schemas = _parts(open_rows(_SchemaRow, services_sql.SCHEMAS, names), at_a_time)
    for rows, some_tables, some_incoming, some_defaults in zip(schemas, tables, incoming, defaults, strict=False):
        referenced_from: dict[str, set[str]] = defaultdict(set)
        for row in some_incoming:
            referenced_from[row.schema].add(f"{row.from_schema}.{row.from_table}")
        default_grants: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
        for grant in some_defaults:
            default_grants[grant.schema][grant.grantee] = frozenset(grant.privileges)
        yield {
            row.name: Schema(
                name=row.name,
                owner=row.owner,
                colocation_id=row.colocation_id,
                tables=some_tables.get(row.name, {}),
                referenced_from=tuple(sorted(referenced_from[row.name])),
                usage=frozenset(row.usage),
                default_grants=default_grants[row.name],
            )
            for row in rows
        }


def _tables(open_rows: Open[Any], names: str, at_a_time: int) -> Iterator[dict[str, dict[str, Table]]]:
    keys = _parts(open_rows(_KeyRow, services_sql.UNIQUE_KEYS, names), at_a_time)
    foreign_keys = _parts(open_rows(_ForeignKeyRow, services_sql.FOREIGN_KEYS, names), at_a_time)
    grants = _parts(open_rows(_GrantRow, services_sql.TABLE_GRANTS, names), at_a_time)
    tables = _parts(open_rows(_TableRow, services_sql.TABLES, names), at_a_time)
    for parts in zip(tables, keys, foreign_keys, grants, strict=False):
        yield _put_together(*parts)


def _put_together(
    tables: Sequence[_TableRow],
    keys: Sequence[_KeyRow],
    foreign_keys: Sequence[_ForeignKeyRow],
    table_grants: Sequence[_GrantRow],
) -> dict[str, dict[str, Table]]:
    unique: dict[tuple[str, str], list[UniqueKey]] = defaultdict(list)
    for key in keys:
        unique[key.schema, key.table].append(UniqueKey(key.name, tuple(key.columns), key.primary))
    foreign: dict[tuple[str, str], list[ForeignKey]] = defaultdict(list)
    for row in foreign_keys:
        foreign[row.schema, row.table].append(
            ForeignKey(row.name, row.to_schema, row.to_table, tuple(row.columns), row.to_reference)
        )
    grants: dict[tuple[str, str], dict[str, frozenset[str]]] = defaultdict(dict)
    for grant in table_grants:
        grants[grant.schema, grant.table][grant.grantee] = frozenset(grant.privileges)
    found: dict[str, dict[str, Table]] = defaultdict(dict)
    for table in tables:
        place = (table.schema, table.name)
        found[table.schema][table.name] = Table(
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
    return found


def _array(names: Iterable[str]) -> str:
    """As PostgreSQL reads an array of names."""
    escaped = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return "{" + ",".join(f'"{name}"' for name in escaped) + "}"


def _role(row: _RoleRow) -> Role:
    return Role(
        row.name, row.can_login, row.connection_limit, row.search_path, row.admin_is_member, superuser=row.superuser
    )


def _has_bookkeeping(conn: psycopg.Connection[Any]) -> bool:
    row = conn.execute(services_sql.BOOKKEEPING).fetchone()
    return bool(row and row[0])


def _opener(conn: psycopg.Connection[Any], *, cursors: bool) -> Open[Any]:
    """Rows at once, or from a cursor on the server that is read to its end."""
    if not cursors:
        return lambda kind, query, names: iter(
            conn.cursor(row_factory=class_row(kind)).execute(query, [names]).fetchall()
        )
    # Planned for all rows, not for the first ones, which might take very long for all.
    conn.execute("SET LOCAL cursor_tuple_fraction TO 1")
    numbers = count(1)
    return lambda kind, query, names: _from_cursor(conn, f"services_{next(numbers)}", kind, query, names)


def _from_cursor(
    conn: psycopg.Connection[Any], name: str, kind: type[Row], query: LiteralString, names: str
) -> Iterator[Row]:
    with conn.cursor(name, row_factory=class_row(kind)) as cursor:
        cursor.itersize = AT_A_TIME
        yield from cursor.execute(query, [names])


def _parts(rows: Iterator[Row], at_a_time: int) -> Iterator[list[Row]]:
    """The rows about the first `at_a_time` names, about the next ones, and so on without an end."""
    row, last = next(rows, None), at_a_time
    while True:
        part = []
        while row is not None and row.place <= last:
            part.append(row)
            row = next(rows, None)
        yield part
        last += at_a_time
