"""Rules of Citus for the tables of one service, applied to tables that exist and to those that pending migrations make.

Source of the rules: Citus 13.2.2, measured; Citus' own texts are in `clients/cluster/citus_errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem
from orchestrator.core.observed.state import Schema, Table
from orchestrator.core.planning.migrations import Migration, TableFacts


@dataclass(frozen=True, slots=True)
class View:
    """One service with what the database has of it and the migrations that have not run.

    `by_schema` maps schemas that migrations name to the services that they belong to.
    """

    service: ServiceSpec
    schema: Schema | None
    pending: Sequence[Migration]
    by_schema: Mapping[str, ServiceSpec]

    @property
    def tables(self) -> Mapping[str, Table]:
        return {} if self.schema is None else self.schema.tables

    @property
    def where(self) -> str:
        return f"service {self.service.name}"

    def full(self, table: str) -> str:
        return f"{self.service.schema_name}.{table}"

    def quoted(self, table: str) -> str:
        return f'"{self.service.schema_name}"."{table}"'


def check_conversion(view: View) -> Iterator[Problem]:
    """An existing regular schema that is to be distributed as a whole."""
    if view.schema is None or view.schema.colocation_id is not None:
        return
    for name, table in view.tables.items():
        yield from _convertible(view, name, table)
    for source in view.schema.referenced_from:
        yield Problem(
            view.where,
            f"table {source} has a foreign key into schema {view.schema.name}, and no table of another schema may "
            "refer to a table of a distributed schema",
            f"drop that foreign key of {source}, or put both tables into one service",
        )


def _convertible(view: View, name: str, table: Table) -> Iterator[Problem]:
    full, quoted = view.full(name), view.quoted(name)
    if table.kind in {"distributed", "reference"}:
        kind = "is a reference table" if table.kind == "reference" else "is distributed by itself"
        yield Problem(
            view.where,
            f"table {full} {kind}, and a schema with such tables cannot be distributed",
            f"make it a regular table first (SELECT undistribute_table('{quoted}')), or declare `sharding: row`",
        )
    for key in table.foreign_keys:
        if key.to_schema != view.service.schema_name and not key.to_reference:
            yield _foreign_key_out(view.where, full, f"{key.to_schema}.{key.to_table}", f" ({key.name})")
    for trigger in table.triggers:
        yield _trigger(view.where, full, f" {trigger}", f'DROP TRIGGER "{trigger}" ON {quoted}')
    if table.inherits:
        yield _inherits(view.where, full)


def check_pending(view: View) -> Iterator[Problem]:
    """Migrations that have not run: what no table of a service may have, however it is sharded."""
    for migration in view.pending:
        for table, line in migration.triggers:
            where = f"{migration.path}:{line}"
            yield _trigger(where, view.full(table), "", "remove the trigger from the migration")
        for facts in migration.tables:
            if facts.schema is None:
                yield from _pending_table(view, migration, facts)


def _pending_table(view: View, migration: Migration, facts: TableFacts) -> Iterator[Problem]:
    if facts.inherits:
        yield _inherits(f"{migration.path}:{facts.line}", view.full(facts.name))
    if view.service.sharding != "schema":
        return
    for key in facts.references:
        other = view.by_schema.get(key.to_schema or "")
        if other is not None and other.name != view.service.name and key.to_table not in other.reference_tables:
            yield _foreign_key_out(
                f"{migration.path}:{key.line}", view.full(facts.name), f"{key.to_schema}.{key.to_table}", ""
            )


def check_row_tables(view: View) -> Iterator[Problem]:
    """Row sharding: every table has the distribution column in itself and in all its keys, or is a reference table."""
    service, column = view.service, view.service.distribution_column
    if service.sharding != "row" or column is None:
        return
    if view.schema is not None and view.schema.colocation_id is not None:
        yield Problem(
            view.where,
            f"schema {view.schema.name} is distributed as a schema, and the stack file asks for `sharding: row`",
            f"undo the former first (SELECT citus_schema_undistribute('\"{view.schema.name}\"')), or declare "
            "`sharding: schema`",
        )
        return
    merged = _merge(view)
    opaque = any(migration.opaque for migration in view.pending)
    for name in service.reference_tables:
        if name not in merged and not opaque:
            yield Problem(
                view.where,
                f"reference table {view.full(name)} does not exist and no migration makes it",
                "correct `referenceTables`, or add a migration that creates it",
            )
    for name, table in merged.items():
        yield from _row_table(view, name, table, column)


@dataclass(frozen=True, slots=True)
class _Key:
    where: str
    what: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reference:
    """A foreign key. `schema` is None for the service's own."""

    where: str
    schema: str | None
    table: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Merged:
    """A table as it will be when all pending migrations have run. `partial`: then nothing is concluded from absence."""

    where: str
    existing: Table | None
    columns: set[str]
    keys: list[_Key]
    references: list[_Reference]
    partial: bool = False


