"""Which columns a condition holds equal to each other or to a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.core.unions import Unions
from orchestrator.lint.tree import enum, kind, literal, strings, walk

Key = tuple[str, str]  # (relation's id, column), or ("value", text)


class Classes(Unions):
    """Columns and values that are held equal, and those that are pinned to a value."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[Key] = set()

    def is_pinned(self, key: Key) -> bool:
        roots = {self.root(pin) for pin in self.pinned}
        return self.root(key) in roots

    def groups(self) -> Iterator[tuple[set[Key], bool]]:
        """The columns and values of each class that has been spoken of, and whether it is pinned."""
        found: dict[Key, set[Key]] = {}
        for key in self.joined() | self.pinned:
            found.setdefault(self.root(key), set()).add(key)
        pinned = {self.root(pin) for pin in self.pinned}
        yield from ((members, root in pinned) for root, members in found.items())


def pairs(node: Any) -> Iterator[tuple[Any, Any]]:
    """Both sides of an equality, each way round; IN and = ANY with their list as one value."""
    how = enum(node.kind)
    if strings(node.name)[-1:] != ("=",) or how not in {"AEXPR_OP", "AEXPR_IN", "AEXPR_OP_ANY"}:
        return
    left, right = node.lexpr, node.rexpr
    if kind(left) == "RowExpr" and kind(right) == "RowExpr":
        for one, other in zip(left.args, right.args, strict=False):
            yield from ((one, other), (other, one))
        return
    yield left, right
    if how == "AEXPR_OP":
        yield right, left


def is_value(node: Any) -> bool:
    """Known before the shards are chosen: no column and no subquery in it."""
    return all(kind(part) not in {"ColumnRef", "SubLink"} for part in walk(node))


def value_text(node: Any) -> str:
    if kind(node) == "ParamRef":
        return f"${node.number}"
    return literal(node) or f"expression {id(node)}"


def sublinks(node: Any) -> Iterator[Any]:
    """The nearest ones: what is inside of them is read in their own scope."""
    if isinstance(node, tuple | list):
        for item in node:
            yield from sublinks(item)
    elif kind(node) == "SubLink":
        yield node
        yield from sublinks(node.testexpr)
    elif hasattr(node, "__slots__") and type(node).__module__ == "pglast.ast":
        for name in node:
            yield from sublinks(getattr(node, name))
