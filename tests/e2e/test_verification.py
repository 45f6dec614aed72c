"""Damage done while a rebalance runs: the run ends with 1, and names everything that is not as it was.

Copies that differ are found before their move commits: tests/clients/test_copies.py, tests/clients/test_job_copies.py.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.lab import nodes
from orchestrator.lab.engine import Address
from orchestrator.lab.home import HOME_VARIABLE, LabHome
from tests.e2e.test_moves import connect, crowd, leftovers, placement, until
from tests.fix_lab import Project

SLOWLY = ("--transfer-mode", "force_logical", "--parallel", "1", "--yes", "--events")
TENANTS = 8
Damage = Callable[[Project, str], None]


def on_shard(project: Project, schema: str, *statements: str) -> None:
    """As a superuser on the node that has it, behind Citus' back."""
    with connect(project) as admin:
        shard_id, port = admin.execute(
            "SELECT shardid, nodeport FROM citus_shards WHERE table_name = %s::regclass", (f"{schema}.t",)
        ).fetchone()  # type: ignore[misc]
    home = LabHome.of(project.folder, "local", Path(project.environment[HOME_VARIABLE]))
    with closing(nodes.connect(Address("127.0.0.1", port), home.settings())) as node:
        for setting in ("enable_ddl_propagation TO off", "override_table_visibility TO off"):
            node.execute(f"SET citus.{setting}")
        node.execute("SET citus.enable_manual_changes_to_shards TO on")
        for statement in statements:
            node.execute(statement.format(shard=f"{schema}.t_{shard_id}", index=f"{schema}.by_v_{shard_id}"))


def by_admin(statement: str) -> Damage:
    def damage(project: Project, schema: str) -> None:
        with connect(project) as admin:
            assert admin.execute(statement.format(schema=schema)).rowcount > 0

    return damage


def by_superuser(statement: str) -> Damage:
    return lambda project, schema: on_shard(project, schema, statement)


# What is done in one run, and what the command says of each; {schema} stays on its node in that run.
RUNS: tuple[tuple[tuple[Damage, str], ...], ...] = (
    (
        (by_admin("SELECT setval('numbered.t_id_seq', 3)"), "sequence numbered.t_id_seq on node 1"),
        (by_admin("DELETE FROM orchestrator_probe.written WHERE number = 1"), "acknowledged probe writes are gone"),
        (by_admin("UPDATE orchestrator_probe.written SET digest = '' WHERE number = 3"), ": number 1, 3"),
    ),
    (
        (by_superuser("DROP INDEX {index}"), "lacks what its table has: index btree v"),
        (by_superuser("REVOKE SELECT ON {shard} FROM PUBLIC"), "lacks what its table has: grant SELECT to PUBLIC"),
    ),
)


def staying(project: Project, running: Any) -> str:
    """A schema that does not move in this run, as soon as the first one does."""
    moving: set[int] = set()
    for line in running.stdout:
        event = json.loads(line)
        moving |= {move["shard_id"] for move in event["moves"]} if event["type"] == "plan" else set()
        if event["type"] == "move_started":
            break
    with connect(project) as admin:
        rows = admin.execute("SELECT table_name::text, shardid FROM citus_shards").fetchall()
    return next(str(name).split(".")[0] for name, shard in rows if shard not in moving and name.startswith("s"))


def has_written(project: Project) -> bool:
    """As many of its own rows as are damaged."""
    with connect(project) as admin:
        try:
            found = admin.execute("SELECT count(*) >= 3 FROM orchestrator_probe.written").fetchone()
        except psycopg.errors.UndefinedTable:
            return False
    return found == (True,)


def test_every_damage_done_while_shards_move_fails_the_run_by_name(lab_project: tuple[Project, str]) -> None:
    project, engine = lab_project
    if engine == "embedded":
        pytest.skip("engine embedded: placement is simulated, there are no shards to damage")
    crowd(project, TENANTS, rows=20000)
    with connect(project) as admin:
        admin.execute("CREATE SCHEMA numbered")
        admin.execute("SELECT citus_schema_distribute('numbered')")
        admin.execute("CREATE TABLE numbered.t (id bigserial PRIMARY KEY)")
        admin.execute("INSERT INTO numbered.t SELECT nextval('numbered.t_id_seq') FROM generate_series(1, 9)")
        for number in range(TENANTS):
            admin.execute(f"CREATE INDEX by_v ON s{number}.t (v)")
            admin.execute(f"GRANT SELECT ON s{number}.t TO PUBLIC")
    for back, damages in zip((("--moves", "direct"), ("--undo", "1")), RUNS, strict=True):
        running = project.start("rebalance", *back, *SLOWLY)
        schema = staying(project, running)
        until(lambda: has_written(project))
        # It neither ends nor goes on before all of it is done.
        running.send_signal(signal.SIGSTOP)
        for damage, _ in damages:
            damage(project, schema)
        running.send_signal(signal.SIGCONT)
        _, error = running.communicate(timeout=180)
        assert running.returncode == 1
        assert [said for _, said in damages if said not in error] == [], error
    assert leftovers(project) == 0


def test_without_damage_it_says_what_was_checked_and_after_a_kill_nothing_of_that_stays(
    lab_project: tuple[Project, str],
) -> None:
    project, engine = lab_project
    if engine == "embedded":
        pytest.skip("engine embedded: placement is simulated, so nothing is checked around moves")
    crowd(project, 5, rows=20000)
    running = project.start("rebalance", "--moves", "direct", *SLOWLY)
    staying(project, running)

    def probed() -> bool:
        with connect(project) as admin:
            found = admin.execute("SELECT to_regclass('orchestrator_probe.written') IS NOT NULL").fetchone()
        return found == (True,)

    until(probed)
    running.kill()
    running.communicate()
    done = project.call("rebalance", "--yes", "--json", "--max-write-pause", "10000")
    assert done.returncode == 0, done.stderr
    assert not probed()
    assert leftovers(project) == 0
    assert len(placement(project)) == 5
    back = project.call("rebalance", "--undo", "1", "--yes", "--json", "--max-write-pause", "10000", "--verify", "full")
    report = json.loads(back.stdout)
    assert [check["mode"] for check in report["verification"]] == [
        "probe writes",
        "copies of direct moves",
        "structure",
    ]
    for move in report["moves"]:
        (table,) = move["compared"]
        assert (table["table"], table["rows"]) == (f"{move['name']}.t", 20000)
        assert int(table["checksum"])
    off = project.call("rebalance", "--yes", "--json", "--verify", "off", "--max-write-pause", "10000")
    assert [check["mode"] for check in json.loads(off.stdout)["verification"]] == ["structure"]


@pytest.mark.slow
def test_what_citus_moves_in_its_own_job_is_compared_too(lab_project: tuple[Project, str]) -> None:
    project, engine = lab_project
    if engine == "embedded":
        pytest.skip("engine embedded: placement is simulated, there is one copy of everything")
    crowd(project, 5, rows=20000)
    done = project.call("rebalance", "--moves", "job", "--transfer-mode", "force_logical", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = {check["mode"]: check for check in report["verification"]}
    assert list(found) == ["probe writes", "copies of the job", "structure"]
    copies = found["copies of the job"]
    assert copies["problems"] == []
    assert 1 <= copies["schemas"] <= len(report["moves"])
    assert copies["rows"] >= 1000
    assert copies["note"].startswith(f"{copies['tables']} tables of {copies['schemas']} groups by a sample")
