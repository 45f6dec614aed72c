"""Probe writes on real Citus: acknowledged while their shard moves, all found again, and nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from orchestrator.clients.checks import probe_writes
from orchestrator.clients.checks.probe_writes import SCHEMA, ProbeWrites, sweep
from tests.fix_lab import Cluster
from tests.fix_standin import await_true


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[Any]:
    if cluster.engine == "embedded":
        pytest.skip("engine embedded: nothing moves there, so no probe writes are made")
    with cluster.connect() as connection:
        yield connection
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


@pytest.fixture
def writes(cluster: Cluster, admin: Any) -> Iterator[ProbeWrites]:
    made = ProbeWrites(cluster.connect)
    made.begin()
    yield made
    made.close()


until = partial(await_true, seconds=60)


def everywhere(admin: Any, query: str) -> set[str]:
    return {
        result for _, success, result in admin.execute("SELECT * FROM run_command_on_all_nodes(%s)", [query]) if success
    }


def test_writes_while_their_shard_moves_are_found_through_every_node_and_leave_nothing(
    admin: Any, writes: ProbeWrites
) -> None:
    until(lambda: writes.moves >= 1 and len(writes.acknowledged) >= 12)
    found = writes.read_back()
    assert found.problems == ()
    assert (found.rows, writes.refused) == (len(writes.acknowledged), 0)
    assert "through 2 nodes" in found.note
    writes.close()
    assert everywhere(admin, f"SELECT count(*) FROM pg_namespace WHERE nspname = '{SCHEMA}'") == {"0"}
    assert admin.execute("SELECT count(*) FROM pg_dist_cleanup").fetchone() == (0,)


def test_its_shard_moves_logically_only_where_those_of_the_services_do(
    admin: Any, writes: ProbeWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_writes, "MOVE_EVERY", 0.1)

    def asked(mode: str) -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query ~ %s"
        return admin.execute(query, [f"^SELECT citus_schema_move.*{SCHEMA}.*'{mode}'"]).fetchone() != (0,)

    until(lambda: writes.moves == 1)
    writes.seen("block_writes")
    until(lambda: writes.moves == 2)
    assert asked("block_writes")
    assert not asked("auto")
    writes.seen("auto")
    until(lambda: asked("auto"))
    assert writes.read_back().problems == ()


@pytest.mark.parametrize(
    "damage", ["DELETE FROM {} WHERE number = 3", "UPDATE {} SET digest = 'x' || substr(digest, 2) WHERE number = 3"]
)
def test_a_write_that_is_lost_or_changed_is_named(admin: Any, writes: ProbeWrites, damage: str) -> None:
    until(lambda: len(writes.acknowledged) >= 6)
    admin.execute(damage.format(f"{SCHEMA}.written"))
    first, second = writes.read_back().problems
    assert "1 of " in first
    assert "acknowledged probe writes are gone, asked through node 1" in first
    assert first.endswith("number 3")
    assert "through node 2" in second


def test_what_a_killed_run_left_is_dropped_and_what_is_somebody_s_own_is_not(cluster: Cluster, admin: Any) -> None:
    admin.execute(f"CREATE SCHEMA {SCHEMA}")
    admin.execute(f"SELECT citus_schema_distribute('{SCHEMA}')")
    admin.execute(f"CREATE TABLE {SCHEMA}.written (number bigint PRIMARY KEY, digest text NOT NULL)")
    sweep(admin)
    assert everywhere(admin, f"SELECT count(*) FROM pg_namespace WHERE nspname = '{SCHEMA}'") == {"0"}
    admin.execute(f"CREATE SCHEMA {SCHEMA}")
    admin.execute(f"CREATE TABLE {SCHEMA}.precious (number bigint)")
    sweep(admin)
    refused = ProbeWrites(cluster.connect)
    refused.begin()
    until(lambda: not refused.running)
    found = refused.read_back()
    assert (found.rows, found.problems) == (0, ())
    assert "none were made: prepare the probe writes: schema" in found.note
    refused.close()
    assert admin.execute(f"SELECT count(*) FROM {SCHEMA}.precious").fetchone() == (0,)
