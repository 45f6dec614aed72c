"""Both copies of a shard group are compared before its move commits: seeded differences are found, on real Citus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql

from orchestrator.clients.moves.copies import before, compared, comparison, difference, told
from orchestrator.core.events import TableCompared
from orchestrator.core.moves.moving import DirectMove
from orchestrator.lab import nodes
from orchestrator.lab.engine import Address
from tests.fix_lab import Cluster

ROWS = 3000
Mode = Literal["quick", "full"]


class Moved:
    """A schema that is moved in a transaction that has not ended, and both copies of its shards."""

    def __init__(self, cluster: Cluster, move: DirectMove) -> None:
        self.cluster = cluster
        self.admin = cluster.connect()
        self.admin.execute("CREATE SCHEMA IF NOT EXISTS copied")
        self.admin.execute("SELECT citus_schema_distribute('copied')")
        self.admin.execute('CREATE TABLE copied."odd Name" (a int, b text, payload text, PRIMARY KEY (a, b))')
        self.admin.execute("CREATE TABLE copied.keyless (note jsonb, amount numeric, at timestamptz)")
        self.admin.execute("CREATE TABLE copied.empty (id uuid PRIMARY KEY)")
        rows = f"SELECT i, 'key ' || i, repeat(md5(i::text), 20) FROM generate_series(1, {ROWS}) i"
        self.admin.execute(f'INSERT INTO copied."odd Name" {rows}')
        self.admin.execute(
            """INSERT INTO copied.keyless SELECT '{"a": [1, null]}', i / 3.0, now() FROM generate_series(1, 50) i"""
        )
        self.move = self._begin(move)

    def _begin(self, wanted: DirectMove) -> DirectMove:
        shard, source = self.admin.execute(
            "SELECT min(shardid), min(nodeid) FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)"
            " JOIN pg_dist_node USING (groupid) WHERE logicalrelid::text LIKE 'copied.%%'"
        ).fetchone()
        (target,) = self.admin.execute("SELECT nodeid FROM pg_dist_node WHERE nodeid <> %s", [source]).fetchone()
        move = replace(wanted, shard_id=shard, source=source, target=target)
        self.admin.execute("BEGIN")
        self.admin.execute(before(move))
        self.admin.execute("SELECT citus_move_shard_placement(%s, %s, %s, 'block_writes')", [shard, source, target])
        return move

    def check(self, verify: Mode) -> tuple[TableCompared, ...]:
        """Raises where the copies differ; what was compared."""
        move = replace(self.move, verify=verify)
        found: tuple[TableCompared, ...] = ()
        self.admin.execute("SAVEPOINT looked")
        try:
            for statement in (comparison(move), told(move)):
                if statement is not None:
                    result = self.admin.execute(statement).pgresult
                    assert result is not None
                    found = found or compared(result)
        finally:
            self.admin.execute("ROLLBACK TO looked")
        return found

    def on_target(self, statement: str) -> None:
        """Change the copy that is about to become the data, behind Citus' back."""
        (port,) = self.admin.execute(
            "SELECT nodeport FROM pg_dist_node WHERE nodeid = %s", [self.move.target]
        ).fetchone()
        with nodes.connect(Address("127.0.0.1", port), self.cluster.home.settings()) as node:
            node.execute("SET citus.enable_manual_changes_to_shards TO on")
            names = self.admin.execute(
                "SELECT logicalrelid::text, shard_name(logicalrelid, shardid) FROM pg_dist_shard"
                " WHERE logicalrelid::text LIKE 'copied.%%'"
            ).fetchall()
            for table, shard in sorted(names, key=lambda pair: -len(pair[0])):
                statement = statement.replace(table, shard)
            node.execute(statement)  # type: ignore[call-overload]

    def close(self) -> None:
        self.admin.execute("ROLLBACK")
        self.admin.execute("CALL citus_cleanup_orphaned_resources()")
        self.admin.execute("DROP SCHEMA copied CASCADE")
        self.admin.close()


LARGE = DirectMove(0, 0, 0, 0, 2**30, "block_writes", "copied")
TINY = replace(LARGE, bytes=10_000, whole_group=True)


@pytest.fixture
def move(request: pytest.FixtureRequest) -> DirectMove:
    """A large group where the test does not say otherwise."""
    return getattr(request, "param", LARGE)


