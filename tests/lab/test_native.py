"""The native engine: a real cluster that keeps its data through kills, taken ports and a resize that was cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import LabSettings
from orchestrator.lab.native import NativeEngine, availability
from tests.lab import citus_lab as lab
from tests.lab.test_postgres import until_gone

SERVICES = ("user_service", "time_service", "ping_service", "a_fourth")


@pytest.fixture(scope="module")
def settings(lab_base: Path) -> LabSettings:
    found = availability()
    if not found.available:
        pytest.skip(f"engine native: {found.reason}")
    return lab.new_settings(lab_base / "native lab")


@pytest.fixture(scope="module")
def engine(settings: LabSettings) -> Iterator[NativeEngine]:
    """Two nodes at first; tests may let it grow. The services' data must survive everything that the tests do."""
    made = NativeEngine(settings)
    made.start(2, lab.quiet)
    lab.make_services(made, settings, SERVICES)
    yield made
    made.delete()


def server_pids(engine: NativeEngine) -> list[int]:
    return [int(path.read_text().split()[0]) for path in engine._home.glob("node*/postmaster.pid")]


def assert_whole(engine: NativeEngine, settings: LabSettings, nodes: int) -> None:
    assert len(engine.addresses()) == nodes
    assert lab.ask(engine, settings, lab.USABLE) == nodes
    assert lab.ask(engine, settings, "SELECT bool_and(result) FROM citus_check_cluster_node_health()") is True
    assert [lab.rows_of(engine, settings, name, nodes - 1) for name in SERVICES] == [lab.ROWS] * len(SERVICES)


