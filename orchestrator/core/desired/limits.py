"""Limits that Azure may change, as data with a source and a date (`limits.json`, part of this package)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from orchestrator.core.errors import TooFewNodes, TooManyNodes

T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """One limit. `values` holds an enumeration, `minimum` and `maximum` a range; unused fields are empty."""

    name: str
    source: str
    as_of: str
    minimum: int = 0
    maximum: int = 0
    values: tuple[Any, ...] = ()


@cache
def _raw() -> dict[str, dict[str, Any]]:
    text = resources.files("orchestrator.core.desired").joinpath("limits.json").read_text("utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


@cache
def limit(name: str) -> Limit:
    """Raises KeyError for a name that `limits.json` does not have."""
    raw = _raw()[name]
    return Limit(name, raw["source"], raw["as_of"], raw.get("min", 0), raw.get("max", 0), tuple(raw.get("values", ())))


@cache
def standard_ports() -> dict[str, int]:
    """direct, pooled, balanced and balanced_pooled port of an elastic cluster on Azure."""
    return {name: value for name, value in _raw()["ports"].items() if isinstance(value, int)}


def one_of(name: str, value: T) -> T:
    """The value. Raises ValueError where the limit's enumeration does not have it."""
    known = limit(name)
    if value not in known.values:
        choices = ", ".join(str(item) for item in known.values)
        raise ValueError(f"{value} is not one of {choices} ({known.source}, as of {known.as_of})")
    return value


def in_range(name: str, value: int, unit: str) -> int:
    """The value. Raises ValueError where it is outside the limit's range."""
    known = limit(name)
    if not known.minimum <= value <= known.maximum:
        raise ValueError(
            f"{value} is outside {known.minimum} to {known.maximum} {unit} ({known.source}, as of {known.as_of})"
        )
    return value


def checked_nodes(nodes: int) -> int:
    """A number of nodes that somebody asks for. Raises TooManyNodes and TooFewNodes."""
    known = limit("cluster.nodes")
    if nodes > known.maximum:
        raise TooManyNodes(nodes, known.maximum, known.source, known.as_of)
    if nodes < known.minimum:
        raise TooFewNodes(nodes, known.minimum)
    return nodes
