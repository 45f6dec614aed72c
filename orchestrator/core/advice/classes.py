"""Which columns of different tables mean the same: one class of them is a candidate for the distribution column. Pure.

Columns belong together where a foreign key says so, where statements join one to the other's whole key, and where they
have the same name and type without being a table's own number. `id` of two tables is never the same thing by its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.advice.facts import ColumnId, Table, Usage, by_title
from orchestrator.core.unions import Unions

# Types that spread by hash and are compared for equality. Dates and floating point numbers are no tenants.
_SUITED = ("smallint", "integer", "bigint", "text", "character varying", "character", "uuid")


@dataclass(frozen=True, slots=True)
class Alike:
    """A class: its name for people, and for each table that has one of its columns that column."""

    name: str
    columns: dict[str, str]

    def holds(self, table: str, column: str) -> bool:
        return self.columns.get(table) == column


def suited(type_name: str) -> bool:
    return type_name.split("(")[0] in _SUITED


def classes(tables: Sequence[Table], usages: Sequence[Usage]) -> tuple[Alike, ...]:
    """In the order of how many tables have them."""
    groups = Unions()
    linked = set()
    for one, other in (*_foreign(tables), *_joined(tables, usages)):
        groups.join(one, other)
        linked |= {one, other}
    _by_name(tables, groups, linked)
    wanted = linked | set(_in_keys(tables)) | set(_used(usages))
    members: dict[ColumnId, list[ColumnId]] = defaultdict(list)
    for table in tables:
        for column in table.columns:
            if suited(column.type):
                members[groups.root((table.title, column.name))].append((table.title, column.name))
    known = by_title(tables)
    found = [_alike(group, known) for group in members.values() if not wanted.isdisjoint(group)]
    return tuple(sorted(found, key=lambda one: (-len(one.columns), one.name, sorted(one.columns))))


def _foreign(tables: Sequence[Table]) -> Iterator[tuple[ColumnId, ColumnId]]:
    for table in tables:
        for key in table.foreign_keys:
            for own, other in zip(key.columns, key.target_columns, strict=True):
                yield (table.title, own), (key.target, other)


def _joined(tables: Sequence[Table], usages: Sequence[Usage]) -> Iterator[tuple[ColumnId, ColumnId]]:
    """Joins to a table's whole key: a foreign key that nobody declared."""
    whole = {(table.title, key.columns[0]) for table in tables for key in table.keys if len(key.columns) == 1}
    for usage in usages:
        for query in usage.queries:
            for held in query.classes:
                columns = {(query.sources[source], name) for source, name in held.columns}
                for key in sorted(columns & whole):
                    yield from ((other, key) for other in sorted(columns - whole) if other[0] != key[0])


def _by_name(tables: Sequence[Table], groups: Unions, linked: set[ColumnId]) -> None:
    named: dict[tuple[str, str], list[ColumnId]] = defaultdict(list)
    for table in tables:
        own = {key.columns[0] for key in table.keys if len(key.columns) == 1}
        for column in table.columns:
            if column.name not in own and suited(column.type):
                named[column.name, column.type].append((table.title, column.name))
    for ids in named.values():
        roots = {groups.root(one) for one in ids if one in linked}
        # Where foreign keys lead the same name to different things, only those without one belong together.
        same = ids if len(roots) < 2 else [one for one in ids if one not in linked]
        for one in same[1:]:
            groups.join(one, same[0])


def _in_keys(tables: Sequence[Table]) -> Iterator[ColumnId]:
    for table in tables:
        yield from ((table.title, column) for key in table.keys for column in key.columns)


def _used(usages: Sequence[Usage]) -> Iterator[ColumnId]:
    for usage in usages:
        for query in usage.queries:
            for held in query.classes:
                yield from ((query.sources[source], name) for source, name in held.columns)


def _alike(group: Iterable[ColumnId], known: Mapping[str, Table]) -> Alike:
    """Of several columns of one table the one that bears the class's name, else that of most keys."""
    group = sorted(group)
    names = Counter(name for _, name in group)
    name = max(names, key=lambda one: (names[one], one != "id", one))
    chosen: dict[str, str] = {}
    for title, column in sorted(group, key=lambda one: (one[1] != name, -_keys_with(known[one[0]], one[1]), one)):
        chosen.setdefault(title, column)
    return Alike(name, chosen)


def _keys_with(table: Table, column: str) -> int:
    return sum(column in key.columns for key in table.keys)