def test_every_node_holds_shards_and_answers_queries(engine: NativeEngine, settings: LabSettings) -> None:
    assert_whole(engine, settings, len(engine.addresses()))
    assert lab.ask(engine, settings, "SELECT citus_is_coordinator()") is True
    assert lab.ask(engine, settings, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


@pytest.mark.parametrize("node", [0, 1])
def test_a_wrong_password_is_refused(engine: NativeEngine, settings: LabSettings, node: int) -> None:
    address = engine.addresses()[node]
    for user, password in ((settings.admin_login, "guess"), ("postgres", "guess"), (SERVICES[0], "guess")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            lab.session(address, settings, user, password)


def test_tls_without_the_lab_s_certificate_does_not_get_in(engine: NativeEngine, settings: LabSettings) -> None:
    address = engine.addresses()[1]
    with pytest.raises(psycopg.OperationalError, match="valid client certificate"):
        psycopg.connect(
            host=address.host, port=address.port, dbname=settings.database, user="postgres", sslmode="require"
        )


def test_no_password_is_in_a_file_log_or_process(engine: NativeEngine, settings: LabSettings) -> None:
    secrets = (settings.admin_password.encode(), settings.superuser_password.encode(), lab.SERVICE_PASSWORD.encode())
    small = [path for path in engine._home.rglob("*") if path.is_file() and path.stat().st_size < 2_000_000]
    arguments = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    for path in (*small, *arguments):
        try:
            text = path.read_bytes()
        except OSError:
            continue  # a file or process that just ended
        # The services were made with a clear password, which servers keep in shared memory and WAL of their own only.
        assert not any(secret in text for secret in secrets), path


def test_parameters_hold_on_every_node_also_on_those_that_join_later(
    engine: NativeEngine, settings: LabSettings
) -> None:
    engine.set_parameter("citus.max_background_task_executors_per_node", "4")
    engine.set_parameter("citus.max_background_task_executors", "8")
    assert engine.parameters()["citus.max_background_task_executors"] == ("8", "1")
    engine.resize(3, lab.quiet)
    for node in range(3):
        assert lab.ask(engine, settings, "SHOW citus.max_background_task_executors", node) == "8"
    with pytest.raises(LabError, match=r"0 is outside the valid range .*\(1 \.\. 1000\)"):
        engine.set_parameter("citus.max_background_task_executors", "0")
    with pytest.raises(LabError, match='unrecognized configuration parameter "no_such"'):
        engine.set_parameter("no_such", "1")


def test_the_admin_rebalances_online_onto_a_node_that_joined(engine: NativeEngine, settings: LabSettings) -> None:
    """Not a superuser, and its moves log in to other nodes: the lab's certificate lets them."""
    engine.resize(3, lab.quiet)
    assert lab.shard_groups(engine, settings)[0] == 0
    moves = lab.rebalance(engine, settings)
    assert moves
    assert set(moves) == {("done", 0)}
    assert lab.shard_groups(engine, settings) == [1, 1, 2]
    assert_whole(engine, settings, 3)


def test_the_admin_has_its_rights_on_nodes_that_join_later(engine: NativeEngine, settings: LabSettings) -> None:
    engine.resize(3, lab.quiet)
    for node in range(3):
        assert lab.ask(engine, settings, "SELECT has_database_privilege(current_database(), 'CREATE')", node) is True


def test_after_kill_9_of_every_server_it_starts_with_its_data(engine: NativeEngine, settings: LabSettings) -> None:
    nodes, addresses = len(engine.addresses()), engine.addresses()
    pids = server_pids(engine)
    assert len(pids) == nodes
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        until_gone(pid)
    NativeEngine(settings).start(2, lab.quiet)
    assert engine.addresses() == addresses
    assert_whole(engine, settings, nodes)


def test_when_its_ports_were_taken_it_moves_to_others(engine: NativeEngine, settings: LabSettings) -> None:
    nodes, before = len(engine.addresses()), engine.addresses()
    engine.stop()
    strangers = [socket.create_server((address.host, address.port)) for address in before]
    try:
        engine.start(nodes, lab.quiet)
    finally:
        for stranger in strangers:
            stranger.close()
    assert not set(before) & set(engine.addresses())
    assert_whole(engine, settings, nodes)


RESIZE = """
import json, os, signal, sys
from pathlib import Path
from orchestrator.lab.engine import LabSettings
from orchestrator.lab.native import NativeEngine
given = json.loads(sys.stdin.read())
settings = LabSettings(**{**given["settings"], "directory": Path(given["settings"]["directory"])})
def progress(text):
    if given["until"] in text:
        os.kill(os.getpid(), signal.SIGKILL)
NativeEngine(settings).resize(given["nodes"], progress)
"""


def test_a_resize_that_is_killed_again_and_again_is_completed_by_the_next(
    engine: NativeEngine, settings: LabSettings
) -> None:
    target = len(engine.addresses()) + 2
    before = engine.addresses()
    given = {"settings": {**asdict(settings), "directory": str(settings.directory)}, "nodes": target}
    for until in ("has its data folder", "servers run", "joined the cluster"):
        killed = subprocess.run(
            [sys.executable, "-c", RESIZE], input=json.dumps({**given, "until": until}), text=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, f"was not under way at {until!r}"
        assert engine.addresses() == before  # nobody is sent to a node that has not joined
    (engine._home / f"node{target}.part").mkdir()
    engine.resize(target, lab.quiet)
    assert engine.addresses()[: len(before)] == before
    assert_whole(engine, settings, target)


def test_labs_side_by_side_do_not_meet(engine: NativeEngine, settings: LabSettings, lab_base: Path) -> None:
    others = lab.new_settings(lab_base / "another native lab")
    other = NativeEngine(others)
    try:
        other.start(2, lab.quiet)
        assert not set(other.addresses()) & set(engine.addresses())
        assert lab.ask(other, others, lab.USABLE) == 2
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            lab.session(other.addresses()[0], others, password=settings.admin_password)
        pids = server_pids(other)
        NativeEngine(others).delete()
        for pid in pids:
            until_gone(pid)
        assert not (others.directory / "native").exists()
    finally:
        other.delete()
    assert_whole(engine, settings, len(engine.addresses()))


def test_fewer_nodes_than_there_are_changes_nothing(engine: NativeEngine, settings: LabSettings) -> None:
    before = engine.addresses()
    engine.resize(2, lab.quiet)
    assert engine.addresses() == before


def test_a_machine_without_pg_config_is_told_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_CONFIG", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    found = availability()
    assert not found.available
    assert "no pg_config on PATH" in found.reason
    monkeypatch.setenv("PG_CONFIG", "/nowhere/pg_config")
    assert "/nowhere/pg_config (named by PG_CONFIG) cannot be asked" in availability().reason


def test_postgresql_without_citus_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "pg_config"
    fake.write_text(f"#!/bin/sh\necho 'PostgreSQL 17.2'\necho {tmp_path}/bin\necho {tmp_path}/share\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PG_CONFIG", str(fake))
    assert f"{tmp_path}/share/extension/citus.control does not exist" in availability().reason
    (tmp_path / "share" / "extension").mkdir(parents=True)
    (tmp_path / "share" / "extension" / "citus.control").write_text("default_version = '13.2-1'\n")
    assert f"no initdb in {tmp_path}/bin" in availability().reason
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "initdb").touch()
    assert availability().version == "PostgreSQL 17.2 + Citus 13.2-1"
