"""The checks of preflight: facts in, findings out. One entry of CHECKS for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from orchestrator.core.checks.preflight import Check, Facts, Finding, Grade, missing_on_nodes, structure_findings
from orchestrator.core.checks.preflight_balance import balance_findings

# At least as many of each as moves at once need on a node that gives or takes two, beside Citus' own daemon.
NEEDED = {
    "max_worker_processes": (4, "moves wait for a free worker process and fail"),
    "max_replication_slots": (2, "logical moves cannot make their slot"),
    "max_wal_senders": (2, "logical moves cannot read their source"),
    "max_logical_replication_workers": (2, "logical moves have nobody who copies"),
    # Citus replaces a 0 by twice max_connections when it is loaded.
    "max_prepared_transactions": (4, "moves at once cannot be committed on all nodes and are rolled back"),
}
# Citus refuses a move that would leave less free on its target (citus.desired_percent_disk_available_after_move).
FREE_PERCENT = 10
PARAMETER = "set it under serverParameters of the stack file, and restart the server"


def _reached(facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.error:
            yield Finding(
                "reachable",
                "stops", f"node {node.name}", f"it does not answer ({node.error}): every move fails at its "
                "end, because all nodes have to agree", "wait until Azure has it running again",
            )  # fmt: skip


def _pairs(facts: Facts) -> Iterator[Finding]:
    for source, target in facts.unreachable:
        yield Finding(
            "node connections", "stops", f"node {source}", f"it does not reach node {target}: shards cannot move "
            "between them", "look at the server's network and its logs",
        )  # fmt: skip


def _members(facts: Facts) -> Iterator[Finding]:
    for node in facts.state.nodes:
        name, place = f"node {node.node_id} ({node.host}:{node.port})", f"'{node.host}', {node.port}"
        if not node.active:
            fix = f"SELECT citus_activate_node({place})"
            yield Finding("active", "stops", name, "an inactive node takes no shards and stops every move", fix)
        elif not node.metadata_synced:
            fix = f"SELECT start_metadata_sync_to_node({place})"
            yield Finding("synced", "stops", name, "it lacks the metadata: queries through it fail", fix)
        if not node.should_have_shards:
            fix = f"SELECT citus_set_node_property({place}, 'shouldhaveshards', true)"
            yield Finding("may hold shards", "warns", name, "a rebalance moves everything off it", fix)


def _versions(facts: Facts) -> Iterator[Finding]:
    first = facts.reached[0] if facts.reached else None
    for node in facts.reached:
        for name, version in (first.extensions or {}).items() if first else ():
            found = (node.extensions or {}).get(name, "missing")
            if found != version:
                grade: Grade = "stops" if name == "citus" else "warns"
                yield Finding(
                    "extensions", grade, f"extension {name} on node {node.name}", f"it is {found} there and {version} "
                    "on the first node: shards that use it behave differently after a move",
                    f"ALTER EXTENSION {name} UPDATE on every node",
                )  # fmt: skip


def _settings(facts: Facts) -> Iterator[Finding]:
    # Simulated moves copy nothing, so the one server behind them need not be set up for it.
    for node in () if facts.state.simulated else facts.reached:
        settings = node.settings or {}
        if settings.get("wal_level", "logical") != "logical":
            consequence = f"wal_level is {settings['wal_level']}: logical moves are refused"
            yield Finding("wal_level", "stops", f"node {node.name}", consequence, PARAMETER)
        for name, (least, consequence) in NEEDED.items():
            free = int(settings.get(name, "999")) - (node.used_slots if name == "max_replication_slots" else 0)
            if free < least:
                text = f"{name} leaves {free}, and {least} are needed: {consequence}"
                yield Finding(name, "warns", f"node {node.name}", text, PARAMETER)


def _disk(facts: Facts) -> Iterator[Finding]:
    sizes: dict[int, int] = {}
    for group in facts.state.shard_groups:
        sizes[group.node_id] = max(sizes.get(group.node_id, 0), group.bytes or 0)
    for node in facts.reached:
        free, total = node.disk
        if total and free * 100 < total * FREE_PERCENT:
            yield Finding(
                "disk", "stops", f"node {node.name}", f"{free * 100 // total} % of its disk is free, and Citus refuses "
                f"moves that leave less than {FREE_PERCENT} %", "grow storage.sizeGb (`pulumi up`), or delete data",
            )  # fmt: skip
        elif total and free < sizes.get(node.node_id, 0):
            yield Finding(
                "room for WAL", "warns", f"node {node.name}",
                "less is free than its largest shard group: what is written "
                "during a move stays until the move has ended", "grow storage.sizeGb, or move at a quiet time",
            )  # fmt: skip


def _transactions(facts: Facts) -> Iterator[Finding]:
    for node in facts.reached:
        for text in node.long_transactions:
            yield Finding(
                "long transactions", "warns", f"{text} on node {node.name}",
                "a move of what it touches waits for it, and "
                "writers wait behind the move", "end it, or set idle_in_transaction_session_timeout",
            )  # fmt: skip
        for text in node.prepared:
            yield Finding(
                "abandoned transactions", "warns", f"prepared transaction {text} on node {node.name}",
                "it holds its locks until somebody ends it",
                "ROLLBACK PREPARED, once its application is known to be gone",
            )  # fmt: skip


def _leftovers(facts: Facts) -> Iterator[Finding]:
    if facts.state.job is not None and facts.state.job.in_flight:
        yield Finding(
            "rebalance", "warns", f"rebalance job {facts.state.job.job_id}", "it is running; this run follows it first",
            "nothing, or SELECT citus_rebalance_stop()",
        )  # fmt: skip
        return
    clean = "CALL citus_cleanup_orphaned_resources()"
    for record in facts.cleanup:
        yield Finding("clean-up", "warns", record, "it takes space, and a move back to its node fails", clean)
    for node in facts.reached:
        for name in node.leftovers:
            consequence = "an earlier move left it behind; a slot keeps WAL until the disk is full"
            yield Finding(
                "leftovers", "warns", f"{name} on node {node.name}", consequence, f"{clean}, or drop it there"
            )
        for name in node.orphans:
            consequence = "no metadata knows this shard; it takes space, and a move there fails"
            fix = f"{clean}; what stays: SET citus.enable_manual_changes_to_shards TO on; DROP TABLE {name} there"
            yield Finding("orphaned shards", "warns", f"{name} on node {node.name}", consequence, fix)


def _executors(facts: Facts) -> Iterator[Finding]:
    at_once, per_node = facts.state.executors
    if (at_once > 1) != (per_node > 1):
        yield Finding(
            "executors", "informs", f"{at_once} moves at once, {per_node} per node",
            "raising only one of the two settings changes nothing", "set both citus.max_background_task_executors "
            "and citus.max_background_task_executors_per_node; a run of the orchestrator raises both by itself",
        )  # fmt: skip
    if facts.state.kept_settings:
        names = ", ".join(sorted(facts.state.kept_settings))
        yield Finding(
            "kept settings", "informs", names, "an interrupted run raised them", "the next run puts them back"
        )


def _tables(facts: Facts) -> Iterator[Finding]:
    for table in facts.without_identity:
        yield Finding(
            "replica identity", "warns", f"table {table}",
            "it has no primary key or replica identity: Citus' job refuses "
            "to move it with `auto`; with `force_logical` its UPDATE and DELETE fail meanwhile; with `block_writes` "
            "its "
            "writes wait", f"add a primary key, or ALTER TABLE {table} REPLICA IDENTITY FULL",
        )  # fmt: skip
    if unknown := [group for group in facts.state.shard_groups if group.bytes is None]:
        yield Finding(
            "sizes", "stops", f"{len(unknown)} shard groups",
            "their size cannot be read: Citus refuses to rebalance by "
            "size", "orchestrator apply, which makes the administrator a member of every service's role",
        )  # fmt: skip
    for table in facts.reference_missing:
        yield Finding(
            "reference tables", "warns", table, "the rebalance copies it there first, and holds its writes meanwhile",
            "SELECT replicate_reference_tables(), at a quiet time",
        )  # fmt: skip
    for key in facts.foreign_keys:
        yield Finding(
            "foreign keys", "warns", key, "it joins two schemas, so neither can become a distributed schema",
            "drop it, or make the table that it points to a reference table",
        )  # fmt: skip


def _owners(facts: Facts) -> Iterator[Finding]:
    for role, (can_login, is_member) in (facts.owners or {}).items():
        if not can_login:
            consequence = "it owns distributed tables and cannot log in: the nodes refuse to copy them in its name"
            yield Finding("owner's login", "stops", f"role {role}", consequence, f'ALTER ROLE "{role}" LOGIN')
        if not is_member:
            consequence = "it owns distributed tables and the administrator is no member: the rebalance is refused"
            yield Finding("membership", "stops", f"role {role}", consequence, f'GRANT "{role}" TO the administrator')


def _joining(facts: Facts) -> Iterator[Finding]:
    for domain in facts.domains:
        consequence = "a domain outside public can stop a new node from joining (Citus issue 8191)"
        yield Finding(
            "domains", "warns", f"domain {domain}", consequence, "move it: ALTER DOMAIN ... SET SCHEMA public"
        )
    for grant in facts.granted_by:
        consequence = "granted by a role that got it itself: older Citus fails to add a node (Citus issue 8425)"
        yield Finding("granted by", "warns", f"membership {grant}", consequence, "grant it again as the administrator")


def _missing(check: str, kind: str, consequence: str, fix: str, facts: Facts) -> Iterator[Finding]:
    for node, entry in missing_on_nodes(facts, kind):
        yield Finding(check, "warns", f"{entry}, missing on node {node}", consequence, fix)


def _connections(facts: Facts) -> Iterator[Finding]:
    for node in facts.reached:
        settings = node.settings or {}
        clients = int(settings.get("citus.max_client_connections", "-1"))
        most = clients if clients > 0 else int(settings.get("max_connections", "100000"))
        if facts.pools > most:
            yield Finding(
                "connections",
                "warns", f"node {node.name}", f"PgBouncer may open {facts.pools} connections there, and it "
                f"takes {most}", "lower pgbouncer.defaultPoolSize, or raise citus.max_client_connections",
            )  # fmt: skip


REPEAT = "repeat the statement on the coordinator"
CHECKS: Mapping[str, Check] = {
    "reached": _reached, "pairs": _pairs, "members": _members, "structure": structure_findings, "versions": _versions,
    "settings": _settings, "disk": _disk, "transactions": _transactions, "leftovers": _leftovers,
    "executors": _executors, "tables": _tables, "owners": _owners, "joining": _joining, "connections": _connections,
    "balance": balance_findings,
    "database grants": partial(
        _missing, "database grants", "database_grants", "logins that come through that node are refused",
        "repeat the GRANT or REVOKE ON DATABASE there: Citus does not carry it to nodes added later",
    ),
    "role settings": partial(_missing, "role settings", "role_settings", "sessions behave differently there", REPEAT),
    "roles": partial(_missing, "roles", "roles", "statements of that role fail there", REPEAT),
}  # fmt: skip
