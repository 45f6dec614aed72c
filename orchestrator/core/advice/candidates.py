"""Candidates for the distribution column, ranked. Pure.

Four shares say how well a column would do: of the data in tables that have it, of the keys that Citus could keep, of
the calls that one node could answer, of the joins that stay on a node. What is unknown does not count; the score is the
weighted mean of the others, times how even the shards would be. A better share never lowers a candidate's rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.advice.classes import Alike, classes
from orchestrator.core.advice.facts import Column, ColumnId, Database, ForeignKey, Query, Table, Usage, by_title, share
from orchestrator.core.advice.spread import hottest_shard

WEIGHTS = {"routed": 0.35, "covered": 0.25, "keys": 0.2, "joined": 0.2}
# All tables that are to be copied to every node, together: their share of the bytes, and of the rows written.
REFERENCE_SHARE = 0.1
_MOST = 12
_JUDGED = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """`columns`: its column by table. `references` would be copied to every node, `others` need the column first.

    `hottest` is the fullest shard's share of the rows in the table named by `hottest_in`; None is unknown everywhere.
    """

    alike: Alike
    references: tuple[str, ...]
    others: tuple[str, ...]
    covered: float | None
    keys: float | None
    routed: float | None
    joined: float | None
    hottest: float | None
    hottest_in: str
    distinct: float | None
    nullable: tuple[str, ...]
    score: float

    @property
    def name(self) -> str:
        return self.alike.name

    @property
    def columns(self) -> Mapping[str, str]:
        return self.alike.columns


def rank(database: Database, nodes: int) -> tuple[Candidate, ...]:
    """The best first. A table with NULLs in its column counts as one without: Citus refuses such rows."""
    known = by_title(database.tables)
    alikes = [_without_nulls(alike, known) for alike in classes(database.tables, database.usages)]
    # Those of the most data: of thousands of schemas each has columns of its own.
    alikes.sort(
        key=lambda one: (-sum(known[title].bytes for title in one.columns), one.name, sorted(one.columns.items()))
    )
    found = [_judged(alike, database, nodes) for alike in alikes[:_JUDGED] if alike.columns]
    found.sort(key=lambda one: (-round(one.score, 6), one.hottest or 1.0, one.name, sorted(one.columns.items())))
    return tuple(found[:_MOST])


def score(shares: Mapping[str, float | None], hottest: float | None, nodes: int) -> float:
    """0 to 1. A shard that holds more than a node's share of the rows cannot be balanced away."""
    known = {name: value for name, value in shares.items() if value is not None}
    weight = sum(WEIGHTS[name] for name in known)
    mean = sum(WEIGHTS[name] * value for name, value in known.items()) / weight if weight else 0.0
    return mean * (1.0 if not hottest else min(1.0, 1 / nodes / hottest))


def _judged(alike: Alike, database: Database, nodes: int) -> Candidate:
    tables = database.tables
    covered = [table for table in tables if table.title in alike.columns]
    references = reference_tables(tables, alike)
    hottest, hottest_in = _hottest(covered, alike)
    shares = {
        "covered": share(sum(table.bytes for table in covered), sum(table.bytes for table in tables)),
        "keys": _keys(covered, alike, references),
        "routed": _weighted(database.usages, alike, routed),
        "joined": _weighted(database.usages, alike, joined),
    }
    return Candidate(
        alike,
        tuple(sorted(references)),
        tuple(table.title for table in tables if table.title not in alike.columns and table.title not in references),
        shares["covered"],
        shares["keys"],
        shares["routed"],
        shares["joined"],
        hottest,
        hottest_in,
        max((column.distinct for column in _columns(covered, alike) if column.distinct), default=None),
        tuple(sorted(table.title for table in covered if not _column(table, alike).not_null)),
        score(shares, hottest, nodes),
    )


def reference_tables(tables: Sequence[Table], alike: Alike) -> frozenset[str]:
    """Small tables without the column, the smallest first, as long as together they stay small."""
    bytes_left = REFERENCE_SHARE * sum(table.bytes for table in tables)
    writes_left = REFERENCE_SHARE * sum(table.writes for table in tables)
    found: set[str] = set()
    for table in sorted(tables, key=lambda table: (table.bytes, table.title)):
        # A copied table cannot refer to a distributed one.
        bound = any(key.target in alike.columns for key in table.foreign_keys)
        if table.title in alike.columns or bound or table.bytes > bytes_left or table.writes > writes_left:
            continue
        bytes_left -= table.bytes
        writes_left -= table.writes
        found.add(table.title)
    return frozenset(found)


def kept(key: ForeignKey, table: Table, alike: Alike, references: frozenset[str]) -> bool:
    """Whether Citus can hold this foreign key of a distributed table."""
    if key.target in references:
        return True
    pairs = zip(key.columns, key.target_columns, strict=True)
    return any(alike.holds(table.title, own) and alike.holds(key.target, other) for own, other in pairs)


def routed(query: Query, alike: Alike) -> bool | None:
    """One node can answer it; None where no distributed table is in it.

    Several values are taken to be the same tenant: pg_stat_statements has numbered them apart.
    """
    wanted = _wanted(query, alike)
    pinned = frozenset().union(*(held.columns for held in query.classes if held.pinned))
    return wanted <= pinned if wanted else None


def joined(query: Query, alike: Alike) -> bool | None:
    """Its distributed tables are joined along the column, or each is told its value; None where there are not two."""
    wanted = _wanted(query, alike)
    if len(wanted) < 2:
        return None
    return any(wanted <= held.columns for held in query.classes) or bool(routed(query, alike))


def _wanted(query: Query, alike: Alike) -> set[ColumnId]:
    return {(source, alike.columns[title]) for source, title in query.sources.items() if title in alike.columns}


def _weighted(usages: Sequence[Usage], alike: Alike, judge: Callable[[Query, Alike], bool | None]) -> float | None:
    good = whole = 0
    for usage in usages:
        seen = [found for query in usage.queries if (found := judge(query, alike)) is not None]
        if seen:
            whole += usage.calls
            good += usage.calls if all(seen) else 0
    return share(good, whole)


def _keys(covered: Sequence[Table], alike: Alike, references: frozenset[str]) -> float | None:
    good = [alike.columns[table.title] in key.columns for table in covered for key in table.keys]
    good += [kept(key, table, alike, references) for table in covered for key in table.foreign_keys]
    return share(sum(good), len(good))


def _hottest(covered: Sequence[Table], alike: Alike) -> tuple[float | None, str]:
    """Of all tables, weighted by their bytes, the share of the fullest; the table that is least even is named."""
    known = [
        (table, found)
        for table in covered
        if table.bytes and table.rows and (found := hottest_shard(_column(table, alike))) is not None
    ]
    # The tenants' own table has one row for each: of no weight, and even by nature.
    whole = sum(table.bytes for table, _ in known)
    if not whole:
        return None, ""
    mean = sum(table.bytes * found for table, found in known) / whole
    return mean, max(known, key=lambda one: one[0].bytes * one[1])[0].title


def _column(table: Table, alike: Alike) -> Column:
    found = table.column(alike.columns[table.title])
    assert found is not None  # noqa: S101 - classes() takes columns from the tables themselves
    return found


def _columns(tables: Sequence[Table], alike: Alike) -> list[Column]:
    return [_column(table, alike) for table in tables]


def _without_nulls(alike: Alike, known: Mapping[str, Table]) -> Alike:
    filled = {title: column for title, column in alike.columns.items() if not _column(known[title], alike).nulls}
    return Alike(alike.name, filled)
