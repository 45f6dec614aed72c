"""What breaks on either side, with the objects by name: the rows of the document's table that apply. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.core.advice.candidates import Candidate, joined, kept, routed
from orchestrator.core.advice.decision import Target, Way, percent
from orchestrator.core.advice.facts import Column, Database, Table, Usage
from orchestrator.core.advice.schemas import REGULAR, SchemaFit

_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Break:
    """One scenario on one side. `objects` are all that it concerns; `fix` is what to do."""

    side: Target
    scenario: str
    what: str
    objects: tuple[str, ...]
    fix: str


def breaks(
    database: Database | None, way: Way | None, candidate: Candidate | None, schemas: SchemaFit | None, standby: bool
) -> tuple[Break, ...]:
    """Both sides: the flexible server's first. `candidate` or `schemas` is that of the way."""
    found = [*_flexible(database, standby)]
    if database is not None and way is not None:
        if way.fit.sharding == "row" and candidate is not None:
            found += _rows(database, candidate)
        elif schemas is not None:
            found += _schemas(database, schemas)
        found += _either(database, candidate)
    if way is not None and any(one.name == "hottest" and one.ok is False for one in way.conditions):
        found.append(
            Break(
                "elastic cluster",
                "uneven tenants",
                "one node is saturated while others idle: a shard is never split over nodes",
                (f"{way.fit.hottest_in or way.fit.by}: {percent(way.fit.hottest or 0)} in one part",),
                "Isolate the largest tenant on a node of its own (orchestrator isolate), or choose another column.",
            )
        )
    return tuple(found)


def _flexible(database: Database | None, standby: bool) -> Iterator[Break]:
    side: Target = "flexible server"
    pooled = (
        tuple(f"{short(usage.text)}: {usage.pooled}" for usage in database.usages if usage.pooled) if database else ()
    )
    if pooled:
        yield Break(
            side,
            "prepared statements and sessions through PgBouncer in transaction mode",
            "the next transaction may get another session, on both sides through ports 6432 and 8432",
            pooled,
            "Use the direct port for these, or see `orchestrator lint` and `pgbouncer.maxPreparedStatements`.",
        )
    load = database.load if database else None
    if load and load.sessions and load.active is not None and load.sessions >= 10 and load.active * 2 < load.sessions:
        yield Break(
            side,
            "the application connects to the PostgreSQL port and bypasses PgBouncer",
            "connections saturate under load, although most do nothing",
            (
                f"{load.sessions - load.active} of {load.sessions} sessions were idle "
                f"(max_connections {load.max_connections})",
            ),
            "Enable PgBouncer and connect through port 6432.",
        )
    if standby:
        yield Break(
            side,
            "failover to the standby",
            "60 to 120 s until the name leads to the new server",
            (),
            "Retry connections in the application; `orchestrator doctor --drill` measures what it notices.",
        )


def _rows(database: Database, candidate: Candidate) -> Iterator[Break]:
    side: Target = "elastic cluster"
    alike = candidate.alike
    fan = [usage for usage in database.usages if any(routed(query, alike) is False for query in usage.queries)]
    cut = [usage for usage in database.usages if any(joined(query, alike) is False for query in usage.queries)]
    across = [usage for usage in fan if usage not in cut]
    if across:
        yield Break(
            side,
            "queries over all tenants",
            f"no value for {alike.name}: all nodes are asked, and the slowest answers last",
            _statements(across, database),
            f"Add {alike.name} to the WHERE clause; what is meant to be about all tenants may stay.",
        )
    if cut:
        yield Break(
            side,
            "joins that are not along the distribution column",
            "Citus refuses them, or moves rows between nodes for each",
            _statements(cut, database),
            f"Join by {alike.name} too, or make the smaller table a reference table.",
        )
    yield from _keys(database, candidate)
    if others := frozenset(candidate.others):
        yield Break(
            side,
            "tables without the distribution column",
            "they stay on the coordinator, and joins with them go through it",
            tuple(_without(table, candidate) for table in database.tables if table.title in others),
            f"Add {alike.name}, or make them reference tables where they are small and seldom written.",
        )
    yield from _columns(database, candidate)


