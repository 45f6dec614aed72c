"""Reads one query: its tables, and which of their columns its conditions hold equal to each other or to a value.

Columns that conditions hold equal form classes. Only conditions joined by AND count; an OR counts where every arm gives
the column a value. A subquery that is not folded into the query and refers to it shares its join, but not its values:
PostgreSQL derives none across that border.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.lint.equalities import Classes, Key, is_value, pairs, sublinks, value_text
from orchestrator.lint.scopes import Scope, Source
from orchestrator.lint.subqueries import alone, folded, planned_before
from orchestrator.lint.tables import Table, Tables
from orchestrator.lint.tree import Statement, enum, kind, strings


class Query:
    """One query with all that Citus plans with it.

    What is planned apart: `arms` of UNION and subqueries, `changes` in CTEs, to be looked at one by one. `values` are
    the classes through which a value reaches a column, `classes` also those by which tables are only joined. Where
    nothing is known to be distributed everything is folded in.
    """

    def __init__(
        self, statement: Statement, tables: Tables, around: Scope | None = None, *, fold: bool = False
    ) -> None:
        """`fold`: try CTEs folded in. `around` is where a subquery stands that is looked at by itself."""
        self.statement, self.tables, self._around, self._fold = statement, tables, around, fold
        self._apart = bool(tables.tenant_schemas) or any(table.distributed for table in tables.known)
        self.used: dict[str, Table] = {}
        self.classes, self.values = Classes(), Classes()
        self.arms: list[tuple[Any, Scope | None]] = []
        self.changes: list[tuple[Any, Scope | None]] = []
        self.correlated = False
        self._outside: frozenset[str] = frozenset()

    def select(self, node: Any, parent: Scope | None) -> dict[str, Key]:
        scope = Scope(parent=parent)
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

    def change(self, node: Any, parent: Scope | None = None) -> None:
        scope = Scope(parent=parent)
        self._with(node, scope)
        self._relation(node.relation, scope)
        self._from(getattr(node, "fromClause", None) or getattr(node, "usingClause", None) or (), scope)
        self._condition(node.whereClause, scope)
        self._below((getattr(node, "targetList", None),), scope)

    def _with(self, node: Any, scope: Scope) -> None:
        for cte in node.withClause.ctes if node.withClause else ():
            query = cte.ctequery
            if self._apart and (not self._fold or planned_before(cte, self.statement.tree)):
                # It sees the CTEs before it, and nothing of the query that it belongs to.
                seen = Scope(parent=scope.parent, ctes=dict(scope.ctes))
                (self.arms if kind(query) == "SelectStmt" else self.changes).append((query, seen))
                query = None
            scope.ctes[cte.ctename] = query

    def _from(self, items: Any, scope: Scope) -> None:
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

    def _derived(self, name: str, query: Any, scope: Scope) -> None:
        """A subquery in FROM: apart, or folded in, or (LATERAL, and not folded) joined without its values."""
        outputs: dict[str, Key] = {}
        if kind(query) == "SelectStmt":
            outputs = self._subquery(query, scope, folds=lambda columns: not alone(query, columns))
        scope.sources[name] = Source(f"{name}#{len(self.used)}.{id(query)}", None, outputs)

    def _subquery(self, query: Any, scope: Scope, folds: Callable[[set[str]], bool]) -> dict[str, Key]:
        """Folded in; or planned apart; or, where it refers to what is around it, joined without values."""
        if not self._apart:
            return self.select(query, scope)
        trial = Query(self.statement, self.tables, scope, fold=self._fold)
        trial.select(query, scope)
        if folds({table.column for table in trial.used.values() if table.column}):
            return self.select(query, scope)
        if trial.correlated:
            return self._bordered(query, scope)
        self.arms.append((query, scope))
        return {}

    def _bordered(self, query: Any, scope: Scope) -> dict[str, Key]:
        before, self._outside = self._outside, frozenset(self.used)
        outputs = self.select(query, scope)
        self._outside = before
        return outputs

    def _equal(self, left: Key, right: Key) -> None:
        self.classes.join(left, right)
        if (left[0] in self._outside) == (right[0] in self._outside):
            self.values.join(left, right)

    def _relation(self, item: Any, scope: Scope) -> None:
        name = item.alias.aliasname if item.alias else item.relname
        if item.schemaname is None and scope.knows(item.relname):
            query = scope.cte(item.relname)
            if query is not None:
                self._derived(name, query, scope)
            else:
                scope.sources[name] = Source(f"{name}#{len(self.used)}", None)
            return
        schema = item.schemaname or self.statement.schema
        table = self.tables.find(schema, item.relname)
        if table is None and self.tables.tenant(schema):
            table = Table(schema, item.relname)
        source = Source(f"{name}#{len(self.used)}.{id(item)}", table)
        scope.sources[name] = source
        if table is not None:
            self.used[source.id] = table

    def _using(self, column: str, scope: Scope) -> None:
        keys = [key for source in scope.sources.values() if (key := source.key(column, sure=False))]
        for key in keys[1:]:
            self._equal(keys[0], key)

    def _natural(self, scope: Scope) -> None:
        for column in {source.table.column for source in scope.sources.values() if source.table}:
            if column is not None:
                self._using(column, scope)

    def _column(self, node: Any, scope: Scope | None) -> Key | None:
        names, outside = strings(node.fields), False
        while scope is not None and names:
            outside = outside or scope is self._around
            found = self._here(names, scope)
            if found is not None or (len(names) > 1 and names[-2] in scope.sources):
                self.correlated = self.correlated or outside
                return found
            scope = scope.parent
        return None

    def _here(self, names: tuple[str, ...], scope: Scope) -> Key | None:
        if len(names) > 1:
            return scope.sources[names[-2]].key(names[-1], sure=True) if names[-2] in scope.sources else None
        sources = list(scope.sources.values())
        having = [key for source in sources if (key := source.key(names[0], sure=False))]
        if len({self.classes.root(key) for key in having}) == 1:
            return having[0]
        if len(sources) == 1 and sources[0].table is not None and scope.parent is None:
            return (sources[0].id, names[0])
        return None

    def _outputs(self, targets: Any, scope: Scope) -> dict[str, Key]:
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

    def _condition(self, node: Any, scope: Scope) -> None:
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
        elif link := folded(node):
            self._joined(link, scope)
            return
        self._below((node,), scope)

    def _below(self, nodes: Any, scope: Scope) -> None:
        """Subqueries in expressions, each in the scope that it stands in."""
        for node in nodes:
            for link in sublinks(node):
                self._subquery(link.subselect, scope, folds=lambda _: False)

    def _joined(self, link: Any, scope: Scope) -> None:
        """EXISTS, and IN where its subquery refers to nothing around it, become joins."""
        query, column = link.subselect, None
        exists = enum(link.subLinkType) == "EXISTS_SUBLINK"
        if kind(link.testexpr) == "ColumnRef":
            column = self._column(link.testexpr, scope)
        trial = Query(self.statement, self.tables, scope, fold=self._fold)
        outputs = trial.select(query, scope)
        key = next(iter(outputs.values())) if len(outputs) == 1 and len(query.targetList or ()) == 1 else None
        if self._apart and not exists and (trial.correlated or not self._belongs(trial, column, key)):
            self._subquery(query, scope, folds=lambda _: False)
            return
        outputs = self.select(query, scope)
        if column is not None and key is not None:
            self._equal(column, next(iter(outputs.values())))

    def _belongs(self, trial: Query, column: Key | None, key: Key | None) -> bool:
        """IN over distributed tables is a join where it is one along their columns; others are planned before it.

        Tenants' tables are not planned apart. Where both sides have the same value they are on one node anyway.
        """
        spread = {source: table for source, table in trial.used.items() if table.distributed}
        if not spread:
            return True
        return any(key == (source, table.column) for source, table in spread.items()) and column is not None

    def _either(self, node: Any, scope: Scope) -> None:
        arms = [self._pins(arm, scope) for arm in node.args]
        for key in set.intersection(*arms):
            self._pin(key)

    def _pin(self, key: Key) -> None:
        self.classes.pinned.add(key)
        self.values.pinned.add(key)

    def _pins(self, node: Any, scope: Scope) -> set[Key]:
        if kind(node) == "BoolExpr" and enum(node.boolop) == "AND_EXPR":
            return set().union(*(self._pins(part, scope) for part in node.args))
        if kind(node) == "BoolExpr" and enum(node.boolop) == "OR_EXPR":
            return set.intersection(*(self._pins(part, scope) for part in node.args))
        if kind(node) != "A_Expr":
            return set()
        sides = [side for side, value in pairs(node) if is_value(value)]
        return {key for side in sides if (key := self._key(side, scope))}

    def _key(self, node: Any, scope: Scope) -> Key | None:
        return self._column(node, scope) if kind(node) == "ColumnRef" else None

    def _comparison(self, node: Any, scope: Scope) -> None:
        for left, right in pairs(node):
            key = self._key(left, scope)
            if key is None:
                continue
            if is_value(right):
                self._pin(key)
                self.classes.join(key, ("value", value_text(right)))
                self.values.join(key, ("value", value_text(right)))
            elif other := self._key(right, scope):
                self._equal(key, other)
