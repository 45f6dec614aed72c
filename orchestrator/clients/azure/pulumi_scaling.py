"""The control plane of a cluster whose node count is changed by `pulumi up`; everything else is asked of Azure."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.azure.pulumi import PulumiStack
from orchestrator.core.observed.server import Operation, OperationReading, Parameter, ServerReading

KIND = "pulumi up"


class PulumiScaling:
    """Pulumi blocks for minutes and this must not: it runs in a thread, and the thread is what is polled.

    A run that is interrupted waits for Pulumi on its way out: cut off, it would leave its state locked.
    """

    def __init__(self, arm: ArmClient, stack: PulumiStack) -> None:
        self._arm, self._stack = arm, stack
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="pulumi")
        self._up: Future[None] | None = None

    def start_resize(self, nodes: int) -> Operation:  # noqa: ARG002 - the stack file says how many
        """The node count is in the stack file by now. An `up` that still runs is not started again."""
        if self._up is None or self._up.done():
            self._up = self._threads.submit(self._stack.up)
        return Operation("", KIND)

    def read_operation(self, operation: Operation) -> OperationReading:
        """Raises PulumiFailed."""
        if operation.kind != KIND:
            return self._arm.read_operation(operation)
        if self._up is None:
            return OperationReading("Unknown")
        if not self._up.done():
            return OperationReading("InProgress")
        self._up.result()
        return OperationReading("Succeeded")

    def read_server(self) -> ServerReading:
        return self._arm.read_server()

    def read_parameters(self, names: Collection[str]) -> dict[str, Parameter]:
        return self._arm.read_parameters(names)

    def start_set_parameter(self, name: str, value: str, *, source: str = "user-override") -> Operation:
        return self._arm.start_set_parameter(name, value, source=source)
