"""Helpers on PostgreSQL's parse tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    """One parsed statement, where it stands, through which port it goes, and the schema of names without one."""

    path: str
    line: int
    last_line: int
    port: str
    schema: str | None
    tree: Any

    @property
    def kind(self) -> str:
        return type(self.tree).__name__


def walk(node: Any) -> Iterator[Any]:
    """The node and everything below it, top down."""
    if isinstance(node, tuple | list):
        for item in node:
            yield from walk(item)
    elif hasattr(node, "__slots__") and type(node).__module__ == "pglast.ast":
        yield node
        for name in node:
            value = getattr(node, name)
            if value is not None and not isinstance(value, str | int | bool):
                yield from walk(value)


def kind(node: Any) -> str:
    return type(node).__name__


def enum(value: Any) -> str:
    return getattr(value, "name", None) or str(value)


def strings(values: Any) -> tuple[str, ...]:
    return tuple(value.sval for value in values or () if kind(value) == "String")


def function_name(call: Any) -> str:
    return strings(call.funcname)[-1]


def literal(node: Any) -> str | None:
    """The text of a constant, also behind a cast."""
    while kind(node) == "TypeCast":
        node = node.arg
    if kind(node) != "A_Const" or node.val is None:
        return None
    value = node.val
    found = getattr(value, "sval", None) or getattr(value, "ival", None) or getattr(value, "fval", None)
    return None if found is None else str(found)


def boolean(node: Any) -> bool | None:
    while kind(node) == "TypeCast":
        node = node.arg
    value: Any = getattr(node, "val", None)
    if kind(value) == "Boolean":
        return bool(value.boolval)
    text = literal(node)
    return None if text is None else text.lower() in {"t", "true", "on", "1"}


def calls(tree: Any) -> Iterator[Any]:
    return (node for node in walk(tree) if kind(node) == "FuncCall")
