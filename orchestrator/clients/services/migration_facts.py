"""What can be known of a migration from its statements: tables, keys, foreign keys, triggers, and what cannot run.

Reads PostgreSQL's own parse tree. Follows what Citus has rules about and nothing else; where a statement shapes a table
in another way, the table's facts are marked partial, so that a check rather stays silent than refuses what would work.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.planning.migrations import KeyFacts, Migration, ReferenceFacts, TableFacts

_KEY_KINDS = {"CONSTR_PRIMARY": "primary key", "CONSTR_UNIQUE": "unique constraint", "CONSTR_EXCLUSION": "exclusion"}
# Subtypes of ALTER TABLE that leave columns, keys, owner and place of a table as they are.
_HARMLESS = frozenset({
    "AT_ColumnDefault", "AT_SetNotNull", "AT_DropNotNull", "AT_SetStatistics", "AT_SetStorage", "AT_SetCompression",
    "AT_AlterColumnType", "AT_SetRelOptions", "AT_ResetRelOptions", "AT_EnableRowSecurity", "AT_DisableRowSecurity",
    "AT_ForceRowSecurity", "AT_NoForceRowSecurity", "AT_ReplicaIdentity", "AT_ValidateConstraint", "AT_AddIdentity",
    "AT_SetIdentity", "AT_DropIdentity", "AT_ClusterOn", "AT_SetLogged", "AT_AttachPartition", "AT_DetachPartition",
})  # fmt: skip

TableKey = tuple[str | None, str]


@dataclass
class _Table:
    line: int
    created: bool
    columns: list[str] = field(default_factory=list)
    keys: list[KeyFacts] = field(default_factory=list)
    references: list[ReferenceFacts] = field(default_factory=list)
    inherits: bool = False
    partial: bool = False
    partition: bool = False


@dataclass
class Facts:
    """Gathers the facts of one file, statement by statement. `schema` is the service's own; naming it is optional."""

    schema: str
    line_of: Callable[[int], int]
    tables: dict[TableKey, _Table] = field(default_factory=dict)
    triggers: list[tuple[str, int, str]] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    opaque: bool = False

    def add(self, statement: Any) -> None:
        handler = getattr(self, f"_{type(statement).__name__}", None)
        if handler is not None:
            handler(statement)

    def migration(self, name: str, sha256: str, path: str, statements: Iterable[str]) -> Migration:
        tables = tuple(
            TableFacts(
                schema, table, tuple(found.columns), tuple(found.keys), tuple(found.references), found.inherits,
                found.line, found.created, found.partial, found.partition,
            )
            for (schema, table), found in self.tables.items()
        )  # fmt: skip
        triggers = tuple((table, line) for table, line, _ in self.triggers)
        return Migration(name, sha256, path, tuple(statements), tables, triggers, tuple(self.drops), self.opaque)

    def _key(self, relation: Any) -> TableKey:
        return (None if relation.schemaname == self.schema else relation.schemaname, relation.relname)

    def _table(self, relation: Any) -> _Table:
        """The table's facts so far; a table that this file does not create is known by what is added to it."""
        return self.tables.setdefault(self._key(relation), _Table(self.line_of(relation.location), created=False))

    def _CreateStmt(self, statement: Any) -> None:  # noqa: N802 - named after the node of the parse tree
        if _name(statement.relation.relpersistence) == "t":
            return
        table = self.tables[self._key(statement.relation)] = _Table(self.line_of(statement.relation.location), True)
        table.partition = statement.partbound is not None
        table.inherits = bool(statement.inhRelations) and not table.partition
        table.partial = statement.ofTypename is not None
        for element in statement.tableElts or ():
            kind = type(element).__name__
            if kind == "ColumnDef":
                self._column(table, element)
            elif kind == "Constraint":
                self._constraint(table, element, ())
            else:
                table.partial = True  # LIKE

    def _CreateTableAsStmt(self, statement: Any) -> None:  # noqa: N802
        if _name(statement.objtype) == "OBJECT_TABLE" and _name(statement.into.rel.relpersistence) != "t":
            relation = statement.into.rel
            self.tables[self._key(relation)] = _Table(self.line_of(relation.location), True, partial=True)

    def _CreateSchemaStmt(self, statement: Any) -> None:  # noqa: N802
        for element in statement.schemaElts or ():
            if type(element).__name__ == "CreateStmt" and element.relation.schemaname is None:
                element.relation.schemaname = statement.schemaname
            self.add(element)

    def _AlterTableStmt(self, statement: Any) -> None:  # noqa: N802
        if _name(statement.objtype) != "OBJECT_TABLE":
            return
        table = self._table(statement.relation)
        for command in statement.cmds:
            kind = _name(command.subtype)
            if kind == "AT_AddColumn":
                self._column(table, command.def_)
            elif kind == "AT_AddConstraint":
                self._constraint(table, command.def_, ())
            elif kind == "AT_AddInherit":
                table.inherits = True
            elif kind not in _HARMLESS:
                table.partial = True

    def _IndexStmt(self, statement: Any) -> None:  # noqa: N802
        if not statement.unique:
            return
        table = self._table(statement.relation)
        columns = [element.name for element in statement.indexParams]
        table.keys.append(
            KeyFacts(tuple(filter(None, columns)), "unique index", self.line_of(statement.relation.location))
        )

    def _CreateTrigStmt(self, statement: Any) -> None:  # noqa: N802
        schema, table = self._key(statement.relation)
        if schema is None:
            self.triggers.append((table, self.line_of(statement.relation.location), statement.trigname))

    def _DropStmt(self, statement: Any) -> None:  # noqa: N802
        kind = _name(statement.removeType)
        for item in statement.objects:
            path = [part.sval for part in item] if isinstance(item, tuple) else []
            if kind == "OBJECT_TABLE":
                schema = path[-2] if len(path) > 1 and path[-2] != self.schema else None
                self.tables.pop((schema, path[-1]), None)
                if schema is None:
                    self.drops.append(path[-1])
                    self.triggers = [entry for entry in self.triggers if entry[0] != path[-1]]
            elif kind == "OBJECT_TRIGGER":
                self.triggers = [entry for entry in self.triggers if (entry[0], entry[2]) != (path[-2], path[-1])]
            elif kind == "OBJECT_INDEX":
                self._forget_keys()

    def _RenameStmt(self, statement: Any) -> None:  # noqa: N802
        if statement.relation is not None:
            self._table(statement.relation).partial = True
            if _name(statement.renameType) == "OBJECT_TABLE":
                new = (self._key(statement.relation)[0], statement.newname)
                self.tables[new] = _Table(self.line_of(statement.relation.location), True, partial=True)

    def _AlterObjectSchemaStmt(self, statement: Any) -> None:  # noqa: N802
        if statement.relation is not None:
            self._table(statement.relation).partial = True
            if statement.newschema == self.schema:
                line = self.line_of(statement.relation.location)
                self.tables[(None, statement.relation.relname)] = _Table(line, True, partial=True)

    def _DoStmt(self, _: Any) -> None:  # noqa: N802
        self.opaque = True

    _CallStmt = _DoStmt

    def _forget_keys(self) -> None:
        """An index is dropped by its own name, which does not say on which table it was."""
        for table in self.tables.values():
            table.partial = True
        self.opaque = True

    def _column(self, table: _Table, column: Any) -> None:
        table.columns.append(column.colname)
        for constraint in column.constraints or ():
            self._constraint(table, constraint, (column.colname,))

    def _constraint(self, table: _Table, constraint: Any, column: tuple[str, ...]) -> None:
        kind, line = _name(constraint.contype), self.line_of(constraint.location)
        if kind == "CONSTR_FOREIGN":
            target = constraint.pktable
            schema = None if target.schemaname == self.schema else target.schemaname
            columns = _texts(constraint.fk_attrs) or column
            table.references.append(ReferenceFacts(schema, target.relname, line, columns))
        elif kind in _KEY_KINDS and constraint.indexname is None:
            columns = _texts(constraint.keys) or column
            if kind == "CONSTR_EXCLUSION":
                columns = tuple(pair[0].name for pair in constraint.exclusions if pair[0].name)
            table.keys.append(KeyFacts(columns, _KEY_KINDS[kind], line))
        elif kind in _KEY_KINDS:
            table.partial = True  # USING INDEX: which columns, only the index knows


