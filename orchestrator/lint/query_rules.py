"""Queries over distributed tables: a value for the distribution column, joins along it, one schema only.

A distributed table is *pinned* when the class of its distribution column has a constant or a parameter. Parts of a
query that Citus plans by themselves are judged by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.lint.queries import Query
from orchestrator.lint.scopes import Scope
from orchestrator.lint.tables import Table, Tables
from orchestrator.lint.tree import Statement, kind, walk

Found = tuple[str, str]
_MOST_PARTS = 100
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})


def query_findings(statement: Statement, tables: Tables) -> Iterator[Found]:
    tree = statement.tree
    if statement.kind in {"ViewStmt", "CreateTableAsStmt", "ExplainStmt", "DeclareCursorStmt", "PrepareStmt"}:
        tree = tree.query
    if kind(tree) not in _QUERIES or (statement.kind == "ViewStmt"):
        return
    if kind(tree) == "InsertStmt":
        target = tables.find(tree.relation.schemaname or statement.schema, tree.relation.relname)
        yield from _inserted(tree, target)
        if tree.selectStmt is None or tree.selectStmt.valuesLists:
            return
        yield from _across(statement, tree, tables)
        tree = tree.selectStmt
    # Citus first tries with CTEs folded in, and plans them apart where that fails.
    folded_in = list(_all_parts(statement, tables, tree, fold=True))
    fails = any(rule != "EC201" for rule, _ in folded_in)
    yield from list(_all_parts(statement, tables, tree, fold=False)) if fails else folded_in


def _all_parts(statement: Statement, tables: Tables, tree: Any, *, fold: bool) -> Iterator[Found]:
    todo: list[tuple[Any, Scope | None]] = [(tree, None)]
    for _ in range(_MOST_PARTS):
        if not todo:
            return
        node, scope = todo.pop(0)
        part = Query(statement, tables, fold=fold)
        if kind(node) == "SelectStmt":
            part.select(node, scope)
        elif kind(node) in {"UpdateStmt", "DeleteStmt"}:
            part.change(node, scope)
        todo += part.arms + part.changes
        yield from _judge(part)


def _inserted(tree: Any, target: Table | None) -> Iterator[Found]:
    columns = {item.name for item in tree.cols or ()}
    if target is not None and target.column and columns and target.column not in columns:
        yield "EC201", f"the INSERT into {target.name} gives no value for the distribution column {target.column}"


def _across(statement: Statement, tree: Any, tables: Tables) -> Iterator[Found]:
    """INSERT ... SELECT from the data of one service into that of another runs through the coordinator."""
    schema = tree.relation.schemaname or statement.schema
    if not tables.tenant(schema):
        return
    for node in walk(tree.selectStmt):
        if kind(node) == "RangeVar" and node.schemaname != schema and tables.tenant(node.schemaname):
            yield "EC103", f"rows of {node.schemaname} go into {schema} through the coordinator, one by one"
            return


def _judge(query: Query) -> Iterator[Found]:
    tenants = {table.schema for table in query.used.values() if query.tables.tenant(table.schema)}
    spread = {key: table for key, table in query.used.items() if table.distributed}
    if len(tenants) > 1 or (tenants and spread):
        names = ", ".join(sorted(f"{table.schema}.{table.name}" for table in query.used.values()))
        yield "EC103", f"{names} lie on different nodes: Citus refuses to join them; read one after the other"
        return
    keys = [(source, str(table.column)) for source, table in spread.items()]
    roots = {query.classes.root(key) for key in keys}
    groups = {table.group for table in spread.values()}
    if len(roots) > 1 or len(groups) > 1:
        names = ", ".join(sorted({table.name for table in spread.values()}))
        yield (
            "EC202",
            f"{names} are not joined by the distribution columns of one colocation group, which Citus refuses",
        )
    elif loose := [source for source, column in keys if not query.values.is_pinned((source, column))]:
        table = spread[loose[0]]
        yield "EC201", f"no value for {table.column} of {table.name}: every shard on every node is asked"
