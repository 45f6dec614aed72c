"""The services that a stack file declares, with all that it takes to read, check and plan them.

Apart from `session` because its libraries cost a noticeable part of the start of verbs that need no services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.cli.stack.stackfile import StackFile
from orchestrator.clients.cluster.connection import Login, connect
from orchestrator.clients.services.migrations import read_all_migrations
from orchestrator.clients.services.passwords import Passwords, password_problems
from orchestrator.clients.services.services import ServicesClient
from orchestrator.core.checks.drift import Drift, service_drift
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Problem, SpecError
from orchestrator.core.planning.checks_services import (
    Around,
    check_services,
    look_around,
    password_notice,
    service_notices,
)
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.plan_services import Reading, plan_readings
from orchestrator.core.planning.steps_services import ServiceStep


@dataclass(frozen=True)
class DeclaredServices:
    """The declaration, its migration files, and the client that makes it true."""

    stack: str
    specs: Sequence[ServiceSpec]
    migrations: Mapping[str, tuple[Migration, ...]]
    passwords: Passwords
    admin: str
    client: ServicesClient

    def plan(self) -> tuple[tuple[ServiceStep, ...], tuple[str, ...]]:
        """Steps and notices, from what the database has now. Raises SpecError with all that would be refused later."""
        seen = _Seen(look_around(self.specs, self.migrations))
        steps = plan_readings(self.specs, self.migrations, self._checked(seen))
        if seen.problems:
            raise SpecError(f"stack {self.stack}", seen.problems)
        if seen.unknown:
            seen.notices.append(password_notice(seen.unknown))
        return steps, tuple(seen.notices)

    def _checked(self, seen: _Seen) -> Iterator[Reading]:
        """Every reading on its way to the planner: it is looked at, and nothing else is kept of it."""
        for reading in self.client.read(self.specs):
            some, state = reading.services, reading.state
            known = self.passwords.read_all(some)
            seen.problems += check_services(some, self.migrations, state, self.admin, seen.around)
            seen.problems += password_problems(some, known, state)
            seen.notices += service_notices(some, self.migrations, state)
            roles = (service.role_name for service in some if service.password.generate)
            seen.unknown += [role for role in roles if known[role] is None and role in state.roles]
            yield reading

    def drift(self) -> tuple[Drift, ...]:
        readings = self.client.read(self.specs)
        return tuple(
            drift for reading in readings for drift in service_drift(reading.services, self.migrations, reading.state)
        )


@dataclass(slots=True)
class _Seen:
    """What is wrong and worth a word so far. `unknown`: roles that are there and whose password is not on this
    machine."""

    around: Around
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def declared_services(stack: ExitStack, root: Path, file: StackFile, login: Login) -> DeclaredServices:
    """Reads the migration files. Raises SpecError; the connection is opened when it is first needed."""
    migrations = read_all_migrations(file.spec.services, file.path.parent)
    passwords = Passwords(root, file.stack)
    client = stack.enter_context(ServicesClient(partial(connect, login), login.user, passwords, migrations))
    return DeclaredServices(file.stack, file.spec.services, migrations, passwords, login.user, client)
