"""Sets of columns that turn out to be the same: union-find over pairs of names."""

from __future__ import annotations

Member = tuple[str, str]


class Unions:
    """Everything is alone until it is joined; `root` names the set that something is in by now."""

    def __init__(self) -> None:
        self._parent: dict[Member, Member] = {}

    def root(self, one: Member) -> Member:
        while (parent := self._parent.get(one, one)) != one:
            self._parent[one] = one = self._parent.get(parent, parent)
        return one

    def join(self, one: Member, other: Member) -> None:
        self._parent[self.root(one)] = self.root(other)

    def joined(self) -> set[Member]:
        """All that has been joined with anything."""
        return {*self._parent, *self._parent.values()}
