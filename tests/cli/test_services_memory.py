"""Memory that `apply` takes for services: hardly any for each, whether it makes all of them or changes nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from orchestrator.cli.stack import stackfile
from orchestrator.cli.stack.declared import DeclaredServices
from orchestrator.clients.services.migrations import read_all_migrations
from orchestrator.clients.services.passwords import Passwords
from orchestrator.clients.services.services_bulk import batches, whole_service
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.observed.state import AppliedMigration, Role, Schema, ServicesState, Table
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.plan_services import Reading
from orchestrator.core.planning.steps_services import MakeServices

FEW = 500
MANY = 3 * FEW
AT_A_TIME = 250
# Bytes at the peak for each further service: its key, its name, where its migrations are, and that it is to be made.
MOST = 500

STACK = """
config:
  elastic-cluster:name: shop
  elastic-cluster:resourceGroup: shop
  elastic-cluster:location: northeurope
  elastic-cluster:services: [{{name: reader, password: {{env: PW}}}}]
  elastic-cluster:serviceTemplates:
    - keys: {{range: {{from: 1, to: {count}}}}}
      service: {{name: "tenant_{{key}}", migrations: [tenant], grants: [{{role: reader}}], password: {{env: PW}}}}
"""


class Client:
    """Reads as a cluster would that has all services, or only the one that the others grant to."""

    def __init__(self, state_of: Callable[[Sequence[ServiceSpec]], ServicesState]) -> None:
        self.state_of = state_of

    def read(self, services: Sequence[ServiceSpec]) -> Iterator[Reading]:
        for first in range(0, len(services), AT_A_TIME):
            some = services[first : first + AT_A_TIME]
            yield Reading(first, some, self.state_of(some))


def role(name: str) -> Role:
    return Role(name, True, -1, None, admin_is_member=True, logs_in=True)


def schema(name: str) -> Schema:
    rights = {"reader": frozenset({"SELECT"})}
    table = Table("items", name, "schema", grants=rights)
    return Schema(name, name, 7, {"items": table}, usage=frozenset(rights), default_grants=rights)


def nothing(services: Sequence[ServiceSpec]) -> ServicesState:
    return ServicesState({"reader": role("reader")}, {"reader": schema("reader")}, bookkeeping=True)


def everything(services: Sequence[ServiceSpec], sha256: str) -> ServicesState:
    return ServicesState(
        {service.role_name: role(service.role_name) for service in services} | {"reader": role("reader")},
        {service.schema_name: schema(service.schema_name) for service in services},
        {service.name: (AppliedMigration("001.sql", sha256),) for service in services if service.migrations},
        bookkeeping=True,
    )


def peak(folder: Path, count: int, *, there: bool) -> int:
    """Bytes at the peak of reading the stack file, planning, and going through all that is to be made."""
    (folder / "stacks" / "Pulumi.test.yaml").write_text(STACK.format(count=count), "utf-8")
    tracemalloc.start()
    try:
        file = stackfile.load(folder, "test")
        migrations = read_all_migrations(file.spec.services, file.path.parent)
        (text,) = migrations["tenant_1"]
        client = Client((lambda services: everything(services, text.sha256)) if there else nothing)
        passwords = Passwords(folder, "test", {"PW": "correct horse"})
        declared = DeclaredServices("test", file.spec.services, migrations, passwords, "admin", client)  # type: ignore[arg-type]
        steps, notices = declared.plan()
        assert notices == ()
        made = [step for step in steps if isinstance(step, MakeServices)]
        assert sum(go_through(step, text) for step in made) == (0 if there else count)
        assert not there or steps == ()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def go_through(step: MakeServices, migration: Migration) -> int:
    """As the client does that makes them."""
    return sum(map(len, batches(step.bundles, lambda bundle: whole_service(bundle, lambda _: migration) is not None)))


@pytest.mark.parametrize("there", [False, True], ids=["makes all", "changes nothing"])
def test_a_further_service_takes_hardly_any_memory(tmp_path: Path, there: bool) -> None:
    (tmp_path / "stacks" / "tenant").mkdir(parents=True)
    (tmp_path / "stacks" / "tenant" / "001.sql").write_text("CREATE TABLE items (id bigint PRIMARY KEY);", "utf-8")
    peak(tmp_path, 50, there=there)  # what is imported and cached once
    few, many = (peak(tmp_path, count, there=there) for count in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < MOST
