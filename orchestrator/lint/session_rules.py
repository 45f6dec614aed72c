"""Statements that leave something in the session, or need what an earlier one left there.

Through PgBouncer in transaction mode the session belongs to somebody else after each transaction; through a balanced
port every connection may end on another node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.lint.tree import Statement, boolean, calls, enum, function_name, kind, walk

Found = tuple[str, str]
# LockMode and session lock functions: PostgreSQL documentation, "Advisory Lock Functions".
_SESSION_LOCKS = frozenset({
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
    "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all",
})  # fmt: skip
_HOLD = 0x0020  # CURSOR_OPT_HOLD, parsenodes.h
# What a transaction sets for itself ends with it; the others PgBouncer keeps for each client and sets again.
_HARMLESS = frozenset({
    "transaction", "transaction snapshot", "client_encoding", "datestyle", "timezone", "standard_conforming_strings",
})  # fmt: skip
_DDL = (
    "CreateStmt", "AlterTableStmt", "IndexStmt", "CreateSchemaStmt", "CreateRoleStmt", "AlterRoleStmt", "DropRoleStmt",
    "CreateSeqStmt", "ViewStmt", "CreateFunctionStmt", "CreateEnumStmt", "CompositeTypeStmt", "CreateExtensionStmt",
    "GrantStmt", "GrantRoleStmt", "AlterOwnerStmt", "AlterObjectSchemaStmt", "DropStmt", "RenameStmt",
    "AlterRoleSetStmt", "AlterDomainStmt", "CreateDomainStmt", "CreateTrigStmt", "AlterEnumStmt", "AlterSeqStmt",
)  # fmt: skip
_COORDINATOR_ONLY = frozenset({
    "create_distributed_table", "create_distributed_table_concurrently", "create_reference_table",
    "citus_schema_distribute", "citus_schema_undistribute", "undistribute_table", "citus_schema_move",
    "alter_distributed_table", "citus_add_node", "citus_remove_node", "citus_rebalance_start",
    "rebalance_table_shards", "isolate_tenant_to_new_shard", "citus_move_shard_placement", "citus_rebalance_stop",
    "citus_job_cancel",
})  # fmt: skip
# Measured on Citus 13.2: workers pass these on, or run them, as the coordinator does.
_ANY_NODE = frozenset({"CreateRoleStmt", "AlterRoleStmt", "DropRoleStmt", "GrantRoleStmt", "AlterRoleSetStmt"})


def session_findings(statement: Statement) -> Iterator[Found]:
    if statement.port.endswith("pooled"):
        yield from _pooled(statement)
    yield from _locks(statement)
    if statement.port.startswith("balanced"):
        yield from _balanced(statement)


def _pooled(statement: Statement) -> Iterator[Found]:
    tree, name = statement.tree, statement.kind
    if name in {"PrepareStmt", "ExecuteStmt", "DeallocateStmt"}:
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
    elif name == "DeclareCursorStmt" and tree.options & _HOLD:
        yield "EC007", "a WITH HOLD cursor stays in a session that the next transaction may not get"
    if _temporary(tree):
        yield (
            "EC006",
            "what is temporary stays in a session that the next transaction may not get; tables: ON COMMIT DROP",
        )
    for call in calls(tree):
        arguments: Any = call.args or (None,)
        if function_name(call) == "set_config" and boolean(arguments[-1]) is False:
            yield "EC005", "set_config(..., false) stays in the session for the next client; pass true"


def _stays(tree: Any) -> bool:
    """RESET and SET ... TO DEFAULT leave the session as every client expects it."""
    sets = enum(tree.kind) in {"VAR_SET_VALUE", "VAR_SET_MULTI", "VAR_SET_CURRENT"}
    return sets and not tree.is_local and str(tree.name).lower() not in _HARMLESS


def _temporary(tree: Any) -> bool:
    """A temporary table that outlives its transaction."""
    for node in walk(tree):
        if kind(node) == "CreateStmt":
            return _is_temporary(node.relation) and enum(node.oncommit) != "ONCOMMIT_DROP"
        if kind(node) == "IntoClause":
            return _is_temporary(node.rel) and enum(node.onCommit) != "ONCOMMIT_DROP"
        if kind(node) in {"ViewStmt", "CreateSeqStmt"}:
            return _is_temporary(node.view if kind(node) == "ViewStmt" else node.sequence)
    return False


def _is_temporary(relation: Any) -> bool:
    return enum(relation.relpersistence) == "t" or relation.schemaname == "pg_temp"


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


def _balanced(statement: Statement) -> Iterator[Found]:
    name = statement.kind
    if name in {"ListenStmt", "UnlistenStmt"} and statement.port == "balanced":
        yield "EC002", "LISTEN hears what is notified on its own node only; use the direct port"
    notify = any(function_name(call) == "pg_notify" for call in calls(statement.tree))
    if name == "NotifyStmt" or notify:
        yield "EC002", "NOTIFY is heard on its own node only; use the direct or the pooled port"
    cluster = [function_name(call) for call in calls(statement.tree) if function_name(call) in _COORDINATOR_ONLY]
    if cluster:
        yield "EC301", f"{cluster[0]}() runs on the coordinator only; use the direct port"
    elif name in _DDL and name not in _ANY_NODE and not _temporary_ddl(statement.tree):
        yield "EC301", "nodes other than the coordinator refuse DDL, or keep it to themselves; use the direct port"


def _temporary_ddl(tree: Any) -> bool:
    relation = getattr(tree, "relation", None)
    return kind(relation) == "RangeVar" and _is_temporary(relation)
