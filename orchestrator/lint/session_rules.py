"""Statements that leave something in the session, or need what an earlier one left there.

Through PgBouncer in transaction mode the session belongs to somebody else after each transaction; through a balanced
port every connection may end on another node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from orchestrator.lint.tables import HOLD, Tables, is_temporary, temporary
from orchestrator.lint.tree import Statement, boolean, calls, enum, function_name, kind, walk

Found = tuple[str, str]
# LockMode and session lock functions: PostgreSQL documentation, "Advisory Lock Functions".
_SESSION_LOCKS = frozenset({
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
    "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all",
})  # fmt: skip
# What a transaction sets for itself ends with it; the others PgBouncer keeps for each client and sets again.
_HARMLESS = frozenset({
    "transaction", "transaction snapshot", "client_encoding", "datestyle", "timezone", "standard_conforming_strings",
})  # fmt: skip
# Run on Citus 13.2 through a worker: refused, or done on that node alone.
_DDL = frozenset({
    "AlterCollationStmt", "AlterDatabaseSetStmt", "AlterDatabaseStmt", "AlterDefaultPrivilegesStmt", "AlterDomainStmt",
    "AlterEnumStmt", "AlterExtensionStmt", "AlterFunctionStmt", "AlterObjectDependsStmt", "AlterObjectSchemaStmt",
    "AlterOperatorStmt", "AlterOwnerStmt", "AlterPolicyStmt", "AlterPublicationStmt", "AlterSeqStmt", "AlterStatsStmt",
    "AlterTSConfigurationStmt", "AlterTSDictionaryStmt", "AlterTableStmt", "AlterTypeStmt", "CommentStmt",
    "CompositeTypeStmt", "CreateCastStmt", "CreateConversionStmt", "CreateDomainStmt", "CreateEnumStmt",
    "CreateEventTrigStmt", "CreateExtensionStmt", "CreateFdwStmt", "CreateForeignServerStmt", "CreateForeignTableStmt",
    "CreateFunctionStmt", "CreateOpClassStmt", "CreatePolicyStmt", "CreatePublicationStmt", "CreateRangeStmt",
    "CreateSchemaStmt", "CreateSeqStmt", "CreateStatsStmt", "CreateStmt", "CreateTableAsStmt", "CreateTransformStmt",
    "CreateTrigStmt", "DefineStmt", "DropOwnedStmt", "DropStmt", "GrantStmt", "IndexStmt", "ReassignOwnedStmt",
    "RefreshMatViewStmt", "RenameStmt", "RuleStmt", "SecLabelStmt", "ViewStmt",
})  # fmt: skip
_COORDINATOR_ONLY = frozenset({
    "create_distributed_table", "create_distributed_table_concurrently", "create_reference_table",
    "citus_schema_distribute", "citus_schema_undistribute", "undistribute_table", "citus_schema_move",
    "alter_distributed_table", "citus_add_node", "citus_remove_node", "citus_rebalance_start",
    "rebalance_table_shards", "isolate_tenant_to_new_shard", "citus_move_shard_placement", "citus_rebalance_stop",
    "citus_job_cancel", "alter_table_set_access_method", "update_distributed_table_colocation",
    "truncate_local_data_after_distributing_table", "citus_add_local_table_to_metadata", "create_distributed_function",
    "citus_drain_node", "citus_disable_node", "citus_activate_node", "citus_update_node", "citus_set_node_property",
    "citus_set_coordinator_host", "citus_split_shard_by_split_points", "citus_copy_shard_placement",
    "remove_local_tables_from_metadata", "replicate_reference_tables", "create_time_partitions",
})  # fmt: skip


def session_findings(statement: Statement, tables: Tables | None = None) -> Iterator[Found]:
    """Without `tables` what earlier statements have made, and where it is, is not known."""
    known = tables or Tables()
    if statement.port.endswith("pooled"):
        yield from _pooled(statement, known)
    yield from _locks(statement)
    if statement.port.startswith("balanced"):
        yield from _balanced(statement, known)


def _pooled(statement: Statement, tables: Tables) -> Iterator[Found]:
    tree, name = statement.tree, statement.kind
    if _prepares(tree):
        yield "EC001", "a prepared statement stays in a session that the next transaction may not get"
    elif name in {"ListenStmt", "UnlistenStmt"}:
        yield (
            "EC002",
            "LISTEN stays with a session that serves other clients later; use the direct port",
        )
    elif name == "LoadStmt":
        yield "EC003", "LOAD changes one session of the pool only; have the server load the library"
    elif name == "VariableSetStmt" and _stays(tree):
        yield "EC005", f"SET {tree.name} stays in the session for the next client; use SET LOCAL or ALTER ROLE"
    yield from _kept(statement, tables)
    for call in calls(tree):
        arguments: Any = call.args or (None,)
        if function_name(call) == "set_config" and boolean(arguments[-1]) is False:
            yield "EC005", "set_config(..., false) stays in the session for the next client; pass true"


def _kept(statement: Statement, tables: Tables) -> Iterator[Found]:
    """What a session keeps beyond the transaction: cursors and what is temporary."""
    tree = statement.tree
    if statement.kind == "DeclareCursorStmt" and tree.options & HOLD:
        yield "EC007", "a WITH HOLD cursor stays in a session that the next transaction may not get"
    elif statement.kind == "FetchStmt" and (statement.path, tree.portalname) in tables.held:
        yield "EC007", f"{tree.portalname} is in the session that declared it, which this transaction may not get"
    if temporary(tree) is not None:
        yield (
            "EC006",
            "what is temporary stays in a session that the next transaction may not get; tables: ON COMMIT DROP",
        )
    elif used := _uses(statement, tables.temporary):
        yield "EC006", f"{used} is in the session that made it, which this transaction may not get"


def _prepares(tree: Any) -> bool:
    """EXECUTE can also stand below EXPLAIN and CREATE TABLE AS. DEALLOCATE ALL leaves nothing and needs nothing."""
    if kind(tree) == "DeallocateStmt":
        return tree.name is not None
    return any(kind(node) in {"PrepareStmt", "ExecuteStmt"} for node in walk(tree))


def _uses(statement: Statement, temporary: Collection[tuple[str, str]]) -> str | None:
    """The first name of something that another statement of the file has made as temporary."""
    for node in walk(statement.tree):
        mine = kind(node) == "RangeVar" and node.schemaname in {None, "pg_temp"}
        if mine and (statement.path, node.relname) in temporary:
            return str(node.relname)
    return None


def _stays(tree: Any) -> bool:
    """RESET and SET ... TO DEFAULT leave the session as every client expects it."""
    sets = enum(tree.kind) in {"VAR_SET_VALUE", "VAR_SET_MULTI", "VAR_SET_CURRENT"}
    return sets and not tree.is_local and str(tree.name).lower() not in _HARMLESS


def _locks(statement: Statement) -> Iterator[Found]:
    if statement.port == "direct":
        return
    balanced = statement.port.startswith("balanced")
    for call in calls(statement.tree):
        name = function_name(call)
        if name in _SESSION_LOCKS:
            why = "is known on one node only" if balanced else "stays with a session that serves other clients"
            yield "EC004", f"the lock of {name}() {why}; use the direct port, or pg_advisory_xact_lock() through 6432"
        elif balanced and name.startswith(("pg_advisory_xact", "pg_try_advisory_xact")):
            yield "EC004", f"the lock of {name}() is known on one node only; take it through the coordinator"


def _balanced(statement: Statement, tables: Tables) -> Iterator[Found]:
    name, tree = statement.kind, statement.tree
    if name in {"ListenStmt", "UnlistenStmt"} and statement.port == "balanced":
        yield "EC002", "LISTEN hears what is notified on its own node only; use the direct port"
    called = [function_name(call) for call in calls(tree)]
    if name == "NotifyStmt" or "pg_notify" in called:
        yield "EC002", "NOTIFY is heard on its own node only; use the direct or the pooled port"
    cluster = [function for function in called if function in _COORDINATOR_ONLY]
    into = kind(getattr(tree, "intoClause", None)) == "IntoClause"
    if cluster:
        yield "EC301", f"{cluster[0]}() runs on the coordinator only; use the direct port"
    elif (name in _DDL or into) and not _temporary_ddl(tree) and not _renamed_everywhere(statement, tables):
        yield "EC301", "nodes other than the coordinator refuse DDL, or keep it to themselves; use the direct port"
    elif local := _local_table(statement, tables):
        yield "EC301", f"{local} is neither distributed nor a reference table: only the coordinator has it"


def _renamed_everywhere(statement: Statement, tables: Tables) -> bool:
    """Measured on Citus 13.2: a worker passes the renaming of distributed tables, their columns and of roles on."""
    tree = statement.tree
    if statement.kind != "RenameStmt":
        return False
    if enum(tree.renameType) == "OBJECT_ROLE":
        return True
    relation = tree.relation
    schema = relation.schemaname or statement.schema if relation else None
    tables_of_it = relation is not None and tables.find(schema, relation.relname) is not None
    return tables_of_it and not tables.local(schema, relation.relname)


def _local_table(statement: Statement, tables: Tables) -> str | None:
    for node in walk(statement.tree):
        if kind(node) == "RangeVar" and tables.local(node.schemaname or statement.schema, node.relname):
            return str(node.relname)
    return None


def _temporary_ddl(tree: Any) -> bool:
    into = getattr(tree, "into", None) or getattr(tree, "intoClause", None)
    relation = getattr(into, "rel", None) or getattr(tree, "relation", None)
    return kind(relation) == "RangeVar" and is_temporary(relation)
