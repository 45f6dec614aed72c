"""What the clients of a benchmark send: statements with values from rows that are there, or a script's own."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.advice.facts import Table
from orchestrator.core.advice.filling import Filled, Parameter, Unfillable
from orchestrator.core.advice.script import Script, Setting, evaluate

_ROWS = 2000
# Far from where keys usually are. With 31 bits they are only rarely there already.
_FRESH = {"integer": (2**30, 2**31 - 1), "bigint": (2**40, 2**62), "numeric": (2**40, 2**62)}
Statement = tuple[str, Sequence[str | None]]
# Gives the statements of one transaction; whether it holds its own BEGIN and COMMIT.
Source = Callable[[random.Random], list[Statement]]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A statement with, for each parameter, its value in each sampled row; None where it is made up each time."""

    text: str
    rows: tuple[tuple[str | None, ...], ...]
    fresh: tuple[str | None, ...]


def statements_source(
    connection: psycopg.Connection[Any], filled: Sequence[Filled], tables: Mapping[str, Table]
) -> tuple[Source | None, tuple[Unfillable, ...]]:
    """Draws statements as often as they were called; None where none is left, and those whose table has no rows."""
    tried = [(one, _ready(connection, one, tables[one.table])) for one in filled]
    ready = [found for _, found in tried if found is not None]
    weights = [one.calls for one, found in tried if found is not None]
    empty = tuple(
        Unfillable(one.text, f"{one.table} has no rows to take values from") for one, found in tried if found is None
    )

    def draw(chance: random.Random) -> list[Statement]:
        one = chance.choices(ready, weights)[0]
        row = chance.choice(one.rows)
        values = [value if kind is None else _fresh(kind, chance) for value, kind in zip(row, one.fresh, strict=True)]
        return [(one.text, values)]

    return draw if ready else None, empty


def script_source(script: Script, commit: bool) -> Source:
    """Without `commit` the script's own BEGIN and COMMIT are left out: all of it is one transaction."""

    def draw(chance: random.Random) -> list[Statement]:
        values: dict[str, int] = {}
        found: list[Statement] = []
        for step in script.steps:
            if isinstance(step, Setting):
                values[step.name] = evaluate(step.expression, values, chance.randint)
            elif commit or not step.control:
                found.append((step.text, [str(values[name]) for name in step.variables]))
        return found

    return draw


def _ready(connection: psycopg.Connection[Any], one: Filled, table: Table) -> _Ready | None:
    if not one.parameters:
        return _Ready(one.text, ((),), ())
    chosen = sql.SQL(", ").join(_value(parameter) for parameter in one.parameters)
    name = sql.Identifier(table.schema, table.name)
    # Some pages from all over the table; a small or a clustered one may give none, and is then read from its start.
    share = min(100.0, max(0.001, 100 * 20 * _ROWS / max(table.rows, 1)))
    query = sql.SQL("SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) LIMIT {}").format(chosen, name, share, _ROWS)
    start = sql.SQL("SELECT {} FROM {} LIMIT {}").format(chosen, name, _ROWS)
    with translated(f"Taking values from {one.table}"):
        rows = connection.execute(query).fetchall() or connection.execute(start).fetchall()
    if not rows:
        return None
    fresh = tuple(_kind(table, parameter) if parameter.how == "fresh" else None for parameter in one.parameters)
    return _Ready(one.text, tuple(tuple(row) for row in rows), fresh)


def _value(parameter: Parameter) -> sql.Composed:
    column = sql.Identifier(parameter.column)
    return sql.SQL("ARRAY[{}]::text" if parameter.how == "array" else "{}::text").format(column)


def _kind(table: Table, parameter: Parameter) -> str:
    column = table.column(parameter.column)
    return column.type if column is not None else "text"


def _fresh(kind: str, chance: random.Random) -> str:
    if kind in _FRESH:
        return str(chance.randint(*_FRESH[kind]))
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
