"""One run against one stack: the stack file, the connections it names, and the world that the workflow works on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.stack.stackfile import StackFile
from orchestrator.cli.stack.templates import asks_cluster, expanded
from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.checks.structure import StructureClient
from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.clients.cluster.connection import Login, administrator, connect
from orchestrator.clients.cluster.isolation import TenantsClient
from orchestrator.clients.cluster.operations import OperationJournal
from orchestrator.clients.cluster.runs import RunRecord
from orchestrator.clients.moves.moving import MovingClient
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import Refused
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.isolation import isolation_plan, release_plan
from orchestrator.core.planning.plan import Plan, Wanted, make_plan
from orchestrator.core.planning.steps_services import ServiceStep
from orchestrator.driver import drive
from orchestrator.workflow.apply import World, observe
from orchestrator.workflow.moving import Oversight
from orchestrator.workflow.waiting import Run

if TYPE_CHECKING:
    from orchestrator.cli.stack.declared import DeclaredServices


class SubscriptionMissing(Refused):
    def __init__(self) -> None:
        super().__init__(
            "Neither elastic-cluster:subscriptionId in the stack file nor AZURE_SUBSCRIPTION_ID names the "
            "subscription: set one of them. `az account show --query id` prints it."
        )


@dataclass
class Session:
    """Open connections to one stack's cluster. `replan` observes and plans anew with the same wishes.

    `notes` go along with every plan that has something to do. Not frozen: the guard, the checks and Pulumi take their
    place in `world` once the session is open.
    """

    file: StackFile
    root: Path
    login: Login
    citus: CitusClient
    world: World
    services: DeclaredServices | None
    control: ArmClient | None
    notes: tuple[str, ...] = ()

    def observed(self) -> ClusterState:
        """One reading, for verbs that look before they do anything: nothing is told while it waits."""
        return drive(observe(self.world), lambda _: None)

    def replan(self, wanted: Wanted) -> Run[tuple[Plan, ClusterState]]:
        declared = self.services if wanted.services else None
        state = yield from observe(self.world, groups=wanted.moves_shards)
        steps: tuple[ServiceStep, ...] = ()
        notices: tuple[str, ...] = ()
        if declared is not None:
            steps, notices = declared.plan()
        if wanted.isolate is not None:
            plan = isolation_plan(state, wanted, wanted.isolate)
        elif wanted.release is not None:
            plan = release_plan(state, wanted.release)
        else:
            plan = make_plan(self.file.spec, state, wanted, steps)
        said = self.notes if plan.steps else ()
        return replace(plan, notes=plan.notes + notices + said), state


@contextmanager
def open_session(root: Path, file: StackFile, *, services: bool, control: bool, lock: bool) -> Iterator[Session]:
    """Connect to what the run needs and nothing else. Raises Refused errors before anything has changed.

    `lock` keeps other runs off the cluster until this one has ended; reading verbs do without.
    """
    spec = file.spec
    login = administrator(spec, root)
    with ExitStack() as stack:
        if services and asks_cluster(spec):
            file = _with_queried(file, login)
        declared = _declared(stack, root, file, login) if services else None
        arm = stack.enter_context(open_control(spec)) if control else None
        citus = stack.enter_context(CitusClient(partial(connect, login), login.endpoint))
        citus.open()
        if lock:
            citus.lock()
        journal = OperationJournal(lambda: citus.connection)
        mover = MovingClient(partial(connect, login), citus)
        stack.callback(mover.close)
        oversight = Oversight(RunRecord(lambda: citus.connection))
        inspector = StructureClient(lambda: citus.connection)
        service_client = declared.client if declared is not None else None
        tenants = TenantsClient(lambda: citus.connection, partial(connect, login))
        world = World(citus, arm, service_client, journal, mover, oversight, inspector, tenants)
        yield Session(file, root, login, citus, world, declared, arm)


def _with_queried(file: StackFile, login: Login) -> StackFile:
    from orchestrator.clients.services.services_reading import read_keys

    with connect(login) as connection:
        return expanded(file, lambda query: read_keys(connection, query))


def _declared(stack: ExitStack, root: Path, file: StackFile, login: Login) -> DeclaredServices:
    from orchestrator.cli.stack.declared import declared_services

    return declared_services(stack, root, file, login)


def open_control(spec: ClusterSpec) -> ArmClient:
    subscription = spec.subscription_id or os.environ.get("AZURE_SUBSCRIPTION_ID")
    if not subscription:
        raise SubscriptionMissing
    return ArmClient(subscription, spec.resource_group, spec.name, spec.endpoint.arm if spec.endpoint else None)
