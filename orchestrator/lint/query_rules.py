"""Queries over distributed tables: a value for the distribution column, joins along it, one schema only.

Columns that conditions hold equal form classes. A distributed table is *pinned* when the class of its distribution
column has a constant or a parameter. Only conditions joined by AND count; an OR counts where every arm pins the column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.lint.equalities import Classes, Key, is_value, pairs, sublinks, value_text
from orchestrator.lint.tables import Table, Tables
from orchestrator.lint.tree import Statement, enum, kind, strings, walk

Found = tuple[str, str]
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})


@dataclass
class _Source:
    """A relation in FROM: a table, or a subquery whose columns lead to those of its own relations."""

    id: str
    table: Table | None
    outputs: dict[str, Key] = field(default_factory=dict)


@dataclass
class _Scope:
    sources: dict[str, _Source] = field(default_factory=dict)
    parent: _Scope | None = None
    ctes: dict[str, Any] = field(default_factory=dict)

    def cte(self, name: str) -> Any:
        if name in self.ctes:
            return self.ctes[name]
        return self.parent.cte(name) if self.parent else None


class Query:
    """One query with all its parts but the arms of UNION and the like, which are looked at one by one."""

    def __init__(self, statement: Statement, tables: Tables) -> None:
        self.statement, self.tables = statement, tables
        self.used: dict[str, Table] = {}
        self.classes = Classes()
        self.arms: list[tuple[Any, _Scope]] = []

    def select(self, node: Any, parent: _Scope | None) -> dict[str, Key]:
        scope = _Scope(parent=parent)
        self._with(node, scope)
        if node.larg is not None:
            self.arms += [(node.larg, scope), (node.rarg, scope)]
            return {}
        self._from(node.fromClause or (), scope)
        self._condition(node.whereClause, scope)
        self._condition(node.havingClause, scope)
        outputs = self._outputs(node.targetList or (), scope)
        self._below((node.targetList, node.sortClause), scope)
        return outputs

    def change(self, node: Any) -> None:
        scope = _Scope()
        self._with(node, scope)
        self._relation(node.relation, scope)
        self._from(getattr(node, "fromClause", None) or getattr(node, "usingClause", None) or (), scope)
        self._condition(node.whereClause, scope)
        self._below((getattr(node, "targetList", None),), scope)

    def _with(self, node: Any, scope: _Scope) -> None:
        for cte in node.withClause.ctes if node.withClause else ():
            scope.ctes[cte.ctename] = cte.ctequery

    def _from(self, items: Any, scope: _Scope) -> None:
        for item in items:
            if kind(item) == "RangeVar":
                self._relation(item, scope)
            elif kind(item) == "RangeSubselect":
                self._derived(item.alias.aliasname if item.alias else "?", item.subquery, scope)
            elif kind(item) == "JoinExpr":
                self._from((item.larg, item.rarg), scope)
                for column in strings(item.usingClause):
                    self._using(column, scope)
                if item.isNatural:
                    self._natural(scope)
                self._condition(item.quals, scope)

    def _derived(self, name: str, query: Any, scope: _Scope) -> None:
        outputs = self.select(query, scope) if kind(query) == "SelectStmt" else {}
        scope.sources[name] = _Source(f"{name}#{len(self.used)}.{id(query)}", None, outputs)

    def _relation(self, item: Any, scope: _Scope) -> None:
        name = item.alias.aliasname if item.alias else item.relname
        query = scope.cte(item.relname) if item.schemaname is None else None
        if query is not None:
            self._derived(name, query, scope)
            return
        schema = item.schemaname or self.statement.schema
        table = self.tables.find(schema, item.relname)
        if table is None and self.tables.tenant(schema):
            table = Table(schema, item.relname)
        source = _Source(f"{name}#{len(self.used)}", table)
        scope.sources[name] = source
        if table is not None:
            self.used[source.id] = table

    def _using(self, column: str, scope: _Scope) -> None:
        keys = [key for source in scope.sources.values() if (key := self._in(source, column, sure=False))]
        for key in keys[1:]:
            self.classes.equal(keys[0], key)

    def _natural(self, scope: _Scope) -> None:
        for column in {source.table.column for source in scope.sources.values() if source.table}:
            if column is not None:
                self._using(column, scope)

    def _in(self, source: _Source, column: str, *, sure: bool) -> Key | None:
        """The key of a column of this relation; not `sure` means that the relation may not have the column."""
        if source.table is None:
            return source.outputs.get(column) or (self._star(source, column) if "*" in source.outputs else None)
        known = source.table.columns | ({source.table.column} if source.table.column else set())
        return (source.id, column) if sure or column in known else None

    def _star(self, source: _Source, column: str) -> Key | None:
        owner = source.outputs["*"][0]
        return (owner, column)

    def _column(self, node: Any, scope: _Scope | None) -> Key | None:
        names = strings(node.fields)
        while scope is not None and names:
            if len(names) > 1:
                if names[-2] in scope.sources:
                    return self._in(scope.sources[names[-2]], names[-1], sure=True)
            else:
                sources = list(scope.sources.values())
                having = [key for source in sources if (key := self._in(source, names[0], sure=False))]
                if len({self.classes.root(key) for key in having}) == 1:
                    return having[0]
                if len(sources) == 1 and sources[0].table is not None and scope.parent is None:
                    return (sources[0].id, names[0])
            scope = scope.parent
        return None

    def _outputs(self, targets: Any, scope: _Scope) -> dict[str, Key]:
        found: dict[str, Key] = {}
        for target in targets:
            if kind(target.val) != "ColumnRef":
                continue
            if kind(target.val.fields[-1]) == "A_Star":
                for source in scope.sources.values():
                    if source.table is not None:
                        found.setdefault("*", (source.id, "*"))
                        if source.table.column:
                            found.setdefault(source.table.column, (source.id, source.table.column))
                    found |= {name: key for name, key in source.outputs.items() if name not in found}
                continue
            key = self._column(target.val, scope)
            if key is not None:
                found[target.name or strings(target.val.fields)[-1]] = key
        return found

    def _condition(self, node: Any, scope: _Scope) -> None:
        if node is None:
            return
        if kind(node) == "BoolExpr" and enum(node.boolop) == "AND_EXPR":
            for part in node.args:
                self._condition(part, scope)
            return
        if kind(node) == "BoolExpr" and enum(node.boolop) == "OR_EXPR":
            self._either(node, scope)
        elif kind(node) == "A_Expr":
            self._comparison(node, scope)
        elif kind(node) == "SubLink" and enum(node.subLinkType) == "ANY_SUBLINK" and node.testexpr is not None:
            self._in_subquery(node, scope)
            return
        self._below((node,), scope)

    def _below(self, nodes: Any, scope: _Scope) -> None:
        """Subqueries in expressions, each in the scope that it stands in."""
        for node in nodes:
            for link in sublinks(node):
                self.select(link.subselect, scope)

    def _in_subquery(self, node: Any, scope: _Scope) -> None:
        outputs = self.select(node.subselect, scope)
        column = self._column(node.testexpr, scope) if kind(node.testexpr) == "ColumnRef" else None
        targets = node.subselect.targetList or ()
        if column is not None and len(outputs) == 1 and len(targets) == 1:
            self.classes.equal(column, next(iter(outputs.values())))

    def _either(self, node: Any, scope: _Scope) -> None:
        arms = [self._pins(arm, scope) for arm in node.args]
        for key in set.intersection(*arms):
            self.classes.pinned.add(key)

    def _pins(self, node: Any, scope: _Scope) -> set[Key]:
        if kind(node) == "BoolExpr" and enum(node.boolop) == "AND_EXPR":
            return set().union(*(self._pins(part, scope) for part in node.args))
        if kind(node) == "BoolExpr" and enum(node.boolop) == "OR_EXPR":
            return set.intersection(*(self._pins(part, scope) for part in node.args))
        if kind(node) != "A_Expr":
            return set()
        sides = [side for side, value in pairs(node) if is_value(value)]
        return {key for side in sides if (key := self._key(side, scope))}

    def _key(self, node: Any, scope: _Scope) -> Key | None:
        return self._column(node, scope) if kind(node) == "ColumnRef" else None

    def _comparison(self, node: Any, scope: _Scope) -> None:
        for left, right in pairs(node):
            key = self._key(left, scope)
            if key is None:
                continue
            if is_value(right):
                self.classes.pinned.add(key)
                self.classes.equal(key, ("value", value_text(right)))
            elif other := self._key(right, scope):
                self.classes.equal(key, other)


def query_findings(statement: Statement, tables: Tables) -> Iterator[Found]:
    tree = statement.tree
    if statement.kind in {"ViewStmt", "CreateTableAsStmt", "ExplainStmt", "DeclareCursorStmt", "PrepareStmt"}:
        tree = tree.query
    if kind(tree) not in _QUERIES or (statement.kind == "ViewStmt"):
        return
    query = Query(statement, tables)
    if kind(tree) == "InsertStmt":
        target = tables.find(tree.relation.schemaname or statement.schema, tree.relation.relname)
        yield from _inserted(tree, target)
        if tree.selectStmt is None or tree.selectStmt.valuesLists:
            return
        yield from _across(statement, tree, tables)
        query.select(tree.selectStmt, None)
    elif kind(tree) == "SelectStmt":
        query.select(tree, None)
    else:
        query.change(tree)
    yield from _judge(query)
    seen = 0
    while query.arms and seen < 100:
        node, scope = query.arms.pop()
        arm = Query(statement, tables)
        arm.select(node, scope)
        query.arms += arm.arms
        yield from _judge(arm)
        seen += 1


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
    elif keys and not any(query.classes.is_pinned(key) for key in keys):
        table = next(iter(spread.values()))
        yield "EC201", f"no value for {table.column} of {table.name}: every shard on every node is asked"
