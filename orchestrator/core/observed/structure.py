"""What the nodes say of the tables they hold, and where they disagree: pure.

Columns, indexes, constraints, owners, grants, policies and replica identity of every shard are compared with those of
its table on the same node, the tables and Citus' metadata across the nodes. Data is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One line in which a shard differs from its table: it `lacks` or `has` the value."""

    table: str
    shard_id: int
    kind: str
    value: str
    how: str


@dataclass(frozen=True, slots=True)
class NodeStructure:
    """One node's answer. `tables` and `metadata` are digests by name; `error` is why there is no answer."""

    node_id: int
    name: str
    error: str = ""
    group_id: int = -1
    differing: tuple[Difference, ...] = ()
    tables: Mapping[str, str] | None = None
    metadata: Mapping[str, str] | None = None


def problems(nodes: Sequence[NodeStructure]) -> tuple[str, ...]:
    """Every disagreement as a sentence that names node and object; the coordinator is what others are compared with."""
    found = [*_unanswered(nodes), *_differing(nodes), *_tables(nodes), *_metadata(nodes)]
    if len(found) > MOST_NAMED:
        return (*found[:MOST_NAMED], f"and {len(found) - MOST_NAMED} more like these")
    return tuple(found)


def disagreeing_metadata(nodes: Sequence[NodeStructure]) -> tuple[tuple[str, str], ...]:
    """Pairs of a node's name and the kind of metadata in which it differs from the coordinator."""
    first = _coordinator(nodes)
    if first is None:
        return ()
    return tuple(
        (node.name, kind)
        for node in nodes
        if node.metadata is not None
        for kind, digest in node.metadata.items()
        if first.metadata is not None and first.metadata.get(kind) != digest
    )


def disagreeing_tables(nodes: Sequence[NodeStructure]) -> tuple[tuple[str, str], ...]:
    """Pairs of a node's name and a table that is not there as it is on the coordinator."""
    first = _coordinator(nodes)
    if first is None or first.tables is None:
        return ()
    known = first.tables
    return tuple(
        (node.name, table)
        for node in nodes
        if node.tables is not None
        for table in sorted(known.keys() | node.tables.keys())
        if known.get(table) != node.tables.get(table)
    )


def _coordinator(nodes: Sequence[NodeStructure]) -> NodeStructure | None:
    return next((node for node in nodes if node.group_id == 0), None)


def _unanswered(nodes: Sequence[NodeStructure]) -> Iterator[str]:
    for node in nodes:
        if node.error:
            yield f"node {node.name} could not be looked at: {node.error}"


def _differing(nodes: Sequence[NodeStructure]) -> Iterator[str]:
    for node in nodes:
        for one in node.differing:
            shard = f"shard {one.shard_id} of {one.table} on node {node.name}"
            if one.kind == "table":
                yield f"{shard} is missing"
            elif one.how == "lacks":
                yield f"{shard} lacks what its table has: {one.kind} {one.value}"
            else:
                yield f"{shard} has what its table has not: {one.kind} {one.value}"


def _tables(nodes: Sequence[NodeStructure]) -> Iterator[str]:
    for node, table in disagreeing_tables(nodes):
        yield f"table {table} is not on node {node} as it is on the coordinator"


def _metadata(nodes: Sequence[NodeStructure]) -> Iterator[str]:
    for node, kind in disagreeing_metadata(nodes):
        yield f"node {node} has other metadata than the coordinator: {kind}"
