"""What an infrastructure program would change, resource by resource, in words. Data and rules only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.core.errors import Refused

Operation = Literal["create", "update", "replace", "delete"]

SERVER_TYPE = "azure-native:dbforpostgresql:Server"
NODE_COUNT = "cluster.clusterSize"


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """One property by its path in the resource. `before` and `after` are None where unknown or absent."""

    path: str
    before: Any = None
    after: Any = None

    @property
    def text(self) -> str:
        name = "nodes" if self.path == NODE_COUNT else self.path
        if self.before is None and self.after is None:
            return name
        return f"{name} {_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """`type` is Pulumi's, `name` the resource's name in the program."""

    operation: Operation
    type: str
    name: str
    properties: tuple[PropertyChange, ...] = ()

    @property
    def title(self) -> str:
        kind = self.type.rsplit(":", 1)[-1]
        details = ", ".join(change.text for change in self.properties)
        return f"{self.operation} {kind} {self.name}" + (f" ({details})" if details else "")

    @property
    def only_node_count(self) -> bool:
        return (
            self.type == SERVER_TYPE
            and self.operation == "update"
            and [change.path for change in self.properties] == [NODE_COUNT]
        )

    @property
    def loses_data(self) -> bool:
        return self.type == SERVER_TYPE and self.operation in {"replace", "delete"}


class OtherChangesPending(Refused):
    def __init__(self, stack: str, others: Sequence[ResourceChange]) -> None:
        super().__init__(
            f"`pulumi up` on stack {stack} would change more than the node count: {_listed(others)}. "
            f"Nothing was changed. Run `pulumi up --stack {stack}` first, or add --with-pending-changes."
        )


class ServerWouldBeLost(Refused):
    def __init__(self, stack: str, changes: Sequence[ResourceChange]) -> None:
        super().__init__(
            f"`pulumi up` on stack {stack} would remove the cluster and its data: {_listed(changes)}. Nothing was "
            "changed, and no option of this command does it. Put the property back to what the cluster has."
        )


class NotInState(Refused):
    def __init__(self, stack: str) -> None:
        super().__init__(
            f"Stack {stack} is scaled through Pulumi, but Pulumi's state of it holds no cluster. Nothing was changed. "
            "Run `pulumi up` or `pulumi import` first, or set elastic-cluster:scaling: arm in the stack file."
        )


class NodeCountNotManaged(Refused):
    def __init__(self, stack: str, nodes: int) -> None:
        super().__init__(
            f"`pulumi up` on stack {stack} would not make the cluster {nodes} nodes large: its program does not manage "
            "the node count. Nothing was changed. Set elastic-cluster:scaling: arm, or pass the stack's node count to "
            "the server in the program."
        )


def check_changes(
    stack: str, nodes: int, changes: Sequence[ResourceChange], *, allow_others: bool
) -> tuple[ResourceChange, ...]:
    """The changes beside the node count that were allowed. Raises Refused, naming what would change."""
    if lost := [change for change in changes if change.loses_data]:
        raise ServerWouldBeLost(stack, lost)
    grows = any(NODE_COUNT in [part.path for part in change.properties] for change in changes)
    if not grows:
        raise NodeCountNotManaged(stack, nodes)
    others = tuple(change for change in changes if not change.only_node_count)
    if others and not allow_others:
        raise OtherChangesPending(stack, others)
    return others


def _listed(changes: Sequence[ResourceChange]) -> str:
    shown = "; ".join(change.title for change in changes[:8])
    return shown + (f"; and {len(changes) - 8} more" if len(changes) > 8 else "")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
