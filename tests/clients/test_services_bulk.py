"""Many services at once: what collides is tried again from wherever it stands, anything else ends the run."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.clients.cluster.bookkeeping import ensure_bookkeeping
from orchestrator.clients.services.services_batch import WholeService, make_batch
from orchestrator.clients.services.services_bulk import BATCH, BulkRun, batches, whole_service
from orchestrator.core.desired.services import Password
from orchestrator.core.errors import DatabaseError
from orchestrator.core.planning.migrations import Migration
from orchestrator.core.planning.steps_services import EnsureRole, EnsureSchema, RunMigration, SingleStep
from tests.fix_lab import Cluster

SHA = "f" * 64


def bundle(name: str) -> tuple[SingleStep, ...]:
    return (
        EnsureRole(name, name, -1, None, True, True, True, Password(generate=True)),
        EnsureSchema(name, name, name, create=True, distribute=True),
        RunMigration(name, name, name, "001.sql", SHA),
    )


def until_ended(run: BulkRun) -> None:
    ended = threading.Event()
    try:
        while not run.ended():
            ended.wait(0.01)
    finally:
        run.stop()


class Connections:
    closed = False

    def close(self) -> None: ...


def test_a_collision_is_tried_again_and_another_failure_is_told() -> None:
    tries: list[str] = []

    def make(_bundle: Any, _connection: Any) -> None:
        tries.append("try")
        if len(tries) < 3:
            raise DatabaseError("make it", "could not serialize access", sqlstate="40001")

    until_ended(BulkRun(Connections, make, [(bundle("one"),)]))  # type: ignore[arg-type]
    assert len(tries) == 3

    def fail(_bundle: Any, _connection: Any) -> None:
        raise DatabaseError("make it", "no such column", sqlstate="42703")

    with pytest.raises(DatabaseError, match="no such column"):
        until_ended(BulkRun(Connections, fail, [(bundle("one"),)]))  # type: ignore[arg-type]


def test_what_has_no_room_together_is_made_one_by_one() -> None:
    made: list[int] = []

    def make(batch: Any, _connection: Any) -> None:
        if len(batch) > 1:
            raise DatabaseError("make them", "out of shared memory", sqlstate="53200")
        made.append(len(batch))

    until_ended(BulkRun(Connections, make, [(bundle("one"), bundle("two"))]))  # type: ignore[arg-type]
    assert made == [1, 1]


def test_a_batch_that_was_cut_off_between_its_parts_is_made_to_its_end(cluster: Cluster) -> None:
    """As after a collision in a migration: roles and schemas are there, and the same batch comes again."""
    table = "CREATE TABLE items (id bigserial PRIMARY KEY, name text)"
    broken = Migration("001.sql", SHA, "001.sql", (table, "SELECT 1 / 0"), plain=True)
    good = Migration("001.sql", SHA, "001.sql", (table, "INSERT INTO items (name) VALUES ('kept')"), plain=True)
    names = ["bulked_one", "Bulked Two"]
    with cluster.connect() as admin:
        ensure_bookkeeping(admin)
        try:
            with pytest.raises(DatabaseError, match="division by zero"):
                make_batch(admin, batch(names, broken), cluster.admin_login)
            for _ in range(2):
                make_batch(admin, batch(names, good), cluster.admin_login)
            owner = "SELECT schemaname, tableowner FROM pg_tables WHERE schemaname = ANY(%s) AND tablename = 'items'"
            assert set(admin.execute(owner, [names]).fetchall()) == {(name, name) for name in names}
            distributed = "SELECT count(*) FROM pg_dist_schema WHERE schemaid::regnamespace::text = ANY(%s)"
            assert admin.execute(distributed, [["bulked_one", '"Bulked Two"']]).fetchone() == (2,)
            ran = "SELECT count(*) FROM orchestrator.migration WHERE service = ANY(%s)"
            assert admin.execute(ran, [names]).fetchone() == (2,)
            with cluster.connect("Bulked Two", "correct horse") as tenant:
                tenant.execute("INSERT INTO items (name) VALUES ('new')")
                assert tenant.execute("SELECT id, name FROM items ORDER BY id").fetchall() == [(1, "kept"), (2, "new")]
            left = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'sequences_%'"
            assert admin.execute(left).fetchone() == (0,)
        finally:
            admin.execute("DELETE FROM orchestrator.migration WHERE service = ANY(%s)", [names])
            for name in names:
                admin.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
                admin.execute(f'DROP ROLE IF EXISTS "{name}"')


def batch(names: list[str], migration: Migration) -> list[WholeService]:
    found = [whole_service(bundle(name), lambda _: migration) for name in names]
    return [replace(service, password="correct horse") for service in found if service is not None]


def test_only_what_is_not_distributed_yet_is_made_in_batches() -> None:
    plain = Migration("001.sql", SHA, "001.sql", ("SELECT 1",), plain=True)
    whole = bundle("one")
    assert whole_service(whole, lambda _: plain) is not None
    assert whole_service(whole[1:], lambda _: plain) is not None, "its role may be there"
    assert whole_service(whole[2:], lambda _: plain) is None
    assert whole_service(whole, lambda _: replace(plain, plain=False)) is None
    made = batches([whole] * (BATCH + 1) + [whole[2:]] * 2, lambda found: found == whole)
    assert [len(together) for together in made] == [BATCH, 1, 1, 1]
