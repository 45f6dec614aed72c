"""Where the values of a statement's parameters could come from: for each $n the column that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.core.advice.facts import Table, Usage
from orchestrator.core.advice.filling import Filled, How, Parameter, Unfillable, fresh_columns
from orchestrator.lint.equalities import pairs
from orchestrator.lint.tree import enum, kind, strings, walk
from orchestrator.lint.usage import parsed

_LIMITS = ("limitCount", "limitOffset")


def fill(usage: Usage, tables: dict[str, Table]) -> Filled | Unfillable:
    """A plan for the parameters of a writing statement over one table."""
    tree = parsed(usage.text)
    if kind(tree) not in {"InsertStmt", "UpdateStmt", "DeleteStmt"}:
        return Unfillable(usage.text, "it is no plain INSERT, UPDATE or DELETE")
    if len(usage.tables) != 1:
        return Unfillable(usage.text, "it is over several tables")
    table = tables[next(iter(usage.tables))]
    wanted = {node.number for node in walk(tree) if kind(node) == "ParamRef"}
    found: dict[int, Parameter] = {}
    for number, column, how in _places(tree, table):
        if table.column(column) is not None:
            found.setdefault(number, Parameter(number, column, how))
    for node in walk(tree):
        if any(kind(getattr(node, name, None)) == "ParamRef" for name in _LIMITS):
            return Unfillable(usage.text, "it has a LIMIT")
    missing = sorted(wanted - set(found))
    if missing:
        return Unfillable(usage.text, f"${missing[0]} belongs to no column")
    inserted = {parameter.column for parameter in found.values() if parameter.how == "new"}
    if kind(tree) == "InsertStmt":
        fresh = fresh_columns(table, inserted)
        if isinstance(fresh, str):
            return Unfillable(usage.text, fresh)
        found = {
            number: Parameter(number, one.column, "fresh" if one.how == "new" and one.column in fresh else one.how)
            for number, one in found.items()
        }
    return Filled(
        usage.text, usage.calls, table.title, kind(tree) == "DeleteStmt", tuple(found[key] for key in sorted(found))
    )


def _places(tree: Any, table: Table) -> Iterator[tuple[int, str, How]]:
    if kind(tree) == "InsertStmt" and tree.selectStmt is not None:
        names = [item.name for item in tree.cols or ()] or [column.name for column in table.columns]
        for row in tree.selectStmt.valuesLists or ():
            for name, value in zip(names, row, strict=False):
                if (number := _number(value)) is not None:
                    yield number, name, "new"
    for node in walk(tree):
        if kind(node) == "ResTarget" and node.name is not None and node.val is not None:
            for inside in walk(node.val):
                if kind(inside) == "ParamRef":
                    yield inside.number, node.name, "row"
        elif kind(node) == "A_Expr":
            yield from _compared(node)


def _compared(node: Any) -> Iterator[tuple[int, str, How]]:
    """`column = $1`, `column IN ($1, $2)`, `column = ANY ($1)`, and `column < $1` the same way."""
    how: How = "array" if enum(node.kind) == "AEXPR_OP_ANY" else "row"
    sides = list(pairs(node)) or [(node.lexpr, node.rexpr), (node.rexpr, node.lexpr)]
    for left, right in sides:
        if kind(left) != "ColumnRef":
            continue
        for value in right if isinstance(right, tuple) else (right,):
            if (number := _number(value)) is not None:
                yield number, strings(left.fields)[-1], how


def _number(node: Any) -> int | None:
    while kind(node) == "TypeCast":
        node = node.arg
    return node.number if kind(node) == "ParamRef" else None
