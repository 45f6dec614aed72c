"""What statements do with the tables of a database: which they join by what, and which columns they give a value for.

For statements as pg_stat_statements keeps them, with $1 for each constant, against tables read from the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.core.advice.facts import Class, Query, Recorded, Table, Usage
from orchestrator.lint.queries import Query as Reader
from orchestrator.lint.session_rules import session_findings
from orchestrator.lint.tables import Table as Known
from orchestrator.lint.tables import Tables
from orchestrator.lint.tree import Statement, calls, function_name, kind, walk

# Of PostgreSQL's aggregates those that read many rows to give few.
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max", "stddev", "variance", "array_agg", "percentile_cont"})
_CHANGES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_MOST_ARMS = 100


def usages(recorded: Sequence[Recorded], tables: Sequence[Table]) -> tuple[Usage, ...]:
    """Statements over these tables, and those that do not work through a pooler; others are left out."""
    catalog = {(table.schema, table.name): table for table in tables}
    found = (usage_of(one, catalog) for one in recorded)
    return tuple(usage for usage in found if usage is not None)


def usage_of(recorded: Recorded, catalog: Mapping[tuple[str, str], Table]) -> Usage | None:
    tree = parsed(recorded.text)
    if tree is None:
        return None
    statement = Statement("pg_stat_statements", 1, 1, "pooled", _schema(tree, recorded.schemas, catalog), tree)
    pooled = next((message for _, message in session_findings(statement)), "")
    queries = tuple(query for query in _queries(statement, _tables(tree, statement.schema, catalog)) if query.sources)
    if not queries and not pooled:
        return None
    writes = any(kind(node) in _CHANGES for node in walk(tree))
    return Usage(recorded.text, recorded.calls, recorded.seconds, writes, recorded.wal_bytes, queries, pooled)


def parsed(text: str) -> Any:
    """The only statement of the text; None for what PostgreSQL's parser does not understand."""
    from pglast import parse_sql  # here, because importing it takes longer than all the rest
    from pglast.parser import ParseError

    try:
        found = parse_sql(text)
    except ParseError:
        return None
    return found[0].stmt if len(found) == 1 else None


def _schema(tree: Any, schemas: Sequence[str], catalog: Mapping[tuple[str, str], Table]) -> str | None:
    """Of the schemas on the search_path the one in which most names of the statement are tables."""
    names = [node.relname for node in walk(tree) if kind(node) == "RangeVar" and node.schemaname is None]
    return max(schemas, key=lambda schema: sum((schema, name) in catalog for name in names), default=None)


def _tables(tree: Any, schema: str | None, catalog: Mapping[tuple[str, str], Table]) -> Tables:
    tables = Tables()
    for node in walk(tree):
        if kind(node) == "RangeVar":
            found = catalog.get((node.schemaname or schema or "", node.relname))
            if found is not None and tables.find(found.schema, found.name) is None:
                columns = {column.name for column in found.columns}
                tables.known.append(Known(found.schema, found.name, columns=columns))
    return tables


def _queries(statement: Statement, tables: Tables) -> Iterator[Query]:
    tree = statement.tree
    reader = Reader(statement, tables)
    if statement.kind == "InsertStmt":
        target = tables.find(tree.relation.schemaname or statement.schema, tree.relation.relname)
        if tree.selectStmt is None or tree.selectStmt.valuesLists:
            if target is not None:
                yield _inserted(tree, target)
            return
        reader.select(tree.selectStmt, None)
    elif statement.kind == "SelectStmt":
        reader.select(tree, None)
    elif statement.kind in {"UpdateStmt", "DeleteStmt"}:
        reader.change(tree)
    else:
        return
    yield _query(reader, tree)
    arms, seen = list(reader.arms), 0
    while arms and seen < _MOST_ARMS:
        node, scope = arms.pop()
        arm = Reader(statement, tables)
        arm.select(node, scope)
        arms += arm.arms
        yield _query(arm, node)
        seen += 1


def _inserted(tree: Any, target: Known) -> Query:
    title = f"{target.schema}.{target.name}"
    columns = [item.name for item in tree.cols or ()] or sorted(target.columns)
    return Query({title: title}, tuple(Class(frozenset({(title, column)}), True) for column in columns))


def _query(reader: Reader, tree: Any) -> Query:
    sources = {source: f"{table.schema}.{table.name}" for source, table in reader.used.items()}
    classes = []
    for members, pinned in reader.classes.groups():
        columns = frozenset(key for key in members if key[0] in sources)
        if columns:
            classes.append(Class(columns, pinned))
    grouped = bool(getattr(tree, "groupClause", None))
    called = any(function_name(call) in _AGGREGATES for call in calls(getattr(tree, "targetList", None)))
    return Query(sources, tuple(classes), grouped or called)
