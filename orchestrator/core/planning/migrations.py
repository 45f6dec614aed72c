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
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that a migration creates, with the keys it gets there or later in the same file.

    Where `created` is False the file only alters it, and these are the columns and keys that it adds. `partial` means
    that the file shapes the table in ways that are not followed here (LIKE, AS SELECT, DROP CONSTRAINT, RENAME ...):
    then nothing may be concluded from what is absent, nor from keys that were there before.
    """

    schema: str | None
    name: str
    columns: tuple[str, ...]
    keys: tuple[KeyFacts, ...] = ()
    references: tuple[ReferenceFacts, ...] = ()
    inherits: bool = False
    line: int = 1
    created: bool = True
    partial: bool = False
    partition: bool = False


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file.

    `statements` are its statements, one by one: Citus forwards DDL as prepared statements, which cannot hold several
    commands (SQLSTATE 42601). `lines` says where each begins, `triggers` are pairs of table and line, `drops` are the
    tables that the file drops. `opaque` files run code (DO, CALL) that can do anything. `plain` files only make tables,
    indexes, sequences and views and fill them: whoever runs them, what they make can be handed over.
    """

    name: str
    sha256: str
    path: str
    statements: tuple[str, ...]
    tables: tuple[TableFacts, ...] = ()
    triggers: tuple[tuple[str, int], ...] = ()
    drops: tuple[str, ...] = ()
    opaque: bool = False
    plain: bool = False
    lines: tuple[int, ...] = ()