def _merge(view: View) -> dict[str, _Merged]:
    merged = {name: _existing(view, table) for name, table in view.tables.items()}
    for migration in view.pending:
        for name in migration.drops:
            merged.pop(name, None)
        for facts in migration.tables:
            if facts.schema is not None or facts.partition:
                continue
            where = f"{migration.path}:{facts.line}"
            if facts.created and facts.name not in merged:
                merged[facts.name] = _Merged(where, None, set(), [], [])
            if facts.name in merged:
                _add(merged[facts.name], migration, facts)
        if migration.opaque:
            for table in merged.values():
                table.partial = True
    return merged


def _existing(view: View, table: Table) -> _Merged:
    keys = [
        _Key(view.where, f"{'primary key' if key.primary else 'unique key'} {key.name}", key.columns)
        for key in table.unique_keys
    ]
    own = view.service.schema_name
    references = [
        _Reference(view.where, None if key.to_schema == own else key.to_schema, key.to_table, key.columns)
        for key in table.foreign_keys
    ]
    return _Merged(view.where, table, set(table.columns), keys, references)


def _add(table: _Merged, migration: Migration, facts: TableFacts) -> None:
    table.columns |= set(facts.columns)
    table.keys += [_Key(f"{migration.path}:{key.line}", f"a {key.kind}", key.columns) for key in facts.keys]
    table.references += [
        _Reference(f"{migration.path}:{key.line}", key.to_schema, key.to_table, key.columns) for key in facts.references
    ]
    table.partial |= facts.partial


def _row_table(view: View, name: str, table: _Merged, column: str) -> Iterator[Problem]:
    service, full, existing = view.service, view.full(name), table.existing
    undo = f"make it a regular table first: SELECT undistribute_table('{view.quoted(name)}')"
    if name in service.reference_tables:
        if existing is not None and existing.kind == "distributed":
            yield Problem(table.where, f"table {full} is distributed, and `referenceTables` lists it", undo)
        yield from _from_reference(view, full, table)
        return
    if existing is not None and existing.kind == "reference":
        yield Problem(
            table.where, f"table {full} is a reference table already", f"list it under `referenceTables`, or {undo}"
        )
        return
    if existing is not None and existing.kind == "distributed" and existing.distribution_column != column:
        by = existing.distribution_column or "no column (one shard)"
        yield Problem(table.where, f"table {full} is distributed by {by} already, not by {column}", undo)
        return
    if not table.partial:
        yield from _column_and_keys(full, table, column)
        yield from _references(view, full, table, column)
    if existing is not None:
        for trigger in existing.triggers:
            drop = f'DROP TRIGGER "{trigger}" ON {view.quoted(name)}'
            yield _trigger(table.where, full, f" {trigger}", drop)


def _column_and_keys(full: str, table: _Merged, column: str) -> Iterator[Problem]:
    if column not in table.columns:
        yield Problem(
            table.where,
            f"table {full} has no column {column} to be distributed by",
            f"add the column {column}, or list the table under `referenceTables`",
        )
        return
    for key in table.keys:
        if column not in key.columns:
            yield Problem(
                key.where,
                f"{key.what} ({', '.join(key.columns)}) of table {full} does not include the distribution column "
                f"{column}; a node can only ensure uniqueness among its own rows",
                f"add {column} to the key, or list the table under `referenceTables`",
            )


def _references(view: View, full: str, table: _Merged, column: str) -> Iterator[Problem]:
    for key in table.references:
        within = key.schema is None and key.table not in view.service.reference_tables
        if within and key.columns and column not in key.columns:
            yield Problem(
                key.where,
                f"a foreign key ({', '.join(key.columns)}) of table {full} to {view.full(key.table)} does not include "
                f"the distribution column {column}; the two rows could be on different nodes",
                f"add {column} to the foreign key on both sides, or list {key.table} under `referenceTables`",
            )


def _from_reference(view: View, full: str, table: _Merged) -> Iterator[Problem]:
    for key in table.references:
        if key.schema is None and key.table not in view.service.reference_tables:
            yield Problem(
                key.where,
                f"reference table {full} has a foreign key to {view.full(key.table)}, which is distributed",
                f"drop the foreign key, or list {key.table} under `referenceTables` too",
            )


def _foreign_key_out(where: str, table: str, target: str, name: str) -> Problem:
    return Problem(
        where,
        f"a foreign key{name} of {table} points to {target}, outside of the service's schema",
        "drop the foreign key, put both tables into one service, or make the other a reference table of a "
        "row-sharded service",
    )


def _trigger(where: str, table: str, name: str, fix: str) -> Problem:
    return Problem(where, f"table {table} has a trigger{name}, and Citus takes none on tables that it distributes", fix)


def _inherits(where: str, table: str) -> Problem:
    return Problem(
        where,
        f"table {table} inherits from another table or is inherited from, and Citus distributes neither",
        "use separate tables, or partitions of one table",
    )
