"""Where a query looks up its names: the relations of its FROM, the CTEs above it, and the query around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.lint.equalities import Key
from orchestrator.lint.tables import Table


@dataclass
class Source:
    """A relation in FROM: a table, or a subquery whose columns lead to those of its own relations."""

    id: str
    table: Table | None
    outputs: dict[str, Key] = field(default_factory=dict)

    def key(self, column: str, *, sure: bool) -> Key | None:
        """The key of one of its columns; not `sure` means that it may not have the column."""
        if self.table is None:
            found = self.outputs.get(column)
            return found if found or "*" not in self.outputs else (self.outputs["*"][0], column)
        known = self.table.columns | ({self.table.column} if self.table.column else set())
        return (self.id, column) if sure or column in known else None


@dataclass
class Scope:
    """`ctes` are those that are folded in where they are used; one that is not is None there."""

    sources: dict[str, Source] = field(default_factory=dict)
    parent: Scope | None = None
    ctes: dict[str, Any] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        return name in self.ctes or (self.parent is not None and self.parent.knows(name))

    def cte(self, name: str) -> Any:
        if name in self.ctes:
            return self.ctes[name]
        return self.parent.cte(name) if self.parent else None
