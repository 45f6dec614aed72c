"""Migrations that may run as the administrator, who hands over what they made: quicker than acting as every role.

Acting as a role keeps a connection to every node open for it (measured on Citus 13.2), and a table cannot be made as a
role in the transaction that makes the role. But the administrator may do more than the role: so only files that make
relations of their own and touch nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_MAKES = {"CreateStmt": "relation", "CreateSeqStmt": "sequence", "ViewStmt": "view", "CreateTableAsStmt": "into"}
_SHAPES = frozenset({"IndexStmt", "AlterTableStmt", "InsertStmt", "CommentStmt", "AlterSeqStmt"})
# What is stored with the table or the row, and would be the administrator's.
_WHO = frozenset({"SVFOP_CURRENT_USER", "SVFOP_CURRENT_ROLE", "SVFOP_USER", "SVFOP_SESSION_USER"})


def is_plain(parsed: Iterable[Any], schema: str) -> bool:
    """Whether statements of PostgreSQL's parse tree only make relations in `schema` and use no others."""
    from pglast.visitors import Visitor  # here, because importing it takes longer than all the rest

    made: set[str] = set()
    plain = True

    class Names(Visitor):
        def visit_RangeVar(self, _ancestors: object, node: Any) -> None:  # noqa: N802 - as pglast names it
            nonlocal plain
            plain = plain and node.schemaname in {None, schema} and node.relname in made

        def visit_FuncCall(self, _ancestors: object, node: Any) -> None:  # noqa: N802
            """Functions of PostgreSQL itself by their plain names; others may do anything with the caller's rights."""
            nonlocal plain
            name = node.funcname[-1].sval
            plain = plain and (len(node.funcname) == 1 and name in _HARMLESS_FUNCTIONS)

        def visit_SQLValueFunction(self, _ancestors: object, node: Any) -> None:  # noqa: N802
            nonlocal plain
            plain = plain and node.op.name not in _WHO

        def visit_AlterTableCmd(self, _ancestors: object, node: Any) -> None:  # noqa: N802
            nonlocal plain
            plain = plain and node.subtype.name != "AT_ChangeOwner"

    for raw in parsed:
        kind = type(raw.stmt).__name__
        if kind in _MAKES:
            made.add(_relation(raw.stmt, _MAKES[kind]).relname)
        elif kind not in _SHAPES:
            return False
        Names()(raw)
    return plain


def _relation(statement: Any, field: str) -> Any:
    found = getattr(statement, field)
    return found.rel if field == "into" else found


_HARMLESS_FUNCTIONS = frozenset({
    "now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "gen_random_uuid", "random",
    "generate_series", "repeat", "lower", "upper", "length", "char_length", "coalesce", "nextval", "md5", "abs",
    "jsonb_build_object", "jsonb_typeof", "to_tsvector", "octet_length", "jsonb_build_array", "int4range", "tstzrange",
})  # fmt: skip
