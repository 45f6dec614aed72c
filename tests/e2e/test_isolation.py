"""A tenant on a node of its own, by the command itself: moved, pinned, passed by every rebalance, and let go again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_moves import connect, crowd, leftovers, placement, until, wait_for
from tests.fix_lab import Project


def shards(project: Project, table: str) -> dict[str, int]:
    """Node of each shard of a row-sharded table, by its range."""
    with connect(project) as admin:
        found = admin.execute(
            "SELECT shardminvalue || ' ' || shardmaxvalue, nodeid FROM pg_dist_shard"
            " JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)"
            " WHERE logicalrelid = %s::regclass",
            (table,),
        ).fetchall()
    return dict(found)


def pins(project: Project) -> list[dict[str, Any]]:
    return list(json.loads(project.call("status", "--json").stdout)["pins"])


def test_a_schema_is_isolated_stays_through_rebalances_and_is_let_go(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 9)
    dry = project.call("isolate", "s4", "--to", "2", "--dry-run", "--json")
    assert [step["kind"] for step in json.loads(dry.stdout)["steps"]] == ["PinTenant", "MoveShards", "VerifyCluster"]
    assert (placement(project)["s4"], pins(project)) == (1, [])
    asked = project.call("isolate", "s4", "--to", "2")
    assert (asked.returncode, placement(project)["s4"]) == (2, 1)
    done = project.call("isolate", "s4", "--to", "2", "--yes", "--json", "--max-write-pause", "5000")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "done"
    assert [name for name, node in placement(project).items() if node != 1] == ["s4"]
    assert pins(project) == [{"tenant": "s4", "table": None, "node_id": 2, "alone": False, "on_node": 2}]
    assert "pinned: s4 to node 2" in project.call("tenants").stdout
    again = project.call("isolate", "s4", "--yes")
    assert "Nothing to do.\n  s4 is on node 2 and pinned there already." in again.stdout

    job = project.call("rebalance", "--yes", "--moves", "job")
    assert job.returncode == 2
    assert "s4 is pinned: Citus' own job does not know that" in job.stderr
    moved = project.call("rebalance", "--yes", "--strategy", "by_shard_count", "--max-write-pause", "5000")
    assert moved.returncode == 0, moved.stderr
    assert "because 1 tenant is pinned" in moved.stdout
    after = placement(project)
    assert (after["s4"], sorted(after.values())) == (2, [1, 1, 1, 2, 2, 3, 3, 4, 4])

    released = project.call("isolate", "s4", "--release", "--yes")
    assert released.returncode == 0, released.stderr
    assert (pins(project), placement(project)) == ([], after)
    nothing = project.call("isolate", "s4", "--release", "--yes")
    assert "s4 is not pinned, so there is nothing to let go." in nothing.stdout


@pytest.mark.slow
def test_a_tenant_alone_has_its_node_to_itself_and_keeps_it_through_a_scale_out(
    lab_project: tuple[Project, str],
) -> None:
    project, _ = lab_project
    crowd(project, 6)
    done = project.call("isolate", "s0", "--to", "1", "--alone", "--yes", "--max-write-pause", "5000")
    assert done.returncode == 0, done.stderr
    found = placement(project)
    assert [name for name, node in found.items() if node == 1] == ["s0"]
    assert sorted(found.values()) == [1, 2, 2, 3, 3, 4]
    grown = project.call(
        "scale-out", "--nodes", "6", "--yes", "--strategy", "by_shard_count", "--max-write-pause", "5000"
    )
    assert grown.returncode == 0, grown.stderr
    found = placement(project)
    assert (found["s0"], sorted(found.values())) == (1, [1, 2, 3, 4, 5, 6])
    assert leftovers(project) == 0
    second = project.call("isolate", "s1", "--to", "1", "--yes")
    assert second.returncode == 2
    assert "another tenant is alone on node 1" in second.stderr


@pytest.mark.slow
@pytest.mark.parametrize("at", ['"kind": "PinTenant"', "move_started"])
def test_killed_anywhere_the_same_command_ends_the_same(lab_project: tuple[Project, str], at: str) -> None:
    project, _ = lab_project
    crowd(project, 4, rows=20000)
    command = ("isolate", "s1", "--alone", "--yes", "--transfer-mode", "force_logical")
    running = project.start(*command, "--events", "--to", "3")
    wait_for(running, at)
    running.kill()
    running.communicate()
    until(lambda: project.call(*command, "--to", "3").returncode == 0)
    found = placement(project)
    assert [name for name, node in found.items() if node == 3] == ["s1"]
    assert pins(project)[0]["on_node"] == 3
    assert leftovers(project) == 0


def test_an_isolation_that_was_cut_off_is_finished_by_any_rebalance(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 4)
    done = project.call("isolate", "s1", "--to", "4", "--yes", "--max-write-pause", "5000")
    assert done.returncode == 0, done.stderr
    with connect(project) as admin:
        admin.execute("SELECT citus_schema_move('s1', 2, 'block_writes')")
    assert "pinned: s1 to node 4  (is on node 2 still" in project.call("status").stdout
    project.call("rebalance", "--yes", "--max-write-pause", "5000")
    assert placement(project)["s1"] == 4


@pytest.fixture
def real(lab_project: tuple[Project, str]) -> Project:
    project, engine = lab_project
    if engine == "embedded":
        pytest.skip("engine embedded: the stand-in splits no shards")
    with connect(project) as admin:
        admin.execute('CREATE SCHEMA "My App; %s"')
        for table in ("events", "orders"):
            admin.execute(
                f'CREATE TABLE "My App; %s".{table} ("tenant id" text, id int, v text, PRIMARY KEY ("tenant id", id))'
            )
        admin.execute("""SELECT create_distributed_table('"My App; %s".events', 'tenant id', shard_count => 4)""")
        admin.execute(
            """SELECT create_distributed_table('"My App; %s".orders', 'tenant id',
                                              colocate_with => '"My App; %s".events')"""
        )
        for table in ("events", "orders"):
            admin.execute(
                f"""INSERT INTO "My App; %s".{table}
                    SELECT 'it''s "' || i %% 10, i, 'x' FROM generate_series(1, 500) i""".replace("%%", "%")
            )
    return project


TABLE = '"My App; %s".events'
TENANT = "it's \"7"


def rows(project: Project, table: str) -> list[tuple[Any, ...]]:
    with connect(project) as admin:
        return admin.execute(f'SELECT "tenant id", id, v FROM "My App; %s".{table} ORDER BY 1, 2').fetchall()


def test_rows_of_a_tenant_get_a_shard_of_their_own_and_a_node(real: Project, tmp_path: Path) -> None:
    """With hostile names; the rows are the same, a rebalance leaves it, and doing it again does nothing."""
    before = rows(real, "events"), rows(real, "orders")
    assert len(shards(real, TABLE)) == 4
    done = real.call("isolate", TENANT, "--table", TABLE, "--alone", "--yes", "--json", "--to", "3")
    assert done.returncode == 0, done.stderr
    assert [step["title"] for step in json.loads(done.stdout)["steps"]] == [
        f"pin {TENANT} of {TABLE} to node 3, alone",
        f"give {TENANT} of {TABLE} a shard of its own, and in the tables that move along",
        f"move {TENANT} of {TABLE} to node 3, and everybody else away from there",
        "verify nodes, placement and settings",
    ]
    for table in (TABLE, '"My App; %s".orders'):
        found = shards(real, table)
        own = [span for span in found if span.split()[0] == span.split()[1]]
        assert [found[span] for span in own] == [3]
        assert list(found.values()).count(3) == 1
    assert (rows(real, "events"), rows(real, "orders")) == before
    again = real.call("isolate", TENANT, "--table", '"My App; %s".orders', "--alone", "--yes")
    assert "Nothing to do." in again.stdout, again.stderr
    rebalanced = real.call("rebalance", "--yes", "--strategy", "by_shard_count")
    assert rebalanced.returncode == 0, rebalanced.stderr
    assert list(shards(real, TABLE).values()).count(3) == 1
    assert real.call("isolate", TENANT, "--table", TABLE, "--release", "--yes").returncode == 0
    assert pins(real) == []
    assert leftovers(real) == 0


@pytest.mark.slow
def test_killed_while_a_shard_is_split_the_same_command_ends_the_same(real: Project) -> None:
    with connect(real) as admin:
        admin.execute(
            f"""INSERT INTO {TABLE} SELECT 'it''s "7', i, repeat('x', 500) FROM generate_series(1000, 60000) i"""
        )
    before = rows(real, "events"), rows(real, "orders")
    command = ("isolate", TENANT, "--table", TABLE, "--yes", "--to", "4")
    running = real.start(*command, "--events")
    wait_for(running, "Citus copies the shard")
    running.kill()
    running.communicate()
    done = real.call(*command)
    assert done.returncode == 0, done.stderr
    found = shards(real, TABLE)
    own = [span for span in found if span.split()[0] == span.split()[1]]
    assert [found[span] for span in own] == [4]
    assert (rows(real, "events"), rows(real, "orders")) == before
    assert leftovers(real) == 0


def test_tenants_are_counted_once_that_is_turned_on_and_named_as_isolate_takes_them(real: Project) -> None:
    """The server parameter is set as on Azure, through its control plane; a tenant's work is told with its node."""
    assert "citus.stat_tenants_track is none" in real.call("tenants").stdout
    refused = real.call("tenants", "--track", "all")
    assert (refused.returncode, "Nobody can be asked here" in refused.stderr) == (2, True)
    on = real.call("tenants", "--track", "all", "--yes")
    assert on.stdout.startswith("citus.stat_tenants_track = all."), on.stderr
    with connect(real) as client:
        for _ in range(3):
            client.execute(f"""SELECT count(*) FROM {TABLE} WHERE "tenant id" = 'it''s "7'""".replace("%", "%%"), ())
    found = json.loads(real.call("tenants", "--json").stdout)
    (tenant,) = [item for item in found["tenants"] if item["tenant"] == TENANT]
    assert (tenant["table"], tenant["queries"], tenant["own_shard"]) == (TABLE, 3, False)
    assert sum(node["queries"] for node in found["nodes"]) >= 3
    dry = real.call("isolate", tenant["tenant"], "--table", tenant["table"], "--dry-run")
    assert (dry.returncode, f"give {TENANT} of {TABLE} a shard of its own" in dry.stdout) == (0, True)
    assert real.call("tenants", "--track", "none", "--yes").returncode == 0


def test_what_cannot_be_isolated_is_refused_with_nothing_changed(lab_project: tuple[Project, str]) -> None:
    project, _ = lab_project
    crowd(project, 2)
    for arguments, says in {
        ("isolate", "s7", "--yes"): "There is no schema 's7' on this cluster.",
        ("isolate", "s1", "--to", "9", "--yes"): "there is no node 9; there are 1, 2, 3, 4. Nothing was changed.",
        ("isolate", "s1", "--table", "s1.t", "--yes"): "belongs to the distributed schema s1, which moves as a whole",
        ("isolate", "s1", "--release", "--alone"): "--release moves nothing: leave out --to and --alone.",
    }.items():
        refused = project.call(*arguments)
        assert refused.returncode == 2
        assert says in refused.stderr
    assert pins(project) == []
    assert set(placement(project).values()) == {1}
