"""Which parts of a query Citus plans by themselves, before the rest: their result is then sent to every node.

Measured on Citus 13.2: what PostgreSQL folds into the query around it is planned with it, and so is a grouping by the
distribution column. LIMIT, an aggregate or window over all rows, a CTE that is used twice or that writes are planned
apart; so is a subquery in an expression that refers to nothing around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.lint.tree import calls, enum, function_name, kind, strings, walk

_AGGREGATES = frozenset({
    "count", "sum", "min", "max", "avg", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or",
    "every", "stddev", "variance", "json_object_agg", "jsonb_object_agg", "percentile_cont", "mode",
})  # fmt: skip


def alone(select: Any, columns: Iterable[str]) -> bool:
    """A subquery in FROM that is planned by itself. `columns` are the distribution columns of its tables."""
    if select.limitCount is not None or select.limitOffset is not None:
        return True
    wanted = set(columns)
    windows = [call.over for call in calls(select.targetList) if call.over is not None]
    if any(not _names(window.partitionClause) & wanted for window in windows):
        return True
    if select.distinctClause and not _names(select.targetList) & wanted and not _star(select.targetList):
        return True
    if select.groupClause:
        return not _names(select.groupClause) & wanted
    return select.havingClause is not None or _aggregates(select.targetList)


def planned_before(cte: Any, statement: Any) -> bool:
    """A CTE that PostgreSQL does not fold into the query: it writes, is used more than once, or is told to stand."""
    if kind(cte.ctequery) != "SelectStmt" or enum(cte.ctematerialized) == "CTEMaterializeAlways":
        return True
    return sum(kind(node) == "RangeVar" and _is(node, cte.ctename) for node in walk(statement)) > 1


def folded(node: Any) -> Any:
    """The subquery of EXISTS, NOT EXISTS and IN, which become joins where AND connects them with other conditions."""
    if kind(node) == "BoolExpr" and enum(node.boolop) == "NOT_EXPR":
        inner = folded(node.args[0])
        return inner if inner is not None and enum(inner.subLinkType) == "EXISTS_SUBLINK" else None
    if kind(node) == "SubLink" and enum(node.subLinkType) in {"EXISTS_SUBLINK", "ANY_SUBLINK"}:
        return node
    return None


def _is(node: Any, name: str) -> bool:
    return node.schemaname is None and node.relname == name


def _names(nodes: Any) -> set[str]:
    return {names[-1] for node in walk(nodes or ()) if kind(node) == "ColumnRef" and (names := strings(node.fields))}


def _star(targets: Any) -> bool:
    return any(kind(node) == "A_Star" for node in walk(targets or ()))


def _aggregates(targets: Any) -> bool:
    return any(call.over is None and function_name(call) in _AGGREGATES for call in calls(targets or ()))