def unusable(statement: Any) -> tuple[str, str] | None:
    """Why a statement cannot be part of a migration, and what to do: a migration is one transaction as one role."""
    kind = type(statement).__name__
    if kind in _NEVER:
        return _NEVER[kind]
    if kind == "TransactionStmt" and _name(statement.kind) not in _SAVEPOINTS:
        return "a migration runs in one transaction and cannot end it", "remove BEGIN, COMMIT and ROLLBACK"
    if kind == "VariableSetStmt" and statement.name in {"role", "session_authorization"}:
        return "a migration runs as the service's role and cannot change it", "remove the statement"
    if kind == "VariableSetStmt" and _name(statement.kind) == "VAR_SET_MULTI" and "TRANSACTION" in str(statement.name):
        return "a migration runs in one transaction that has begun already", "remove SET TRANSACTION"
    if kind == "CopyStmt" and (statement.filename is not None or statement.is_program or statement.is_from):
        return "COPY with a file or STDIN needs a client beside the migration", "use INSERT, or load the rows later"
    if _concurrently(statement, kind):
        return "CONCURRENTLY cannot run inside a transaction, and a migration is one", "leave out CONCURRENTLY"
    return None


_SAVEPOINTS = frozenset({"TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE", "TRANS_STMT_ROLLBACK_TO"})
_OUTSIDE = "run it by hand, outside of migrations"
_NEVER = {
    "VacuumStmt": ("VACUUM and ANALYZE cannot be part of a migration", _OUTSIDE),
    "CreatedbStmt": ("CREATE DATABASE cannot run inside a transaction", "a cluster has one database; remove it"),
    "DropdbStmt": ("DROP DATABASE cannot run inside a transaction", "a cluster has one database; remove it"),
    "AlterSystemStmt": ("ALTER SYSTEM cannot run inside a transaction", "use `serverParameters` in the stack file"),
    "CreateTableSpaceStmt": ("CREATE TABLESPACE cannot run inside a transaction", _OUTSIDE),
    "DropTableSpaceStmt": ("DROP TABLESPACE cannot run inside a transaction", _OUTSIDE),
    "CreateSubscriptionStmt": ("CREATE SUBSCRIPTION cannot be part of a migration", _OUTSIDE),
    "DiscardStmt": ("DISCARD cannot be part of a migration", "remove the statement"),
}


def _concurrently(statement: Any, kind: str) -> bool:
    if kind in {"IndexStmt", "DropStmt"}:
        return bool(statement.concurrent)
    if kind == "ReindexStmt":
        return any(option.defname == "concurrently" for option in statement.params or ())
    if kind == "AlterTableStmt":
        return any(
            _name(command.subtype) == "AT_DetachPartition" and getattr(command.def_, "concurrent", False)
            for command in statement.cmds
        )
    return False


def line_counter(text: str) -> Callable[[int], int]:
    """Character offset -> line, from 1."""
    breaks = [index for index, character in enumerate(text) if character == "\n"]
    return lambda offset: bisect_right(breaks, max(offset, 0) - 1) + 1


def _name(value: Any) -> str:
    return getattr(value, "name", None) or str(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(value.sval for value in values or ())
