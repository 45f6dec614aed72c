"""What Citus refuses of distributed tables, and what holds up a move: keys, foreign keys, triggers, locks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.lint.tables import Table, Tables
from orchestrator.lint.tree import Statement, enum, kind, strings

Found = tuple[str, str]
_KEYS = {"CONSTR_PRIMARY": "primary key", "CONSTR_UNIQUE": "unique constraint", "CONSTR_EXCLUSION": "exclusion"}
_SERIAL = frozenset({"serial", "serial4", "smallserial", "serial2"})
_INT = frozenset({"int4", "int2"})
# lockdefs.h: SHARE is the weakest that writers wait for.
_SHARE_LOCK = 5
# ALTER TABLE takes less than SHARE for these: PostgreSQL documentation, "ALTER TABLE".
_LIGHT = frozenset(
    {"AT_SetRelOptions", "AT_ResetRelOptions", "AT_SetStatistics", "AT_ValidateConstraint", "AT_ClusterOn"}
)


def table_findings(statement: Statement, tables: Tables) -> Iterator[Found]:
    tree = statement.tree
    if statement.kind == "CreateStmt" and enum(tree.relation.relpersistence) != "t":
        table = _table(statement, tree.relation, tables)
        elements = tree.tableElts or ()
        yield from _constraints(statement, table, elements, tables)
        for column in (item for item in elements if kind(item) == "ColumnDef"):
            yield from _numbering(table, column, tables)
        if tree.inhRelations and not tree.partbound and (table.distributed or tables.tenant(table.schema)):
            yield "EC105", f"{table.name} inherits: distributed tables can neither inherit nor be inherited from"
    elif statement.kind == "AlterTableStmt":
        yield from _altered(statement, _table(statement, tree.relation, tables), tables)
    elif statement.kind == "IndexStmt" and tree.unique:
        table = _table(statement, tree.relation, tables)
        columns = tuple(item.name for item in tree.indexParams if item.name)
        yield from _key("unique index", columns, table)
    elif statement.kind == "CreateTrigStmt":
        table = _table(statement, tree.relation, tables)
        if table.distributed or table.reference or tables.tenant(table.schema):
            yield "EC105", f"{table.name} is distributed: Citus has no triggers there"


def _table(statement: Statement, relation: Any, tables: Tables) -> Table:
    schema = relation.schemaname or statement.schema
    return tables.find(schema, relation.relname) or Table(schema, relation.relname)


def _altered(statement: Statement, table: Table, tables: Tables) -> Iterator[Found]:
    for command in statement.tree.cmds or ():
        definition = command.def_
        if kind(definition) == "Constraint":
            yield from _constraints(statement, table, (definition,), tables)
        elif kind(definition) == "ColumnDef" and enum(command.subtype) == "AT_AddColumn":
            yield from _constraints(statement, table, (definition,), tables)
            yield from _numbering(table, definition, tables)


def _constraints(statement: Statement, table: Table, elements: Any, tables: Tables) -> Iterator[Found]:
    for element in elements:
        if kind(element) == "Constraint":
            yield from _constraint(statement, table, element, None, tables)
        elif kind(element) == "ColumnDef":
            for constraint in element.constraints or ():
                yield from _constraint(statement, table, constraint, element.colname, tables)


def _constraint(
    statement: Statement, table: Table, constraint: Any, column: str | None, tables: Tables
) -> Iterator[Found]:
    name = enum(constraint.contype)
    if name in _KEYS and not constraint.indexname:
        yield from _key(_KEYS[name], _key_columns(constraint, column), table)
    elif name == "CONSTR_FOREIGN":
        columns = strings(constraint.fk_attrs) or ((column,) if column else ())
        yield from _foreign(statement, table, constraint, columns, tables)


def _key_columns(constraint: Any, column: str | None) -> tuple[str, ...]:
    """An exclusion keeps the distribution column only where it compares it with =."""
    if constraint.exclusions:
        pairs = ((item[0].name, strings(item[1])[-1]) for item in constraint.exclusions)
        return tuple(name for name, operator in pairs if name and operator == "=")
    return strings(constraint.keys) or ((column,) if column else ())


def _key(what: str, columns: tuple[str, ...], table: Table) -> Iterator[Found]:
    if table.column is not None and table.column not in columns:
        yield (
            "EC101",
            f"the {what} of {table.name} lacks the distribution column {table.column}: add it to the key, "
            "for Citus can compare rows of one shard only",
        )


def _foreign(
    statement: Statement, table: Table, constraint: Any, columns: tuple[str, ...], tables: Tables
) -> Iterator[Found]:
    relation = constraint.pktable
    schema = relation.schemaname or statement.schema
    found = tables.find(schema, relation.relname)
    target = found or Table(schema, relation.relname)
    if tables.tenant(table.schema) and table.schema != target.schema:
        if not target.reference:
            yield "EC102", f"{table.name} refers to {target.name} in another schema: foreign keys stay in one schema"
    elif table.distributed and found is not None and not target.reference:
        yield from _foreign_of_distributed(table, target, constraint, columns)
    elif table.reference and target.distributed:
        yield "EC102", f"the reference table {table.name} refers to {target.name}, which is spread over the nodes"


def _foreign_of_distributed(table: Table, target: Table, constraint: Any, columns: tuple[str, ...]) -> Iterator[Found]:
    if not target.distributed:
        yield "EC102", f"{table.name} refers to {target.name}, which is neither distributed nor a reference table"
        return
    if target.group != table.group:
        yield "EC102", f"{table.name} refers to {target.name}, which is not colocated with it (colocate_with)"
        return
    targets = strings(constraint.pk_attrs)
    pairs = list(zip(columns, targets, strict=False)) if targets else [(name, name) for name in columns]
    if (table.column, target.column) not in pairs:
        yield (
            "EC102",
            f"the foreign key of {table.name} to {target.name} does not pair the distribution columns "
            f"{table.column} and {target.column}: add them on both sides",
        )


def _numbering(table: Table, column: Any, tables: Tables) -> Iterator[Found]:
    if not (table.distributed or table.reference or tables.tenant(table.schema)):
        return
    types = strings(column.typeName.names) if column.typeName else ()
    identity = any(enum(item.contype) == "CONSTR_IDENTITY" for item in column.constraints or ())
    if types and (types[-1] in _SERIAL or (types[-1] in _INT and identity)):
        yield (
            "EC104",
            f"{table.name}.{column.colname} is numbered as {types[-1]}: an INSERT through a balanced port fails where "
            "it reaches another node than the coordinator; use bigint GENERATED ALWAYS AS IDENTITY",
        )


def lock_findings(statement: Statement, tables: Tables) -> Iterator[Found]:
    """Only for tables that were there before: nobody writes to one that the same files make."""
    what = _strong_lock(statement)
    if what is None:
        return
    for relation in _locked(statement):
        if relation is None or enum(relation.relpersistence) == "t":
            continue
        if _table(statement, relation, tables).made is None:
            yield (
                "EC401",
                f"{what} on {relation.relname} stops its writers until the transaction ends, and the cut-over of a "
                "shard that moves waits with them; do it apart from scale-outs, with SET LOCAL lock_timeout",
            )


# PostgreSQL documentation, "Explicit Locking": each takes ACCESS EXCLUSIVE.
_EXCLUSIVE = {"TruncateStmt": "TRUNCATE", "ClusterStmt": "CLUSTER", "DropStmt": "DROP TABLE", "ReindexStmt": "REINDEX",
              "VacuumStmt": "VACUUM FULL"}  # fmt: skip


def _exclusive(statement: Statement) -> str | None:
    """None for those of their kinds that lock no table, or lock it less."""
    tree = statement.tree
    options = {option.defname for option in getattr(tree, "params", None) or getattr(tree, "options", None) or ()}
    if statement.kind == "DropStmt" and enum(tree.removeType) != "OBJECT_TABLE":
        return None
    if statement.kind == "ReindexStmt" and (tree.relation is None or "concurrently" in options):
        return None
    if statement.kind == "VacuumStmt" and "full" not in options:
        return None
    return _EXCLUSIVE[statement.kind]


def _locked(statement: Statement) -> list[Any]:
    """The relations that are locked, as far as the statement names them."""
    tree = statement.tree
    if statement.kind in {"LockStmt", "TruncateStmt"}:
        return list(tree.relations or ())
    if statement.kind == "VacuumStmt":
        return [item.relation for item in tree.rels or ()]
    if statement.kind == "DropStmt":
        return [_named(item) for item in tree.objects]
    return [tree.relation]


def _named(names: Any) -> Any:
    """A table as DROP names it, as a relation."""
    from pglast.ast import RangeVar

    parts = strings(names)
    return RangeVar(schemaname=parts[-2] if len(parts) > 1 else None, relname=parts[-1], relpersistence="p")


def _strong_lock(statement: Statement) -> str | None:
    tree = statement.tree
    if statement.kind == "LockStmt" and tree.mode >= _SHARE_LOCK:
        return "LOCK TABLE"
    if statement.kind == "IndexStmt" and not tree.concurrent:
        return "CREATE INDEX without CONCURRENTLY"
    if statement.kind in _EXCLUSIVE:
        return _exclusive(statement)
    if statement.kind == "AlterTableStmt" and enum(tree.objtype) == "OBJECT_TABLE":
        return None if all(enum(command.subtype) in _LIGHT for command in tree.cmds) else "ALTER TABLE"
    if statement.kind == "RenameStmt" and enum(tree.renameType) in {"OBJECT_TABLE", "OBJECT_COLUMN"}:
        return "ALTER TABLE ... RENAME"
    return None
