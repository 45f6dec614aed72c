"""The steps that make services: roles, schemas, migrations, row-sharded tables, grants; alone or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.desired.services import Password
from orchestrator.core.size import count


@dataclass(frozen=True, slots=True)
class EnsureBookkeeping:
    """The regular schema `orchestrator`, where the cluster remembers which migrations ran."""

    @property
    def title(self) -> str:
        return "make the schema orchestrator, which records migrations"


@dataclass(frozen=True, slots=True)
class EnsureRole:
    """A LOGIN role with its password (sent as a SCRAM verifier), connection limit and search_path.

    `search_path` is the schema to put first, or None where role and schema have the same name and PostgreSQL's
    default `"$user", public` does it. `password` says where it comes from; no step holds a password. The admin becomes
    a member: without that it can neither make the schema nor rebalance it.
    """

    service: str
    role: str
    connection_limit: int
    search_path: str | None
    create: bool
    set_password: bool
    grant_to_admin: bool
    password: Password

    @property
    def title(self) -> str:
        if self.create:
            return f"create role {self.role}"
        return f"alter role {self.role}" + (" and set its password" if self.set_password else "")


@dataclass(frozen=True, slots=True)
class EnsureSchema:
    """`create` it, owned by the role, or `take_over` what the admin owns of it; `distribute` it where asked."""

    service: str
    schema: str
    role: str
    create: bool
    distribute: bool
    take_over: bool = False

    @property
    def title(self) -> str:
        verbs = (("create", self.create), ("hand over", self.take_over), ("distribute", self.distribute))
        title = f"{' and '.join(verb for verb, wanted in verbs if wanted)} schema {self.schema}"
        return f"{title}, which the admin owns, to {self.role}" if self.take_over else title


@dataclass(frozen=True, slots=True)
class RunMigration:
    """Run one file as the service's role and record it, both in one transaction."""

    service: str
    role: str
    schema: str
    name: str
    sha256: str

    @property
    def title(self) -> str:
        return f"run migration {self.name} as {self.role}"


@dataclass(frozen=True, slots=True)
class EnsureRowTables:
    """Distribute the schema's tables by `column`, and copy `reference_tables` to every node."""

    service: str
    schema: str
    column: str
    reference_tables: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"distribute the tables of {self.schema} by {self.column}"


@dataclass(frozen=True, slots=True)
class EnsureGrant:
    """Another role's rights on the schema's tables, later ones included."""

    service: str
    schema: str
    owner: str
    role: str
    privileges: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"grant {', '.join(self.privileges)} on {self.schema} to {self.role}"


SingleStep: TypeAlias = EnsureBookkeeping | EnsureRole | EnsureSchema | RunMigration | EnsureRowTables | EnsureGrant


@dataclass(frozen=True, slots=True)
class MakeServices:
    """The steps of many services that do not depend on each other: one bundle for each, several bundles at once.

    Bundles may be planned only when they are looked at, and the same every time: thousands take little memory then.

    After a run that was cut off, what a bundle has left undone is planned again like any other step.
    """

    bundles: Sequence[tuple[SingleStep, ...]]
    doing: str = "make"

    @property
    def title(self) -> str:
        return f"{self.doing} {count(len(self.bundles), 'service')}, several at once"


ServiceStep: TypeAlias = SingleStep | MakeServices
