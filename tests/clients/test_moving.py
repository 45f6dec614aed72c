"""Moves of our own on every engine that is here: what they do, what stops them, and what they leave behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from orchestrator.clients.cluster.citus import CitusClient
from orchestrator.clients.moves.moving import MovingClient
from orchestrator.core.errors import ClusterUnreachable
from orchestrator.core.moves.moving import DirectMove, MoveResult, direct_moves
from orchestrator.core.observed.state import ShardGroup
from orchestrator.core.planning.steps import MoveShards, TransferMode, Verify
from orchestrator.driver import drive
from orchestrator.workflow.moving import move_shards
from tests.fix_lab import Cluster


@dataclass
class Movers:
    cluster: Cluster
    admin: psycopg.Connection[Any]
    citus: CitusClient
    mover: MovingClient

    def crowd(self, stem: str, count: int, tables: int = 1) -> None:
        """Distributed schemas that are all on the first node."""
        first = self.admin.execute("SELECT nodeid FROM pg_dist_node WHERE groupid = 0").fetchone()[0]  # type: ignore[index]
        for number in range(count):
            name = f"{stem}{number}"
            self.admin.execute(f"CREATE SCHEMA {name}")
            self.admin.execute(f"SELECT citus_schema_distribute('{name}')")
            for table in range(tables):
                self.admin.execute(f"CREATE TABLE {name}.t{table} (id bigint PRIMARY KEY, v text)")
            self.admin.execute(f"INSERT INTO {name}.t0 SELECT i, 'row' FROM generate_series(1, 50) i")
            if self.group(name).node_id != first:
                self.admin.execute(f"SELECT citus_schema_move('{name}', {first}, 'block_writes')")

    def session(self, through: str) -> Any:
        """A session of a client on the coordinator or on a worker."""
        port = self.cluster.port
        if through == "worker":
            port = self.admin.execute("SELECT nodeport FROM pg_dist_node WHERE groupid = 1").fetchone()[0]  # type: ignore[index]
        return self.cluster.connect(port=port)

    def group(self, schema: str) -> ShardGroup:
        return next(group for group in self.citus.observe().shard_groups if group.schema == schema)

    def move(self, schema: str, mode: TransferMode = "block_writes", max_pause: float | None = 5.0) -> DirectMove:
        group = self.group(schema)
        target = next(node.node_id for node in self.citus.read_nodes() if node.node_id != group.node_id)
        verify: Verify = "off" if self.cluster.engine == "embedded" else "quick"
        return DirectMove(0, group.shard_id, group.node_id, target, group.bytes, mode, schema, max_pause, verify, True)

    def rows(self, schema: str) -> int:
        return int(self.admin.execute(f"SELECT count(*) FROM {schema}.t0").fetchone()[0])  # type: ignore[index]

    def outcome(self) -> MoveResult:
        found: list[MoveResult] = []
        until(lambda: bool(found.extend(self.mover.ended()) or found))
        return found[0]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def movers(cluster: Cluster) -> Iterator[Movers]:
    with cluster.connect() as admin, CitusClient(cluster.connect, "the lab") as citus:
        mover = MovingClient(cluster.connect, citus)
        yield Movers(cluster, admin, citus, mover)
        mover.close()
        for (name,) in admin.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'mv%'").fetchall():
            admin.execute(f"DROP SCHEMA {name} CASCADE")
        until(lambda: citus.observe().leftovers == 0 or mover.clean_up() == 0)


def test_a_move_is_started_without_waiting_and_takes_all_tables_of_the_group(movers: Movers) -> None:
    movers.crowd("mv", 1, tables=3)
    move = movers.move("mv0")
    movers.mover.start(move)
    result = movers.outcome()
    assert (result.outcome, result.text) == ("done", "")
    assert movers.group("mv0").node_id == move.target
    assert movers.rows("mv0") == 50
    until(lambda: movers.mover.clean_up() == 0)


def test_an_old_copy_is_dropped_while_others_may_still_move(movers: Movers) -> None:
    """Nobody asks for the clean-up, and Citus' daemon comes by only every 15 seconds."""
    if movers.cluster.engine == "embedded":
        pytest.skip("engine embedded: there is one copy of everything")
    movers.crowd("mv", 1)
    until(lambda: movers.mover.clean_up() == 0)
    movers.mover.start(movers.move("mv0"))
    assert movers.outcome().outcome == "done"
    left = "SELECT count(*) FROM pg_dist_cleanup"
    until(lambda: not movers.mover.ended() and movers.admin.execute(left).fetchone() == (0,), seconds=5)
    assert movers.mover.under_way() == 0


