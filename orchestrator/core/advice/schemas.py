"""Whether the schemas of a database could be spread over nodes, each as a whole. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.core.advice.facts import Database, Table, Usage, share

# The schema that Citus refuses to distribute.
REGULAR = "public"


@dataclass(frozen=True, slots=True)
class SchemaFit:
    """`bytes` of each schema that could move. `alike` of them have the tables that most of them have.

    `crossing_keys` are foreign keys that leave a schema, `crossing` the statements that name two of them.
    """

    bytes: dict[str, int]
    covered: float | None
    alike: int
    crossing_keys: tuple[str, ...]
    crossing: tuple[Usage, ...]
    routed: float | None
    hottest: float | None
    hottest_in: str


def schema_fit(database: Database) -> SchemaFit:
    tables = [table for table in database.tables if table.schema != REGULAR]
    sizes: dict[str, int] = defaultdict(int)
    shapes: dict[str, set[str]] = defaultdict(set)
    for table in tables:
        sizes[table.schema] += table.bytes
        shapes[table.schema].add(table.name)
    shape_counts = Counter(frozenset(names) for names in shapes.values())
    schema_of = {table.title: table.schema for table in tables}
    crossing = tuple(usage for usage in database.usages if _schemas(usage, schema_of) > 1)
    whole = sum(usage.calls for usage in database.usages if _schemas(usage, schema_of))
    routed = share(whole - sum(usage.calls for usage in crossing), whole)
    biggest = max(sizes, key=lambda name: (sizes[name], name), default="")
    total = sum(sizes.values())
    return SchemaFit(
        dict(sizes),
        share(total, sum(table.bytes for table in database.tables)),
        max(shape_counts.values(), default=0),
        tuple(_crossing_keys(database.tables)),
        crossing,
        routed,
        share(sizes[biggest], total) if biggest else None,
        biggest,
    )


def _schemas(usage: Usage, schema_of: dict[str, str]) -> int:
    """How many movable schemas the statement's worst query is over."""
    return max(
        (len({schema_of[title] for title in query.tables if title in schema_of}) for query in usage.queries), default=0
    )


def _crossing_keys(tables: Sequence[Table]) -> list[str]:
    """A key to a table of the regular schema is well where that becomes a reference table."""
    found = []
    for table in tables:
        for key in table.foreign_keys:
            target = key.target.split(".", 1)[0]
            if target not in (table.schema, REGULAR):
                found.append(f"{key.name} ({table.title} to {key.target})")
    return sorted(found)
