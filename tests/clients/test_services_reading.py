"""Reading services in parts: whatever their size, together they say what one reading of all says."""

from __future__ import annotations

import pytest

from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.clients.services.services_reading import read_services, some_of_the_roles
from tests.fix_services import USERS, Stack

LOG = "CREATE TABLE log (id bigserial PRIMARY KEY, user_id bigint);"


@pytest.fixture
def services(stack: Stack) -> Stack:
    """Some with tables and grants, one that is row-sharded, one that others point to, and one that is not there."""
    stack.declare("reader")
    stack.declare("user", {"001.sql": USERS, "002.sql": LOG}, grants=[{"role": stack.name("reader")}])
    odd = f"it's, {{a}} \\ b {stack.suffix}"
    stack.declare("plain", {"001.sql": USERS}, full_name=odd, schema=stack.name("other"))
    columns = "(tenant_id bigint, id bigint, PRIMARY KEY (tenant_id, id))"
    stack.declare("rows", {"001.sql": f"CREATE TABLE a {columns};"}, sharding="row", distributionColumn="tenant_id")
    stack.apply()
    stack.declare("late", {"001.sql": USERS}, grants=[{"role": stack.name("user")}])
    stack.declare("last")
    return stack


@pytest.mark.parametrize("at_a_time", [1, 2, 4])
def test_parts_say_together_what_one_reading_says(services: Stack, at_a_time: int) -> None:
    with services.connect() as admin:
        (whole,) = read_services(admin, services.services)
        parts = list(read_services(admin, services.services, at_a_time))
    assert len(parts) == -(-len(services.services) // at_a_time)
    assert [part.first for part in parts] == list(range(0, len(services.services), at_a_time))
    assert [service for part in parts for service in part.services] == services.services
    for kind in ("roles", "schemas", "migrations"):
        together = {name: value for part in parts for name, value in getattr(part.state, kind).items()}
        assert together == getattr(whole.state, kind), kind
    assert {part.state.bookkeeping for part in parts} == {True}
    assert services.name("late") not in whole.state.schemas
    assert set(whole.state.schemas[services.name("user")].tables) == {"users", "log"}


def test_what_points_into_a_schema_is_read_with_the_schema(services: Stack) -> None:
    schema = services.name("elsewhere")
    with services.connect() as admin:
        try:
            admin.execute(f'CREATE SCHEMA "{schema}"')
            admin.execute(f'CREATE TABLE "{schema}".mine (id bigint PRIMARY KEY)')
            admin.execute(f'CREATE SCHEMA "{services.name("last")}"')
            admin.execute(f'CREATE TABLE "{services.name("last")}".t (id bigint REFERENCES "{schema}".mine)')
            from_there = services.declare("target", full_name=schema)
            found = [
                part.state.schemas[schema]
                for part in read_services(admin, services.services, 2)
                if from_there in part.services
            ]
            assert [state.referenced_from for state in found] == [(f"{services.name('last')}.t",)]
        finally:
            admin.execute(f'DROP SCHEMA IF EXISTS "{services.name("last")}", "{schema}" CASCADE')


def test_only_so_many_of_the_roles_that_are_there_log_in(services: Stack) -> None:
    names = [service.role_name for service in services.services]
    with services.connect() as admin:
        assert sorted(some_of_the_roles(admin, names, 100)) == [0, 1, 2, 3]
        assert len(some_of_the_roles(admin, names, 2)) == 2


def test_what_each_node_holds_can_be_read_without_its_shard_groups(services: Stack) -> None:
    with CitusClient(services.connect, "here") as citus:
        groups, loads = citus.observe(), citus.observe_loads()
    assert loads.shard_groups == ()
    assert len(groups.shard_groups) > 2
    assert loads.loads == groups.loads
    assert sum(load.shard_groups for load in loads.loads) == len(groups.shard_groups)
