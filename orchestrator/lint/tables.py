"""What the statements say about tables: which are distributed and by what, which are copied, which schemas move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.lint.tree import Statement, calls, enum, function_name, kind, literal, walk

HOLD = 0x0020  # CURSOR_OPT_HOLD, parsenodes.h


@dataclass
class Table:
    """`made` is the statement that creates it, None where only its distribution is known."""

    schema: str | None
    name: str
    column: str | None = None
    reference: bool = False
    columns: set[str] = field(default_factory=set)
    made: Statement | None = None
    group: str | None = None

    @property
    def distributed(self) -> bool:
        return self.column is not None


@dataclass
class Tables:
    """Known tables. `default_column` distributes every new table that has it, as `sharding: row` does."""

    tenant_schemas: set[str] = field(default_factory=set)
    default_columns: dict[str | None, str] = field(default_factory=dict)
    references: set[tuple[str | None, str]] = field(default_factory=set)
    known: list[Table] = field(default_factory=list)
    # By file: temporary tables and cursors that outlive the transaction that made them.
    temporary: set[tuple[str, str]] = field(default_factory=set)
    held: set[tuple[str, str]] = field(default_factory=set)

    def find(self, schema: str | None, name: str) -> Table | None:
        same = [table for table in self.known if table.name == name]
        exact = [table for table in same if table.schema == schema]
        if exact:
            return exact[0]
        return same[0] if len(same) == 1 and (schema is None or same[0].schema is None) else None

    def tenant(self, schema: str | None) -> bool:
        return schema in self.tenant_schemas

    def local(self, schema: str | None, name: str) -> bool:
        """Known, and neither distributed nor copied: only the coordinator has it."""
        table = self.find(schema, name)
        return table is not None and not (table.distributed or table.reference or self.tenant(table.schema))

    def touch(self, schema: str | None, name: str) -> Table:
        found = self.find(schema, name)
        if found is None:
            found = Table(schema, name)
            self.known.append(found)
        return found


def gather(statements: Iterable[Statement], tables: Tables) -> None:
    """Reads all statements once, in order, before any rule looks at one."""
    by_setting = False
    for statement in statements:
        tree = statement.tree
        if statement.kind == "VariableSetStmt" and tree.name == "citus.enable_schema_based_sharding":
            by_setting = bool(tree.args) and str(literal(tree.args[0])).lower() in {"on", "true", "1"}
        elif statement.kind == "CreateSchemaStmt" and by_setting:
            tables.tenant_schemas.add(tree.schemaname or tree.authrole.rolename)
        elif statement.kind == "DeclareCursorStmt" and tree.options & HOLD:
            tables.held.add((statement.path, tree.portalname))
        elif (name := temporary(tree)) is not None:
            tables.temporary.add((statement.path, name))
        elif statement.kind == "CreateStmt":
            _created(statement, tables)
        else:
            for call in calls(tree):
                _called(statement, call, tables)


def temporary(tree: Any) -> str | None:
    """The name of what is temporary and outlives its transaction; None for a statement that makes no such thing."""
    for node in walk(tree):
        relation = None
        if kind(node) == "CreateStmt" and enum(node.oncommit) != "ONCOMMIT_DROP":
            relation = node.relation
        elif kind(node) == "IntoClause" and enum(node.onCommit) != "ONCOMMIT_DROP":
            relation = node.rel
        elif kind(node) == "ViewStmt":
            relation = node.view
        elif kind(node) == "CreateSeqStmt":
            relation = node.sequence
        if relation is not None and is_temporary(relation):
            return str(relation.relname)
    return None


def is_temporary(relation: Any) -> bool:
    return enum(relation.relpersistence) == "t" or relation.schemaname == "pg_temp"


def _created(statement: Statement, tables: Tables) -> None:
    relation = statement.tree.relation
    if enum(relation.relpersistence) == "t":
        return
    table = tables.touch(relation.schemaname or statement.schema, relation.relname)
    table.made = table.made or statement
    table.columns |= {item.colname for item in statement.tree.tableElts or () if kind(item) == "ColumnDef"}
    default = tables.default_columns.get(table.schema)
    if (table.schema, table.name) in tables.references:
        table.reference = True
    elif table.column is None and default in table.columns:
        table.column = default


def _called(statement: Statement, call: Any, tables: Tables) -> None:
    name = function_name(call)
    values: dict[Any, Any] = {}
    for place, argument in enumerate(call.args or ()):
        if kind(argument) == "NamedArgExpr":
            values[argument.name] = argument.arg
        else:
            values[place] = argument
    first = literal(values.get(0)) if 0 in values else None
    if first is None:
        return
    if name == "citus_schema_distribute":
        tables.tenant_schemas.add(first.strip('"'))
    elif name in {"create_distributed_table", "create_distributed_table_concurrently"}:
        table = tables.touch(*split_name(first, statement.schema))
        table.column = literal(values.get(1, values.get("distribution_column")))
        table.group = _group(table, literal(values.get(3, values.get("colocate_with"))), statement, tables)
    elif name == "create_reference_table":
        tables.touch(*split_name(first, statement.schema)).reference = True


def _group(table: Table, colocate_with: str | None, statement: Statement, tables: Tables) -> str | None:
    """None is the default group; a table of its own group gives its name to it."""
    if colocate_with is None or colocate_with == "default":
        return None
    if colocate_with == "none":
        return f"{table.schema}.{table.name}"
    other = tables.find(*split_name(colocate_with, statement.schema))
    return other.group if other is not None else colocate_with


def split_name(text: str, schema: str | None) -> tuple[str | None, str]:
    """A table's name as Citus' functions take it: text with an optional schema."""
    parts = [part.strip('"') for part in text.split(".")]
    return (parts[0], parts[1]) if len(parts) == 2 else (schema, parts[-1])