def test_without_a_session_for_the_clean_up_moves_go_on(movers: Movers) -> None:
    sessions = [movers.cluster.connect()]

    def connect() -> psycopg.Connection[Any]:
        if sessions:
            return sessions.pop()
        raise ClusterUnreachable("the lab", "no connection slots are left", "")

    movers.crowd("mv", 2)
    limited = replace(movers, mover=MovingClient(connect, movers.citus))
    for name in ("mv0", "mv1"):
        limited.mover.start(movers.move(name))
        assert limited.outcome().outcome == "done"
    until(lambda: limited.mover.clean_up() == 0)
    limited.mover.close()


def test_a_move_that_was_made_already_is_done(movers: Movers) -> None:
    """So a move whose outcome got lost can simply be sent again."""
    movers.crowd("mv", 1)
    move = movers.move("mv0")
    for _ in range(2):
        movers.mover.start(move)
        result = movers.outcome()
        assert (result.outcome, result.text) == ("done", "")


@pytest.mark.parametrize("verify", ["quick", "full"])
@pytest.mark.parametrize("size", [None, 10_000, 2**30])
def test_a_move_that_was_made_already_compares_nothing(movers: Movers, verify: Verify, size: int | None) -> None:
    """Its old copy is gone, or behind what was written since."""
    if movers.cluster.engine == "embedded":
        pytest.skip("engine embedded: there is one copy of everything")
    movers.crowd("mv", 1)
    move = replace(movers.move("mv0"), verify=verify, bytes=size)
    movers.mover.start(move)
    assert movers.outcome().outcome == "done"
    movers.admin.execute("INSERT INTO mv0.t0 VALUES (1000, 'later')")
    movers.mover.start(move)
    assert movers.outcome().outcome == "done"
    until(lambda: movers.mover.clean_up() == 0)
    movers.mover.start(move)
    assert movers.outcome().outcome == "done"
    assert movers.rows("mv0") == 51


@pytest.mark.parametrize("through", ["coordinator", "worker"])
def test_a_row_that_is_only_locked_is_waited_for(movers: Movers, through: str) -> None:
    """SELECT ... FOR UPDATE, and the UPDATE that it was for: nobody else may change the row in between."""
    if movers.cluster.engine == "embedded":
        pytest.skip("engine embedded: a simulated move waits for nobody")
    movers.crowd("mv", 1)
    with movers.session(through) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT v FROM mv0.t0 WHERE id = 1 FOR UPDATE").fetchone() == ("row",)
        movers.mover.start(movers.move("mv0", max_pause=1.0))
        result = movers.outcome()
        assert result.outcome == "blocked", result.text
        reader.execute("UPDATE mv0.t0 SET v = v || ' first' WHERE id = 1")
        reader.execute("COMMIT")
    movers.mover.start(movers.move("mv0"))
    assert movers.outcome().outcome == "done"
    assert movers.admin.execute("SELECT v FROM mv0.t0 WHERE id = 1").fetchone() == ("row first",)


@pytest.mark.parametrize("through", ["coordinator", "worker"])
def test_a_transaction_in_the_way_stops_the_move_within_its_ceiling_and_is_named(movers: Movers, through: str) -> None:
    """Writers of the group wait no longer than that, whichever node the transaction came through."""
    if movers.cluster.engine == "embedded":
        pytest.skip("engine embedded: a simulated move waits for nobody")
    movers.crowd("mv", 1)
    with movers.session(through) as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO mv0.t0 VALUES (1000, 'open')")
        movers.mover.start(movers.move("mv0", max_pause=1.0))
        result = movers.outcome()
        assert result.outcome == "blocked"
        assert result.seconds < 1.5
        blocker = movers.mover.blocker(movers.group("mv0").shard_id)
        assert blocker.startswith("a transaction of clusteradmin on node ")
        assert "idle in transaction" in blocker
        writer.execute("COMMIT")
    movers.mover.start(movers.move("mv0"))
    assert movers.outcome().outcome == "done"
    assert movers.rows("mv0") == 51


def test_a_move_that_takes_too_long_gives_up_and_leaves_nothing(movers: Movers) -> None:
    movers.crowd("mv", 1)
    movers.admin.execute("INSERT INTO mv0.t0 SELECT i, repeat('x', 500) FROM generate_series(100, 60000) i")
    movers.mover.start(movers.move("mv0", max_pause=0.05))
    assert movers.outcome().outcome in {"slow", "blocked"}
    until(lambda: movers.mover.clean_up() == 0)
    assert movers.rows("mv0") == 59951


