"""Observed state: one reading of the control plane and of the database. Data only; small derived facts as functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.core.observed.pins import Pin
from orchestrator.core.observed.server import ServerReading
from orchestrator.core.observed.timing import RunTiming

TableKind = Literal["local", "schema", "distributed", "reference"]


@dataclass(frozen=True, slots=True)
class Node:
    """A row of pg_dist_node. The coordinator has group_id 0; on an elastic cluster it holds shards like the others."""

    node_id: int
    group_id: int
    host: str
    port: int
    active: bool
    metadata_synced: bool
    should_have_shards: bool

    @property
    def joined(self) -> bool:
        return self.active and self.metadata_synced and self.should_have_shards


@dataclass(frozen=True, slots=True)
class ShardGroup:
    """What moves as one: the shards of one colocation group that hold the same key range.

    `shard_id` is that of the anchor table, as in Citus' own plan. `bytes` is None where the size could not be read,
    which is not the same as empty.
    """

    shard_id: int
    colocation_id: int
    node_id: int
    bytes: int | None
    tables: tuple[str, ...] = ()
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class RebalanceTask:
    """One task of a background job. `retries` counts failures so far; `message` is the last one's text.

    `shard_id` is None for the task that copies reference tables to new nodes, and so are the node ids.
    """

    task_id: int
    status: str
    command: str
    shard_id: int | None = None
    retries: int = 0
    message: str = ""
    phase: str | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    source: int | None = None
    target: int | None = None

    @property
    def ended(self) -> bool:
        return self.status in {"done", "error", "unscheduled", "cancelled"}


@dataclass(frozen=True, slots=True)
class RebalanceJob:
    """A background job of Citus that moves shards. A failing move keeps it `running` for about half an hour."""

    job_id: int
    state: str
    tasks: tuple[RebalanceTask, ...] = ()

    @property
    def in_flight(self) -> bool:
        return self.state in {"scheduled", "running", "cancelling", "failing"}

    @property
    def done(self) -> int:
        return sum(task.status == "done" for task in self.tasks)


@dataclass(frozen=True, slots=True)
class StartedRebalance:
    """Citus' answer to a start: the job, or None when it found nothing worth moving, and its notices."""

    job_id: int | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Strategy:
    """A rebalance strategy as pg_dist_rebalance_strategy has it. Thresholds are ratios; `base_cost` is in bytes."""

    name: str
    by_size: bool
    base_cost: int = 0
    threshold: float = 0.0
    improvement_threshold: float = 0.0
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A role. `logs_in` is whether its password was proved by logging in; None where that was not tried."""

    name: str
    can_login: bool
    connection_limit: int
    search_path: str | None
    admin_is_member: bool
    logs_in: bool | None = None
    superuser: bool = False


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A primary key, unique constraint or unique index: its name and its columns."""

    name: str
    columns: tuple[str, ...]
    primary: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key by its name, and the schema and table that it points to.

    `to_reference` is whether that is a reference table: those may be pointed to from everywhere.
    """

    name: str
    to_schema: str
    to_table: str
    columns: tuple[str, ...] = ()
    to_reference: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a service's schema; partitions count as part of their parent.

    `grants` maps a role to the privileges it holds on the table.
    """

    name: str
    owner: str
    kind: TableKind
    columns: tuple[str, ...] = ()
    distribution_column: str | None = None
    unique_keys: tuple[UniqueKey, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    inherits: bool = False
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema and its tables. `colocation_id` is None for a schema that is not distributed.

    `referenced_from` names tables of other schemas that point here with a foreign key; `usage` the roles that may use
    the schema; `default_grants` maps a role to the privileges it gets on tables the owner creates later.
    """

    name: str
    owner: str
    colocation_id: int | None
    tables: Mapping[str, Table] = field(default_factory=dict)
    referenced_from: tuple[str, ...] = ()
    usage: frozenset[str] = frozenset()
    default_grants: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A migration that ran: file name and SHA-256 of what ran."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ServicesState:
    """What the database has of the services that the stack file declares. Keys are role, schema and service names."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    migrations: Mapping[str, tuple[AppliedMigration, ...]] = field(default_factory=dict)
    bookkeeping: bool = False


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One reading of everything. `executors` are the two settings for parallel moves (all at once, per node);
    `kept_settings` are values noted down before a run raised them, to be put back when it is over; `timings` are what
    earlier runs took, the latest last; `pins` are the tenants that are to stay where they are. `held` is what each node
    holds, where that was read instead of the shard groups."""

    server: ServerReading | None
    citus_version: str
    server_version: int
    nodes: tuple[Node, ...]
    shard_groups: tuple[ShardGroup, ...]
    strategies: tuple[Strategy, ...]
    job: RebalanceJob | None = None
    executors: tuple[int, int] = (1, 1)
    kept_settings: Mapping[str, str] = field(default_factory=dict)
    leftovers: int = 0
    timings: tuple[RunTiming, ...] = ()
    pins: tuple[Pin, ...] = ()
    held: tuple[NodeLoad, ...] | None = None

    @property
    def loads(self) -> tuple[NodeLoad, ...]:
        """What each node holds, in the order of the nodes."""
        return node_loads(self.nodes, self.shard_groups) if self.held is None else self.held

    @property
    def simulated(self) -> bool:
        return "simulated" in self.citus_version

    def strategy(self, name: str | None) -> Strategy:
        """The named strategy, or the cluster's default one. Raises KeyError when there is none of that name."""
        for strategy in self.strategies:
            if strategy.name == name or (name is None and strategy.is_default):
                return strategy
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What one node holds. `bytes` is None when the size of any of its shard groups is unknown."""

    node: Node
    shard_groups: int
    bytes: int | None


def node_loads(nodes: tuple[Node, ...], groups: tuple[ShardGroup, ...]) -> tuple[NodeLoad, ...]:
    """Shard groups and bytes per node, in the order of the nodes."""
    held: dict[int, list[int | None]] = {node.node_id: [] for node in nodes}
    for group in groups:
        held.setdefault(group.node_id, []).append(group.bytes)
    return tuple(
        NodeLoad(node, len(sizes), None if None in sizes else sum(size or 0 for size in sizes))
        for node in nodes
        for sizes in [held[node.node_id]]
    )


def skew(loads: tuple[NodeLoad, ...]) -> float | None:
    """Fullest node over the average, by bytes: 1.0 is even. None when a size is unknown or there is no data."""
    sizes = [load.bytes for load in loads if load.node.should_have_shards or load.bytes]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not known or sum(known) == 0:
        return None
    return max(known) * len(known) / sum(known)
