"""What is known of a running PostgreSQL: its tables, its statements, its load. Facts only, nothing is judged here.

Values of rows are never kept: of the most common ones there are their hash, as Citus would take it, and their share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ColumnId = tuple[str, str]  # (an entry of Query.sources, or a table's title; a column's name)


@dataclass(frozen=True, slots=True)
class Common:
    """One of a column's most common values: its share of all rows and its hash (None for a type without one here)."""

    share: float
    hash: int | None


@dataclass(frozen=True, slots=True)
class Column:
    """`distinct` and `nulls` (a share) are None where there are no statistics."""

    name: str
    type: str
    not_null: bool
    distinct: float | None = None
    nulls: float | None = None
    common: tuple[Common, ...] = ()
    sequence: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key, unique constraint or unique index; `columns` is empty for one over expressions."""

    name: str
    columns: tuple[str, ...]
    primary: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """`bytes` with indexes and TOAST; `writes` are rows inserted, updated and deleted since statistics began."""

    schema: str
    name: str
    rows: int
    bytes: int
    columns: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    writes: int = 0
    grown: int = 0
    triggers: tuple[str, ...] = ()
    inherits: bool = False

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Class:
    """Columns that a query holds equal to each other, and whether also to a value."""

    columns: frozenset[ColumnId]
    pinned: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a statement; a UNION has several. `sources`: for each relation in it the title of its table."""

    sources: Mapping[str, str]
    classes: tuple[Class, ...] = ()
    aggregates: bool = False

    @property
    def tables(self) -> frozenset[str]:
        return frozenset(self.sources.values())


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row of pg_stat_statements. `schemas` is where names without one are looked up, in order."""

    text: str
    calls: int
    seconds: float
    wal_bytes: int
    schemas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """A statement as pg_stat_statements has it. `pooled` says why it does not work through PgBouncer, else empty."""

    text: str
    calls: int
    seconds: float
    writes: bool = False
    wal_bytes: int = 0
    queries: tuple[Query, ...] = ()
    pooled: str = ""

    @property
    def tables(self) -> frozenset[str]:
        return frozenset().union(*(query.tables for query in self.queries))


@dataclass(frozen=True, slots=True)
class Load:
    """Rates are per second over `seconds`; None is unknown. `sessions` are clients', `active` those at work."""

    seconds: float | None = None
    sessions: int | None = None
    active: int | None = None
    max_connections: int | None = None
    commits: float | None = None
    rows_written: float | None = None
    wal_bytes: float | None = None
    growth_bytes: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Database:
    """`unseen` are sentences: what could not be read, and what would let it be read."""

    name: str
    version: str
    bytes: int
    tables: tuple[Table, ...] = ()
    usages: tuple[Usage, ...] = ()
    load: Load = field(default_factory=Load)
    unseen: tuple[str, ...] = ()

    def table(self, title: str) -> Table | None:
        return next((table for table in self.tables if table.title == title), None)


def by_title(tables: Sequence[Table]) -> Mapping[str, Table]:
    return {table.title: table for table in tables}


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
