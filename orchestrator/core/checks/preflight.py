"""What would stop or disturb a scale-out or a rebalance, told before it begins: pure, from one reading of the cluster.

A finding names an object, what would happen, and what to do. `stops` refuses the run, `warns` is shown before the
question, `informs` is good to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.core.observed.state import ClusterState
from orchestrator.core.observed.structure import NodeStructure, disagreeing_metadata, disagreeing_tables

Grade = Literal["stops", "warns", "informs"]
GRADES: tuple[Grade, ...] = ("stops", "warns", "informs")


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is the name of the check that found it."""

    check: str
    grade: Grade
    object: str
    consequence: str
    fix: str


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What one node says of itself. Lists hold names; `disk` is free and total bytes; `error` is why it is silent."""

    node_id: int
    name: str
    error: str = ""
    settings: Mapping[str, str] | None = None
    used_slots: int = 0
    disk: tuple[int, int] = (0, 0)
    extensions: Mapping[str, str] | None = None
    long_transactions: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    database_grants: tuple[str, ...] = ()
    role_settings: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One reading. `unreachable` are pairs of nodes; the other tuples hold names of what the check of that name finds.

    `owners` maps each owner of a distributed table to whether it can log in and whether the administrator is a member.
    """

    state: ClusterState
    nodes: tuple[NodeFacts, ...]
    structure: tuple[NodeStructure, ...] = ()
    unreachable: tuple[tuple[str, str], ...] = ()
    without_identity: tuple[str, ...] = ()
    owners: Mapping[str, tuple[bool, bool]] | None = None
    reference_missing: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    foreign_keys: tuple[str, ...] = ()
    granted_by: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    pools: int = 0

    @property
    def reached(self) -> tuple[NodeFacts, ...]:
        return tuple(node for node in self.nodes if not node.error)


Check = Callable[[Facts], Iterator[Finding]]


def find(facts: Facts, checks: Mapping[str, Check]) -> tuple[Finding, ...]:
    """Everything that the checks find, what stops first."""
    found = [finding for check in checks.values() for finding in check(facts)]
    return tuple(sorted(found, key=lambda finding: GRADES.index(finding.grade)))


def missing_on_nodes(facts: Facts, kind: str) -> Iterator[tuple[str, str]]:
    """Pairs of a node's name and an entry of `kind` that other nodes have and it has not."""
    entries = {node.name: set(getattr(node, kind)) for node in facts.reached}
    everywhere = set().union(*entries.values()) if entries else set()
    for name, mine in entries.items():
        for entry in sorted(everywhere - mine):
            yield name, entry


def structure_findings(facts: Facts) -> Iterator[Finding]:
    """Where nodes disagree about tables and metadata."""
    for node, kind in disagreeing_metadata(facts.structure):
        yield Finding(
            "metadata", "stops", f"node {node}: {kind}",
            "it has other metadata than the coordinator; queries and moves "
            "through it go wrong", "SELECT start_metadata_sync_to_node(host, port), or ask Azure's support",
        )  # fmt: skip
    named = {one.table for node in facts.structure for one in node.differing}
    for node, table in disagreeing_tables(facts.structure):
        named.discard(table)
        yield Finding(
            "tables", "warns", f"table {table} on node {node}", "it is not as on the coordinator: owner, grants, "
            "columns, indexes or constraints differ", "repeat the GRANT, ALTER or CREATE on the coordinator",
        )  # fmt: skip
    for table in sorted(named):
        yield Finding(
            "shards", "warns", f"table {table}", "a shard lacks or has what its table has not",
            "repeat the GRANT, ALTER or CREATE on the coordinator",
        )  # fmt: skip