def _keys(database: Database, candidate: Candidate) -> Iterator[Break]:
    side: Target = "elastic cluster"
    alike, references = candidate.alike, frozenset(candidate.references)
    keys = [
        f"{key.name} on {table.title} ({', '.join(key.columns) or 'an expression'})"
        for table in database.tables
        if table.title in alike.columns
        for key in table.keys
        if alike.columns[table.title] not in key.columns
    ]
    if keys:
        yield Break(
            side,
            "unique keys without the distribution column",
            "Citus cannot enforce them across shards and refuses the table",
            tuple(keys),
            f"Put {alike.name} into each key, for example PRIMARY KEY ({alike.name}, id).",
        )
    foreign = [
        f"{key.name} ({table.title} to {key.target})"
        for table in database.tables
        for key in table.foreign_keys
        if (table.title in alike.columns and not kept(key, table, alike, references))
        or (table.title not in alike.columns and key.target in alike.columns)
    ]
    if foreign:
        yield Break(
            side,
            "foreign keys that do not hold the distribution column",
            "Citus refuses them",
            tuple(foreign),
            f"Put {alike.name} on both sides of the key, or drop it.",
        )


def _columns(database: Database, candidate: Candidate) -> Iterator[Break]:
    side: Target = "elastic cluster"
    alike = candidate.alike
    covered = [table for table in database.tables if table.title in alike.columns]
    mixed = {column.type for table in covered if (column := table.column(alike.columns[table.title]))}
    if len(mixed) > 1:
        yield Break(
            side, f"{alike.name} has several types", "tables of different types cannot be colocated",
            tuple(sorted(mixed)), "Give all of them one type.",
        )  # fmt: skip
    if candidate.nullable:
        yield Break(
            side, f"{alike.name} may be NULL", "a row without a value for it is refused",
            candidate.nullable, "Make it NOT NULL.",
        )  # fmt: skip


def _without(table: Table, candidate: Candidate) -> str:
    via = next((key.target for key in table.foreign_keys if key.target in candidate.columns), None)
    return f"{table.title} (its {candidate.name} is that of {via})" if via else table.title


def _schemas(database: Database, schemas: SchemaFit) -> Iterator[Break]:
    side: Target = "elastic cluster"
    if schemas.crossing:
        yield Break(
            side,
            "queries over several schemas",
            "Citus refuses to join two distributed schemas",
            _statements(schemas.crossing, database),
            "Read one after the other, or keep the shared table as a reference table in a regular schema.",
        )
    if schemas.crossing_keys:
        yield Break(
            side, "foreign keys across schemas", "Citus refuses to distribute the schemas on both ends",
            schemas.crossing_keys, "Drop them, or put both tables into one schema.",
        )  # fmt: skip
    inward = tuple(
        f"{key.name} ({table.title} to {key.target})"
        for table in database.tables
        if table.schema == REGULAR
        for key in table.foreign_keys
        if key.target.split(".", 1)[0] != REGULAR
    )
    if inward:
        yield Break(side, "foreign keys into a schema", "Citus refuses them from outside of it", inward, "Drop them.")
    regular = tuple(table.title for table in database.tables if table.schema == REGULAR)
    if regular:
        yield Break(
            side,
            "tables in the schema public",
            "it cannot be distributed; keys to its tables need them to be reference tables",
            regular,
            "Move each into its service's schema, or make it a reference table.",
        )


def _either(database: Database, candidate: Candidate | None) -> Iterator[Break]:
    """What no distributed table can have, however it is sharded."""
    side: Target = "elastic cluster"
    spread = [table for table in database.tables if candidate is None or table.title in candidate.columns]
    spread = [table for table in spread if candidate is not None or table.schema != REGULAR]
    narrow = tuple(
        f"{table.title}.{column.name} ({column.type})" for table in spread for column in _narrow_sequences(table)
    )
    if narrow:
        yield Break(
            side, "serial keys of type int", "nodes other than the coordinator cannot number them (ports 7432, 8432)",
            narrow, "Make them bigint.",
        )  # fmt: skip
    triggers = tuple(f"{name} on {table.title}" for table in spread for name in table.triggers)
    if triggers:
        yield Break(
            side, "triggers", "distributed tables have none", triggers,
            "Do their work in the service, in a default, a generated column or a check.",
        )  # fmt: skip
    inherits = tuple(table.title for table in spread if table.inherits)
    if inherits:
        yield Break(side, "inheritance", "distributed tables have none", inherits, "Use partitions or separate tables.")


def _narrow_sequences(table: Table) -> Iterator[Column]:
    return (column for column in table.columns if column.sequence and column.type in {"integer", "smallint"})


def _statements(usages: Sequence[Usage], database: Database) -> tuple[str, ...]:
    """The most called first, with their share of all calls."""
    whole = sum(usage.calls for usage in database.usages) or 1
    ordered = sorted(usages, key=lambda usage: (-usage.calls, usage.text))
    return tuple(f"{short(usage.text)} ({usage.calls:,} calls, {percent(usage.calls / whole)})" for usage in ordered)


def short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
