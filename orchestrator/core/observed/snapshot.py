"""What was observed, as one JSON file: so that a preview needs neither the database nor Azure.

It holds nothing secret: no password, no address of Azure's resource, no statement that ran. The schema number rises
when an older orchestrator could not read the file any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.core.errors import Refused
from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.observed.state import ClusterState, Node, RebalanceJob, ShardGroup, Strategy
from orchestrator.core.observed.timing import RunTiming

KIND = "orchestrator cluster snapshot"
SCHEMA = 1
AGAIN = "Take it again with `orchestrator snapshot`."
# More bytes than any storage that Azure offers times its most nodes: a number above this is not a size.
ABSURD = 2**60


class SnapshotRefused(Refused):
    def __init__(self, source: str, problem: str, fix: str = AGAIN) -> None:
        super().__init__(f"{source} cannot be used as a snapshot: {problem}. {fix}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`taken_at` is in UTC, ISO 8601. Services are left out: a preview does not look at them."""

    kind: str
    schema: int
    taken_at: str
    citus_version: str
    server_version: int
    server: ServerReading | None
    nodes: tuple[Node, ...]
    strategies: tuple[Strategy, ...]
    job: RebalanceJob | None
    executors: tuple[int, int]
    kept_settings: dict[str, str]
    leftovers: int
    timings: tuple[RunTiming, ...]
    shard_groups: tuple[ShardGroup, ...]
    pins: tuple[Pin, ...] = ()


@cache
def _adapter() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)


def snapshot_text(state: ClusterState, taken_at: str) -> str:
    """One line of JSON per shard group, so that two snapshots can be compared line by line."""
    server = replace(state.server, resource_id="") if state.server else None
    job = replace(state.job, tasks=()) if state.job else None
    snapshot = Snapshot(
        KIND,
        SCHEMA,
        taken_at,
        state.citus_version,
        state.server_version,
        server,
        state.nodes,
        state.strategies,
        job,
        state.executors,
        dict(state.kept_settings),
        state.leftovers,
        state.timings,
        state.shard_groups,
        tuple(_without_value(pin) for pin in state.pins),
    )
    document = _adapter().dump_python(snapshot, mode="json")
    groups = document.pop("shard_groups")
    head = json.dumps(document, indent=1).removesuffix("\n}")
    lines = ",\n".join(json.dumps(group) for group in groups)
    return f'{head},\n "shard_groups": [\n{lines}\n ]\n}}\n'


def _without_value(pin: Pin) -> Pin:
    """A value of a column is data of a user's; a preview needs to know only where it is."""
    return pin if pin.tenant.table is None else replace(pin, tenant=Tenant("a tenant", pin.tenant.table))


def read_snapshot(text: str, source: str) -> ClusterState:
    """The state that was observed. Raises SnapshotRefused: cut off, newer, or not what a cluster can be."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SnapshotRefused(source, f"it is not whole JSON, perhaps it was cut off ({error})") from None
    _check_kind(raw, source)
    try:
        snapshot = _adapter().validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SnapshotRefused(source, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    _check_consistent(snapshot, source)
    return ClusterState(
        server=snapshot.server,
        citus_version=snapshot.citus_version,
        server_version=snapshot.server_version,
        nodes=snapshot.nodes,
        shard_groups=snapshot.shard_groups,
        strategies=snapshot.strategies,
        job=snapshot.job,
        executors=snapshot.executors,
        kept_settings=snapshot.kept_settings,
        leftovers=snapshot.leftovers,
        timings=snapshot.timings,
        pins=snapshot.pins,
    )


def _check_kind(raw: Any, source: str) -> None:
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise SnapshotRefused(source, f"its `kind` is not {KIND!r}")
    schema = raw.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise SnapshotRefused(source, "its `schema` is not a number from 1 on")
    if schema > SCHEMA:
        fix = "Use the orchestrator that wrote it, or a newer one than this."
        raise SnapshotRefused(source, f"it has schema {schema} and this orchestrator reads up to {SCHEMA}", fix)


def _check_consistent(snapshot: Snapshot, source: str) -> None:
    ids = [node.node_id for node in snapshot.nodes]
    if not ids:
        raise SnapshotRefused(source, "nodes: a cluster has at least one node")
    if len(set(ids)) < len(ids):
        raise SnapshotRefused(source, "nodes: two have the same node_id")
    if not snapshot.strategies:
        raise SnapshotRefused(source, "strategies: Citus has at least one rebalance strategy")
    known, seen = set(ids), set()
    for number, group in enumerate(snapshot.shard_groups):
        where = f"shard_groups.{number}"
        if group.node_id not in known:
            raise SnapshotRefused(source, f"{where}.node_id: there is no node {group.node_id}")
        if group.bytes is not None and not 0 <= group.bytes < ABSURD:
            raise SnapshotRefused(source, f"{where}.bytes: {group.bytes} is not a size")
        if group.shard_id in seen:
            raise SnapshotRefused(source, f"{where}.shard_id: {group.shard_id} is there twice")
        seen.add(group.shard_id)
