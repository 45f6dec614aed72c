"""Migration files as data, and what can be known of them before they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A primary key or unique constraint or index that a migration makes. `line` counts from 1."""

    columns: tuple[str, ...]
    kind: str
    line: int


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """A foreign key that a migration makes. `to_schema` is None where the migration does not name one."""

    to_schema: str | None
    to_table: str
    line: int


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that a migration creates, with the keys it gets there or later in the same file."""

    schema: str | None
    name: str
    columns: tuple[str, ...]
    keys: tuple[KeyFacts, ...] = ()
    references: tuple[ReferenceFacts, ...] = ()
    inherits: bool = False
    line: int = 1


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file. `statements` are its statements, one by one: Citus forwards DDL as prepared statements, which
    cannot hold several commands (SQLSTATE 42601). `triggers` are pairs of table and line.
    """

    name: str
    sha256: str
    path: str
    statements: tuple[str, ...]
    tables: tuple[TableFacts, ...] = ()
    triggers: tuple[tuple[str, int], ...] = ()