def test_moves_can_be_cancelled_and_leave_nothing(movers: Movers) -> None:
    movers.crowd("mv", 1)
    movers.admin.execute("INSERT INTO mv0.t0 SELECT i, repeat('x', 500) FROM generate_series(100, 200000) i")
    before = movers.group("mv0").node_id
    movers.mover.start(movers.move("mv0", "auto"))
    until(lambda: in_flight(movers) > 0)
    movers.mover.cancel()
    assert movers.outcome().outcome == "cancelled"
    assert movers.group("mv0").node_id == before
    until(lambda: movers.mover.clean_up() == 0)


def test_a_group_that_somebody_else_moves_is_busy(movers: Movers) -> None:
    if movers.cluster.engine == "embedded":
        pytest.skip("engine embedded: moves of one group wait for each other")
    movers.crowd("mv", 1)
    movers.admin.execute("INSERT INTO mv0.t0 SELECT i, repeat('x', 500) FROM generate_series(100, 200000) i")
    move = movers.move("mv0", "auto")
    other = MovingClient(movers.cluster.connect, movers.citus)
    other.start(move)
    until(lambda: in_flight(movers) > 0)
    movers.mover.start(move)
    assert movers.outcome().outcome == "busy"
    other.close()
    until(lambda: in_flight(movers) == 0)
    until(lambda: movers.mover.clean_up() == 0)


def test_a_broken_connection_is_told_and_the_next_move_gets_a_new_one(movers: Movers) -> None:
    movers.crowd("mv", 1)
    movers.admin.execute("INSERT INTO mv0.t0 SELECT i, repeat('x', 500) FROM generate_series(100, 200000) i")
    move = movers.move("mv0", "auto")
    movers.mover.start(move)
    until(lambda: in_flight(movers) > 0)
    movers.admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orchestrator move'"
    )
    assert movers.outcome().outcome == "lost"
    until(lambda: in_flight(movers) == 0)
    until(lambda: movers.mover.clean_up() == 0)
    movers.mover.start(movers.move("mv0", max_pause=60))
    assert movers.outcome().outcome == "done"


def in_flight(movers: Movers) -> int:
    with CitusClient(movers.cluster.connect, "the lab") as citus:
        return MovingClient(movers.cluster.connect, citus).under_way()


def test_the_plan_is_citus_own_with_one_move_for_each_group(movers: Movers) -> None:
    movers.crowd("mv", 4, tables=2)
    planned = movers.mover.plan("by_disk_size")
    assert len(planned) == 2
    assert {move.shard_id for move in planned} < {group.shard_id for group in movers.citus.observe().shard_groups}


def test_direct_moves_end_in_the_placement_that_citus_itself_reaches(movers: Movers) -> None:
    """The same cluster twice: once moved by Citus' own rebalance, once directly."""
    movers.crowd("mv", 9, tables=2)
    before = {group.shard_id: group.node_id for group in movers.citus.observe().shard_groups}
    movers.admin.execute("SELECT citus_rebalance_start(shard_transfer_mode := 'block_writes')")
    until(lambda: not (movers.citus.observe().job or pytest.fail("no job")).in_flight)
    by_citus = {group.shard_id: group.node_id for group in movers.citus.observe().shard_groups}
    assert by_citus != before
    until(lambda: movers.mover.clean_up() == 0)
    for group in movers.citus.observe().shard_groups:
        if group.node_id != before[group.shard_id]:
            values = (group.shard_id, group.node_id, before[group.shard_id])
            movers.admin.execute("SELECT citus_move_shard_placement(%s, %s::int, %s::int, 'block_writes')", values)
    until(lambda: movers.mover.clean_up() == 0)
    verify: Verify = "off" if movers.cluster.engine == "embedded" else "quick"
    step = MoveShards("by_disk_size", "auto", movers.mover.plan("by_disk_size"), 4, 4, 5.0, verify=verify)
    note = drive(move_shards(1, step, movers.mover, movers.citus), lambda _: None)
    assert note.startswith("4 direct moves, 4 of them with writes held for at most ")
    after = movers.citus.observe()
    assert {group.shard_id: group.node_id for group in after.shard_groups} == by_citus
    assert after.leftovers == 0
    assert all(movers.rows(f"mv{number}") == 50 for number in range(9))
    assert direct_moves((), (), "auto", 1.0) == ()
