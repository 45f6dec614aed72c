"""One run against one stack: the stack file, the connections it names, and the world that the workflow works on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestrator.cli.stackfile import StackFile
from orchestrator.clients.arm import ArmClient
from orchestrator.clients.citus import CitusClient
from orchestrator.clients.connection import Login, administrator, connect
from orchestrator.clients.migrations import read_all_migrations
from orchestrator.clients.operations import OperationJournal
from orchestrator.clients.passwords import Passwords, password_problems
from orchestrator.clients.services import ServicesClient
from orchestrator.core.checks_services import check_services, service_notices
from orchestrator.core.errors import Refused, SpecError
from orchestrator.core.migrations import Migration
from orchestrator.core.plan import Plan, Wanted, make_plan
from orchestrator.core.plan_services import plan_services
from orchestrator.core.spec import ClusterSpec
from orchestrator.core.state import ClusterState
from orchestrator.core.steps import ServiceStep
from orchestrator.workflow.apply import World, observe
from orchestrator.workflow.waiting import Run


class SubscriptionMissing(Refused):
    def __init__(self) -> None:
        super().__init__(
            "Neither elastic-cluster:subscriptionId in the stack file nor AZURE_SUBSCRIPTION_ID names the subscription."
        )


@dataclass
class Session:
    """Open connections to one stack's cluster. `replan` observes and plans anew with the same wishes."""

    file: StackFile
    root: Path
    login: Login
    citus: CitusClient
    world: World
    services: ServicesClient | None
    migrations: Mapping[str, tuple[Migration, ...]]

    def replan(self, wanted: Wanted) -> Run[tuple[Plan, ClusterState]]:
        spec, client = self.file.spec, self.services
        read = partial(client.observe, spec.services) if client is not None and wanted.services else None
        state = yield from observe(self.world, read)
        steps: tuple[ServiceStep, ...] = ()
        notices: tuple[str, ...] = ()
        if wanted.services:
            problems = [
                *check_services(spec.services, self.migrations, state.services, self.login.user),
                *password_problems(spec.services, Passwords(self.root, self.file.stack), state.services),
            ]
            if problems:
                raise SpecError(f"stack {self.file.stack}", problems)
            steps = plan_services(spec.services, self.migrations, state.services)
            notices = service_notices(spec.services, self.migrations, state.services)
        plan = make_plan(spec, state, wanted, steps)
        return replace(plan, notes=plan.notes + notices), state


@contextmanager
def open_session(root: Path, file: StackFile, *, services: bool, control: bool, lock: bool) -> Iterator[Session]:
    """Connect to what the run needs and nothing else. Raises Refused errors before anything has changed.

    `lock` keeps other runs off the cluster until this one has ended; reading verbs do without.
    """
    spec = file.spec
    folder = file.path.parent
    migrations = read_all_migrations(spec.services, folder) if services else {}
    login = administrator(spec, root)
    with ExitStack() as stack:
        arm = stack.enter_context(open_control(spec)) if control else None
        citus = stack.enter_context(CitusClient(partial(connect, login), login.endpoint))
        citus.open()
        if lock:
            citus.lock()
        client = None
        if services:
            passwords = Passwords(root, file.stack)
            client = stack.enter_context(ServicesClient(partial(connect, login), login.user, passwords, migrations))
        yield Session(
            file,
            root,
            login,
            citus,
            World(citus, arm, client, OperationJournal(lambda: citus.connection)),
            client,
            migrations,
        )


def open_control(spec: ClusterSpec) -> ArmClient:
    subscription = spec.subscription_id or os.environ.get("AZURE_SUBSCRIPTION_ID")
    if not subscription:
        raise SubscriptionMissing
    return ArmClient(subscription, spec.resource_group, spec.name, spec.endpoint.arm if spec.endpoint else None)
