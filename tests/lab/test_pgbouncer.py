"""The pooled port: every role with its own password, many clients on few sessions, found again after a kill."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import Address, LabSettings
from orchestrator.lab.pgbouncer import PID_FILE, PgBouncer, _pid_in, find_pgbouncer
from orchestrator.lab.postgres import HOST, PostgresServer, free_port
from tests.fix_lab import Cluster
from tests.lab import citus_lab as lab
from tests.lab.test_postgres import binaries as binaries
from tests.lab.test_postgres import until_gone


@pytest.fixture(scope="module")
def program() -> Path:
    found = find_pgbouncer()
    if found is None:
        pytest.skip("no pgbouncer on PATH or in /usr/sbin (Debian's package `pgbouncer`)")
    return found


@pytest.fixture(scope="module")
def settings(lab_base: Path) -> LabSettings:
    return lab.new_settings(lab_base / "pooled")


@pytest.fixture(scope="module")
def target(binaries: Path, settings: LabSettings) -> Iterator[Address]:
    """A plain PostgreSQL server with the lab's database, an admin and a service."""
    server = PostgresServer(settings.directory / "node", binaries, free_port())
    server.initdb("postgres", settings.superuser_password)
    server.write_hba(["host all all 127.0.0.1/32 scram-sha-256"])
    server.configure({"fsync": "off"})
    server.start()
    with psycopg.connect(
        host=HOST, port=server.port, user="postgres", password=settings.superuser_password, autocommit=True
    ) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(settings.database)))
        for role, password in (
            (settings.admin_login, settings.admin_password),
            ("user_service", lab.SERVICE_PASSWORD),
        ):
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            conn.execute(create.format(sql.Identifier(role), sql.Literal(password)))
    yield Address(HOST, server.port)
    server.stop()


@pytest.fixture(scope="module")
def pooler(program: Path, target: Address, settings: LabSettings) -> Iterator[PgBouncer]:
    made = PgBouncer(settings.directory / "pooler", program, free_port(), target, settings)
    made.start()
    yield made
    made.stop()


def login(pooler: PgBouncer, settings: LabSettings, role: str, password: str) -> Any:
    return lab.session(Address(HOST, pooler._port), settings, role, password)


def test_every_role_logs_in_with_its_own_password(pooler: PgBouncer, settings: LabSettings) -> None:
    for role, password in ((settings.admin_login, settings.admin_password), ("user_service", lab.SERVICE_PASSWORD)):
        with login(pooler, settings, role, password) as conn:
            assert conn.execute("SELECT current_user").fetchone() == (role,)


@pytest.mark.parametrize("role", ["user_service", "postgres", "nobody_at_all", "lab_pooler"])
def test_nobody_logs_in_with_another_password(pooler: PgBouncer, settings: LabSettings, role: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"authentication failed|no such user"):
        login(pooler, settings, role, "guess")


def test_a_superuser_does_not_log_in_at_all(pooler: PgBouncer, settings: LabSettings) -> None:
    with pytest.raises(psycopg.OperationalError, match="no such user"):
        login(pooler, settings, "postgres", settings.superuser_password)


def test_a_new_password_counts_at_once(pooler: PgBouncer, settings: LabSettings, target: Address) -> None:
    def change(password: str) -> None:
        with lab.session(target, settings, "postgres", settings.superuser_password) as conn:
            conn.execute(sql.SQL("ALTER ROLE user_service PASSWORD {}").format(sql.Literal(password)))

    change("a new one")
    try:
        with login(pooler, settings, "user_service", "a new one") as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    finally:
        change(lab.SERVICE_PASSWORD)


def test_many_clients_share_few_sessions(pooler: PgBouncer, settings: LabSettings) -> None:
    """Transaction mode: idle clients hold no session of the server."""
    clients = [login(pooler, settings, "user_service", lab.SERVICE_PASSWORD) for _ in range(30)]
    backends = {client.execute("SELECT pg_backend_pid()").fetchone()[0] for client in clients}
    for client in clients:
        client.close()
    assert len(backends) < 5


def test_it_is_found_and_replaced_after_the_process_that_started_it_died(
    pooler: PgBouncer, program: Path, target: Address, settings: LabSettings
) -> None:
    again = PgBouncer(settings.directory / "pooler", program, pooler._port, target, settings)
    assert again.running()
    again.start()
    test_every_role_logs_in_with_its_own_password(again, settings)


def test_after_kill_9_it_starts_again(pooler: PgBouncer, settings: LabSettings) -> None:
    pid = _pid_in(pooler._directory)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    assert not pooler.running()
    pooler.start()
    test_every_role_logs_in_with_its_own_password(pooler, settings)


def test_a_pid_file_that_names_another_program_does_not_stop_it(pooler: PgBouncer, settings: LabSettings) -> None:
    pooler.stop()
    (pooler._directory / PID_FILE).write_text(f"{os.getpid()}\n")
    assert not pooler.running()
    pooler.start()
    test_every_role_logs_in_with_its_own_password(pooler, settings)


def test_its_files_are_private(pooler: PgBouncer) -> None:
    assert pooler._directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in (pooler._config, pooler._log, pooler._directory / "users.txt")} == {
        0
    }


def test_a_taken_port_is_named(program: Path, target: Address, settings: LabSettings) -> None:
    port = free_port()
    with socket.create_server((HOST, port)), pytest.raises(LabError, match=f"Port {port} "):
        PgBouncer(settings.directory / "other pooler", program, port, target, settings).start()


def test_a_service_logs_in_through_the_pooled_port_of_every_engine(program: Path, cluster: Cluster) -> None:
    assert cluster.pooled is not None
    with cluster.connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE pooled_service LOGIN PASSWORD {}").format(sql.Literal(lab.SERVICE_PASSWORD)))
    try:
        with cluster.connect("pooled_service", lab.SERVICE_PASSWORD, port=cluster.pooled) as conn:
            assert conn.execute("SELECT current_user").fetchone() == ("pooled_service",)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            cluster.connect("pooled_service", "guess", port=cluster.pooled)
    finally:
        with cluster.connect() as admin:
            admin.execute("DROP ROLE pooled_service")
