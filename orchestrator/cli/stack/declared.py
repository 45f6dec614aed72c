"""The services that a stack file declares, with all that it takes to read, check and plan them.

Apart from `session` because its libraries cost a noticeable part of the start of verbs that need no services.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.cli.stack.stackfile import StackFile
from orchestrator.clients.cluster.connection import Login, connect
from orchestrator.clients.services.migrations import read_all_migrations
from orchestrator.clients.services.passwords import Passwords, password_problems
from orchestrator.clients.services.services import ServicesClient
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import SpecError
from orchestrator.core.observed.state import ServicesState
from orchestrator.core.planning.checks_services import check_services, service_notices
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.plan_services import plan_services
from orchestrator.core.planning.steps_services import ServiceStep


@dataclass(frozen=True)
class DeclaredServices:
    """The declaration, its migration files, and the client that makes it true."""

    stack: str
    specs: tuple[ServiceSpec, ...]
    migrations: Mapping[str, tuple[Migration, ...]]
    passwords: Passwords
    admin: str
    client: ServicesClient

    def observe(self) -> ServicesState:
        return self.client.observe(self.specs)

    def plan(self, state: ServicesState) -> tuple[tuple[ServiceStep, ...], tuple[str, ...]]:
        """Steps and notices. Raises SpecError with everything that would be refused later."""
        known = self.passwords.read_all(self.specs)
        problems = [
            *check_services(self.specs, self.migrations, state, self.admin),
            *password_problems(self.specs, known, state),
        ]
        if problems:
            raise SpecError(f"stack {self.stack}", problems)
        steps = plan_services(self.specs, self.migrations, state)
        unknown = [
            service.role_name
            for service in self.specs
            if service.password.generate and known[service.role_name] is None
        ]
        return steps, service_notices(self.specs, self.migrations, state, unknown)


def declared_services(stack: ExitStack, root: Path, file: StackFile, login: Login) -> DeclaredServices:
    """Reads the migration files. Raises SpecError; the connection is opened when it is first needed."""
    migrations = read_all_migrations(file.spec.services, file.path.parent)
    passwords = Passwords(root, file.stack)
    client = stack.enter_context(ServicesClient(partial(connect, login), login.user, passwords, migrations))
    return DeclaredServices(file.stack, file.spec.services, migrations, passwords, login.user, client)
