"""Many services at once: what collides is tried again from wherever it stands, anything else ends the run."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator.clients.bookkeeping import ensure_bookkeeping
from orchestrator.clients.services_bulk import BulkRun, make_service, whole_service
from orchestrator.core.errors import DatabaseError
from orchestrator.core.migrations import Migration
from orchestrator.core.services import Password
from orchestrator.core.steps import EnsureRole, EnsureSchema, RunMigration, SingleStep
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

    until_ended(BulkRun(Connections, make, [bundle("one")]))  # type: ignore[arg-type]
    assert len(tries) == 3

    def fail(_bundle: Any, _connection: Any) -> None:
        raise DatabaseError("make it", "no such column", sqlstate="42703")

    with pytest.raises(DatabaseError, match="no such column"):
        until_ended(BulkRun(Connections, fail, [bundle("one")]))  # type: ignore[arg-type]


def test_a_service_that_was_cut_off_between_its_parts_is_made_to_its_end(cluster: Cluster) -> None:
    """As after a collision in its migration: role and schema are there, and the same bundle comes again."""
    broken = Migration("001.sql", SHA, "001.sql", ("CREATE TABLE items (id bigserial PRIMARY KEY)", "SELECT 1 / 0"))
    whole = whole_service(bundle("bulked"), lambda _: True)
    assert whole is not None
    with cluster.connect() as admin:
        ensure_bookkeeping(admin)
        with pytest.raises(DatabaseError, match="division by zero"):
            make_service(admin, whole, cluster.admin_login, "correct horse", [broken])
        whole_text = Migration("001.sql", SHA, "001.sql", broken.statements[:1])
        for _ in range(2):
            make_service(admin, whole, cluster.admin_login, "correct horse", [whole_text])
        owner = "SELECT tableowner FROM pg_tables WHERE schemaname = 'bulked'"
        assert admin.execute(owner).fetchall() == [("bulked",)]
        ran = admin.execute("SELECT count(*) FROM orchestrator.migration WHERE service = 'bulked'").fetchone()
        assert ran == (1,)
        admin.execute("DELETE FROM orchestrator.migration WHERE service = 'bulked'")
        admin.execute("DROP SCHEMA bulked CASCADE")
        admin.execute("DROP ROLE bulked")