@pytest.fixture
def moved(cluster: Cluster, move: DirectMove) -> Iterator[Moved]:
    if cluster.engine == "embedded":
        pytest.skip("the stand-in has one copy of everything: placement is simulated")
    made = Moved(cluster, move)
    yield made
    made.close()


@pytest.mark.parametrize("move", [LARGE, TINY], indirect=True, ids=["large", "tiny"])
@pytest.mark.parametrize("verify", ["quick", "full"])
def test_equal_copies_pass_and_their_rows_are_told(moved: Moved, verify: Mode) -> None:
    found = {table.table: table for table in moved.check(verify)}
    assert found.keys() == {'copied."odd Name"', "copied.keyless", "copied.empty"}
    odd, keyless, empty = found['copied."odd Name"'], found["copied.keyless"], found["copied.empty"]
    assert empty.rows == 0
    if moved.move.whole_group or verify == "full":
        assert (odd.rows, keyless.rows, empty.checksum) == (ROWS, 50, "0")
        (digest,) = moved.admin.execute('SELECT sum(hashtextextended(x::text, 0)) FROM copied."odd Name" x').fetchone()
        assert odd.checksum == str(digest)
    else:
        assert (keyless.rows, odd.checksum) == (None, None)
        assert odd.rows is not None
        assert 0 < odd.rows < 2 * ROWS


# One row that differs is found when every row is read.
ONE_ROW = (
    'DELETE FROM copied."odd Name" WHERE a = 1500',
    "UPDATE copied.\"odd Name\" SET payload = overlay(payload placing '!' from 300) WHERE a = 1500",
    "INSERT INTO copied.\"odd Name\" VALUES (9999, 'nobody wrote this', '')",
    "INSERT INTO copied.keyless SELECT * FROM copied.keyless LIMIT 1",
    "UPDATE copied.keyless SET amount = amount + 0.01 WHERE ctid = '(0,1)'",
    "INSERT INTO copied.empty VALUES (gen_random_uuid())",
    "DROP TABLE copied.empty",
)
# What a broken copy looks like is found in a sample.
BROKEN = (
    'DELETE FROM copied."odd Name" WHERE a > 2900',
    'TRUNCATE copied."odd Name"',
    "UPDATE copied.\"odd Name\" SET payload = ''",
    'INSERT INTO copied."odd Name" SELECT a + 10000, b, payload FROM copied."odd Name" WHERE a < 200',
    'DROP TABLE copied."odd Name"',
)


@pytest.mark.parametrize(
    ("move", "verify", "damage"),
    [
        *(pytest.param(LARGE, "full", damage, id=f"large {damage}") for damage in ONE_ROW),
        *(pytest.param(LARGE, "quick", damage, id=f"large {damage}") for damage in BROKEN),
        *(pytest.param(TINY, "quick", damage, id=f"tiny {damage}") for damage in ONE_ROW + BROKEN),
    ],
    indirect=["move"],
)
def test_copies_that_differ_fail_the_move(moved: Moved, verify: Mode, damage: str) -> None:
    moved.check(verify)
    moved.on_target(damage)
    with pytest.raises(psycopg.Error) as caught:
        moved.check(verify)
    said = str(caught.value).splitlines()[0]
    assert difference(said) is not None or (moved.move.whole_group and "does not exist" in said)


def test_nothing_is_asked_where_nothing_is_wanted() -> None:
    move = DirectMove(0, 102008, 1, 2, 100, "block_writes", "x")
    assert comparison(replace(move, verify="off")) is None


def test_small_groups_are_read_whole_and_large_ones_by_a_sample() -> None:
    move = DirectMove(0, 102008, 1, 2, 100, "block_writes", "x")

    def text(asked: DirectMove) -> Any:
        found = comparison(asked)
        assert isinstance(found, sql.Composable)
        return found.as_string()

    assert "TABLESAMPLE" not in text(move)
    assert "TABLESAMPLE" in text(replace(move, bytes=2**30))
    assert "TABLESAMPLE" not in text(replace(move, bytes=2**30, verify="full"))


def test_other_failures_are_not_taken_for_a_difference() -> None:
    assert difference("deadlock detected") is None
    assert difference('invalid input syntax for type integer: "the copies differ: t 1 of 2 rows"') == "t 1 of 2 rows"


def test_a_difference_is_told_in_words() -> None:
    said = 'invalid input syntax for type integer: "the copies differ: [["s.t", 3, "-7"]] and [["s.t", 2, "5"]]"'
    assert difference(said) == "s.t 3 rows with checksum -7 and s.t 2 rows with checksum 5"
