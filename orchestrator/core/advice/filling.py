"""How parameters of a recorded statement are filled in: from a row that is there, or with a value that is not. Pure.

All values of one execution come from one row of the statement's table, so that keys that belong together stay together.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from orchestrator.core.advice.facts import Table

# `row`: as in the row; `new`: the same, for an INSERT; `fresh`: not there yet; `array`: the row's, in an array.
How = Literal["row", "new", "fresh", "array"]
FRESH = frozenset({"integer", "bigint", "text", "character varying", "uuid", "numeric"})


@dataclass(frozen=True, slots=True)
class Parameter:
    number: int
    column: str
    how: How


@dataclass(frozen=True, slots=True)
class Filled:
    """A statement that can be run. `calls` is how often it was, which is its weight."""

    text: str
    calls: int
    table: str
    deletes: bool
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Unfillable:
    text: str
    reason: str


def fresh_columns(table: Table, given: Collection[str]) -> frozenset[str] | str:
    """One column of each unique key whose values are all given, or why there is none."""
    bound = {column for key in table.foreign_keys for column in key.columns}
    found: set[str] = set()
    for key in table.keys:
        if not key.columns or not set(key.columns) <= set(given) or set(key.columns) & found:
            continue
        able = [name for name in key.columns if name not in bound and _type(table, name) in FRESH]
        if not able:
            return f"no new value can be made up for {key.name} ({', '.join(key.columns)})"
        found.add(able[-1])
    return frozenset(found)


def _type(table: Table, name: str) -> str:
    column = table.column(name)
    return column.type if column is not None else ""
