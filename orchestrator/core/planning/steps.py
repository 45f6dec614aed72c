"""The steps a plan is made of: on the server, the shards and tenants here, on services in `steps_services`.

Each *ensures* an end state and can be repeated; each is inert data. `title` says in the user's
words what the step is about to make true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.planning.placement import Move
from orchestrator.core.planning.steps_services import ServiceStep
from orchestrator.core.size import count

TransferMode = Literal["auto", "force_logical", "block_writes"]
# quick: small groups row by row, of large ones a sample; full: every row of every group.
Verify = Literal["quick", "full", "off"]

AT_ONCE = "citus.max_background_task_executors"
PER_NODE = "citus.max_background_task_executors_per_node"


@dataclass(frozen=True, slots=True)
class SettleServer:
    """Wait until an operation that Azure is already running on the server has ended."""

    state: str

    @property
    def title(self) -> str:
        return f"wait for Azure: the server is {self.state}"


@dataclass(frozen=True, slots=True)
class ResizeCluster:
    before: int
    after: int

    @property
    def title(self) -> str:
        return f"grow the cluster from {self.before} to {self.after} nodes"


@dataclass(frozen=True, slots=True)
class AwaitNodes:
    """Until that many nodes are active, have the metadata and may hold shards: ARM's answer alone is not enough."""

    nodes: int

    @property
    def title(self) -> str:
        return f"wait until all {self.nodes} nodes have joined"


@dataclass(frozen=True, slots=True)
class RaiseExecutors:
    """Let several moves run at once. Both settings default to 1 and raising only one of them changes nothing.

    Source: measured on Citus 13.2; the values found are noted down in the cluster first, to be put back.
    """

    at_once: int
    per_node: int

    @property
    def title(self) -> str:
        return f"allow {count(self.at_once, 'move')} at once, {self.per_node} per node"


@dataclass(frozen=True, slots=True)
class FollowRebalance:
    """A rebalance is in flight already, by an earlier run or by somebody else: adopt it."""

    job_id: int

    @property
    def title(self) -> str:
        return f"follow the rebalance that is already running (job {self.job_id})"


@dataclass(frozen=True, slots=True)
class RebalanceShards:
    """`moves` are predicted: what Citus will plan by itself when nothing changes until then.

    Without `parallel` Citus moves the shards of one row-sharded table one after the other, whatever the settings.
    """

    strategy: str
    transfer_mode: TransferMode
    moves: tuple[Move, ...]
    parallel: bool = False

    @property
    def title(self) -> str:
        return f"rebalance with {self.strategy}: {count(len(self.moves), 'move')}"


@dataclass(frozen=True, slots=True)
class MoveShards:
    """The same moves, made by ourselves: `at_once`, and so many per node, counting what each gives and takes.

    With `auto` each group is copied in the mode that suits it: with block_writes where writes are expected to wait for
    less than `max_pause` seconds. With `exactly` these moves are made (an undo), with a `tenant` those that pins ask
    for by then, else those that Citus plans by then. `verify` is how the copies of each group are compared before its
    move is committed.
    """

    strategy: str
    transfer_mode: TransferMode
    moves: tuple[Move, ...]
    at_once: int
    per_node: int
    max_pause: float
    exactly: bool = False
    verify: Verify = "quick"
    tenant: Pin | None = None

    @property
    def title(self) -> str:
        if self.tenant is not None:
            away = ", and everybody else away from there" if self.tenant.alone else ""
            return f"move {self.tenant.tenant.title} to node {self.tenant.node_id}{away}"
        doing = "move back" if self.exactly else f"rebalance with {self.strategy}"
        return f"{doing}: {count(len(self.moves), 'direct move')}, {self.at_once} at once"


@dataclass(frozen=True, slots=True)
class PinTenant:
    """Note down in the cluster where a tenant is to stay: what is moved later is moved because of it."""

    pin: Pin

    @property
    def title(self) -> str:
        alone = ", alone" if self.pin.alone else ""
        return f"pin {self.pin.tenant.title} to node {self.pin.node_id}{alone}"


@dataclass(frozen=True, slots=True)
class ReleaseTenant:
    """Nothing moves for it; the next rebalance may."""

    tenant: Tenant

    @property
    def title(self) -> str:
        return f"release {self.tenant.title}: a rebalance may move it again"


@dataclass(frozen=True, slots=True)
class SplitTenant:
    """Give the rows of a tenant a shard of their own, in every table that moves along (`cascade` where there are more).

    Nothing puts shards together again. `bytes` are those of the shards that are split, `verify` is how they are
    compared with their parts before that is committed.
    """

    tenant: Tenant
    cascade: bool
    transfer_mode: TransferMode
    bytes: int | None = None
    verify: Verify = "quick"

    @property
    def title(self) -> str:
        along = ", and in the tables that move along" if self.cascade else ""
        return f"give {self.tenant.title} a shard of its own{along}"


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """Put back the settings that a run of ours raised. Pairs of name and value."""

    values: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        return "put back " + ", ".join(f"{name} = {value}" for name, value in self.values)


@dataclass(frozen=True, slots=True)
class VerifyCluster:
    """Observe once more and compare with what was asked for. `shard_ids` existed before and must still exist."""

    nodes: int
    shard_ids: tuple[int, ...]

    @property
    def title(self) -> str:
        return "verify nodes, placement and settings"


ServerStep: TypeAlias = SettleServer | ResizeCluster | RaiseExecutors | RestoreSettings
TenantStep: TypeAlias = PinTenant | ReleaseTenant | SplitTenant
ShardStep: TypeAlias = FollowRebalance | RebalanceShards | MoveShards | TenantStep
ClusterStep: TypeAlias = ServerStep | AwaitNodes | ShardStep | VerifyCluster
Step: TypeAlias = ClusterStep | ServiceStep
