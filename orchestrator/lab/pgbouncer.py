"""The lab's pooled port: PgBouncer in transaction mode before the coordinator, as Azure's port 6432 is.

Every role that may log in does so with its own password: PgBouncer asks the cluster for the role's SCRAM verifier
(`auth_query`) as a role that can do nothing else. Superusers are left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path

import psycopg
from psycopg import sql

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import Address, LabSettings
from orchestrator.lab.nodes import connect
from orchestrator.lab.postgres import HOST, PortTaken, becomes_free
from orchestrator.lab.processes import command_line, private_folder, run_as_server, write_private

LOOKUP_ROLE = "lab_pooler"
_AUTH_QUERY = (
    "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1"
    " AND rolcanlogin AND NOT rolsuper AND coalesce(rolvaliduntil > now(), true)"
)
CONFIG = "pgbouncer.ini"
PID_FILE = "pgbouncer.pid"
_START_DEADLINE = 10.0


def find_pgbouncer() -> Path | None:
    """Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def pgbouncer_version(binary: Path) -> tuple[int, int]:
    found = re.search(r"PgBouncer (\d+)\.(\d+)", run_as_server([binary, "--version"], timeout=10).stdout)
    if found is None:
        raise LabError(f"{binary} does not tell its version; install Debian's package `pgbouncer` or remove it.")
    return int(found[1]), int(found[2])


def stop_in(directory: Path) -> None:
    """Stop the PgBouncer of a folder, whoever started it. Nothing running is no error."""
    directory = directory.resolve()
    pid = _pid_in(directory)
    binary = find_pgbouncer()
    if pid is not None:
        # Since 1.23 SIGTERM waits for every client to leave and SIGQUIT is the immediate shutdown.
        graceful = binary is not None and pgbouncer_version(binary) >= (1, 23)
        for number in (signal.SIGQUIT if graceful else signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + 5
            while _pid_in(directory) == pid and time.monotonic() < deadline:
                time.sleep(0.02)
    (directory / PID_FILE).unlink(missing_ok=True)


def _pid_in(directory: Path) -> int | None:
    """None also for a pid file whose process is gone or is another program by now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / PID_FILE).read_text("utf-8"))
        if str(directory / CONFIG) in command_line(pid):
            return pid
    return None


class PgBouncer:
    """One PgBouncer and its folder. It outlives the process that started it and is found again by its pid file."""

    def __init__(self, directory: Path, binary: Path, listen_port: int, target: Address, settings: LabSettings) -> None:
        self._directory = directory.resolve()
        self._binary = binary
        self._port = listen_port
        self._target = target
        self._settings = settings

    def start(self) -> None:
        """Returns when the port takes connections. One that already runs is replaced: its target may have moved."""
        self.stop()
        if not becomes_free(self._port):
            raise PortTaken(f"Port {self._port} on {HOST} is used by another program. Stop it first.")
        private_folder(self._directory)
        write_private(self._directory / "users.txt", f'"{LOOKUP_ROLE}" "{self._ensure_lookup_role()}"\n')
        write_private(self._config, self._config_text())
        write_private(self._log, "")
        done = run_as_server([self._binary, "-d", "-q", self._config], timeout=_START_DEADLINE)
        deadline = time.monotonic() + _START_DEADLINE
        while done.returncode == 0 and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), timeout=1):
                return
            time.sleep(0.02)
        self.stop()
        log = self._log.read_text("utf-8", errors="replace").strip()
        raise LabError(f"PgBouncer did not start: {log or done.stdout.strip() or 'it wrote no log'}")

    def running(self) -> bool:
        return _pid_in(self._directory) is not None

    def stop(self) -> None:
        stop_in(self._directory)

    @property
    def _config(self) -> Path:
        return self._directory / CONFIG

    @property
    def _log(self) -> Path:
        return self._directory / "pgbouncer.log"

    def _ensure_lookup_role(self) -> str:
        """Gives the role's new password. The role exists on this node only: it is not the cluster's business."""
        password, role = secrets.token_urlsafe(24), sql.Identifier(LOOKUP_ROLE)
        try:
            with connect(self._target, self._settings) as conn:
                conn.execute("SET citus.enable_ddl_propagation = off")
                exists = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [LOOKUP_ROLE]).fetchone()
                verb = sql.SQL("ALTER ROLE" if exists else "CREATE ROLE")
                verifier = conn.pgconn.encrypt_password(password.encode(), LOOKUP_ROLE.encode(), b"scram-sha-256")
                conn.execute(sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(verifier.decode())))
                columns = "rolname, rolpassword, rolcanlogin, rolsuper, rolvaliduntil"
                conn.execute(sql.SQL("GRANT SELECT ({}) ON pg_catalog.pg_authid TO {}").format(sql.SQL(columns), role))
        except psycopg.Error as error:
            raise LabError(f"The role by which PgBouncer looks up passwords could not be made: {error}") from error
        return password

    def _config_text(self) -> str:
        settings = {
            "listen_addr": HOST,
            "listen_port": self._port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self._directory / "users.txt",
            "auth_user": LOOKUP_ROLE,
            "auth_query": _AUTH_QUERY,
            "client_tls_sslmode": "disable",
            "server_tls_sslmode": "disable",  # over TLS the nodes admit only each other
            "pool_mode": "transaction",
            "default_pool_size": 50,
            "max_client_conn": 500,
            "ignore_startup_parameters": "extra_float_digits",
            "logfile": self._log,
            "pidfile": self._directory / PID_FILE,
        }
        if pgbouncer_version(self._binary) >= (1, 21):
            settings["max_prepared_statements"] = 200
        database = f"host={self._target.host} port={self._target.port} dbname={self._settings.database}"
        lines = ["[databases]", f"{self._settings.database} = {database}", "[pgbouncer]"]
        return "\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]) + "\n"
