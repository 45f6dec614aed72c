"""Runs PostgreSQL servers on this machine from their binaries. Knows nothing of Citus, roles or labs.

Servers listen on loopback TCP only and outlive the process that started them: everything needed to find and stop one
is in its data folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.core.errors import LabError
from orchestrator.lab.processes import (
    blocked_at,
    command_line,
    private_folder,
    require_reachable,
    run_as_server,
    write_private,
)

HOST = "127.0.0.1"
SETTINGS_FILE = "lab.conf"
# Below the range from which Linux, macOS and Windows take the ports of outgoing connections (32768 and up), so that
# nothing but another server can take a port between its choice and its use.
PORT_RANGE = range(20000, 32000)
# Seen in the log for the moment in which the children of a killed server are still ending.
_PREDECESSOR_ENDS = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


class PortTaken(LabError):
    """Another program listens on the port that a server of the lab was to use."""


def reachable_binaries(bin_dir: Path, cache: Path) -> Path:
    """`bin_dir`, or where the server's user cannot reach it (a home of root), a copy of its installation in `cache`."""
    bin_dir = bin_dir.resolve()
    if blocked_at(bin_dir) is None:
        return bin_dir
    sites = [parent for parent in bin_dir.parents if parent.name == "site-packages"]
    # A wheel keeps shared libraries beside its package, in `<package>.libs`, and finds them by relative path.
    site = sites[0] if sites else bin_dir.parent.parent
    package = bin_dir.relative_to(site).parts[0]
    copies = [name for name in (package, f"{package}.libs") if (site / name).is_dir()]
    target = cache / f"{package}-{(site / package).stat().st_mtime_ns:x}"
    if not target.is_dir():
        part = cache / f".{target.name}.{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in copies:
            shutil.copytree(site / name, part / name, symlinks=True)
        _open_to_all(part)
        with contextlib.suppress(OSError):  # another process was faster
            part.rename(target)
        shutil.rmtree(part, ignore_errors=True)
    copied = target / bin_dir.relative_to(site)
    require_reachable(copied)
    return copied


def _open_to_all(folder: Path) -> None:
    """Readable for everybody, whatever umask the files were installed with."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def becomes_free(port: int, seconds: float = 2) -> bool:
    """Free now or in a moment: a program that was killed holds its port a little longer."""
    deadline = time.monotonic() + seconds
    while not port_is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_ports(count: int, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """Distinct free loopback ports. Chosen at random, so that labs started at the same time do not meet."""
    found: list[int] = []
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if len(found) == count:
            return tuple(found)
        if port not in avoid and port_is_free(port):
            found.append(port)
    raise LabError(
        f"There are no {count} free TCP ports between {PORT_RANGE[0]} and {PORT_RANGE[-1]} on {HOST}. "
        "Stop labs that you no longer need."
    )


def free_port() -> int:
    return free_ports(1)[0]


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One server: its data folder (absolute), the folder of its binaries, its port."""

    data: Path
    binaries: Path
    port: int

    @property
    def initialised(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def initdb(self, superuser: str, password: str) -> None:
        """Make the data folder, whole or not at all; nothing to do when it is there."""
        if self.initialised:
            return
        part = self.data.with_name(f"{self.data.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        private_folder(part)
        secret = write_private(self.data.with_name(f"{self.data.name}.password"), password)
        try:
            done = run_as_server([
                self.binaries / "initdb", "-D", part, "-U", superuser, f"--pwfile={secret}", "--auth=scram-sha-256",
                "--encoding=UTF8", "--locale=C", "--lc-messages=C", "--no-sync",
            ])  # fmt: skip
        finally:
            secret.unlink(missing_ok=True)
        if done.returncode != 0:
            raise LabError(f"initdb could not make {self.data}: {done.stdout.strip()}")
        part.rename(self.data)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write the lab's settings; they take effect at the next start or reload."""
        fixed = {"listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": ""}
        lines = [f"{name} = {_quoted(value)}" for name, value in {**settings, **fixed}.items()]
        write_private(self.data / SETTINGS_FILE, "\n".join(lines) + "\n")
        main = self.data / "postgresql.conf"
        text = main.read_text("utf-8")
        include = f"include '{SETTINGS_FILE}'\n"
        if include not in text:
            write_private(main, f"{text}\n{include}")

    def write_hba(self, lines: Iterable[str]) -> None:
        write_private(self.data / "pg_hba.conf", "\n".join(lines) + "\n")

    def running(self) -> bool:
        return self._pid() is not None

    def running_port(self) -> int | None:
        """The port on which the server of this folder listens now, whatever `port` says."""
        text = self._pid_file(3) if self._pid() is not None else ""
        return int(text) if text.isdigit() else None

    def start(self, timeout: float = 60) -> None:
        """Returns when the server takes connections. Raises PortTaken, or LabError with the server's own log."""
        if self.running_port() not in (None, self.port):
            self.stop()
        deadline = time.monotonic() + timeout
        log = self._log
        if not log.exists():
            write_private(log, "")
        while not self._ready():
            seen = log.stat().st_size
            if self._pid() is None:
                options = ("-D", self.data, "-s", "-l", log, "-w", "-t", str(int(timeout)))
                run_as_server([self.binaries / "pg_ctl", "start", *options], timeout + 30)
            elif time.monotonic() < deadline:
                time.sleep(0.05)
            if self._pid() is None:
                self._explain(log.read_bytes()[seen:].decode(errors="replace"), deadline)
            elif time.monotonic() > deadline:
                raise LabError(f"The server in {self.data} does not get ready. Its log ends:\n{self.log_tail()}")

    def stop(self, timeout: float = 15) -> None:
        """Stop the server, whoever started it; sessions are ended. Nothing running is no error."""
        # SIGINT is a fast shutdown, SIGQUIT an immediate one (postgres(1)). SIGKILL is for a server that hangs.
        for number, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if self._signal(number):
                self._await_end(seconds)
        if self._pid() is not None:
            raise LabError(f"The server in {self.data} (process {self._pid()}) cannot be stopped.")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def log_tail(self, lines: int = 20) -> str:
        try:
            return "\n".join(self._log.read_text("utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    @property
    def _log(self) -> Path:
        return self.data / "server.log"

    def _signal(self, number: signal.Signals) -> bool:
        pid = self._pid()
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise LabError(
                f"The server in {self.data} (process {pid}) belongs to another user. Run the command as that user."
            ) from error
        return True

    def _pid_file(self, line: int) -> str:
        # Lines: pid, data folder, start time, port, socket folder, listen address, shared memory, status.
        try:
            return (self.data / "postmaster.pid").read_text("utf-8").split("\n")[line].strip()
        except (OSError, IndexError):
            return ""

    def _pid(self) -> int | None:
        """None also for a pid file whose process is gone or is another program by now."""
        text = self._pid_file(0)
        return int(text) if text.isdigit() and str(self.data) in command_line(int(text)) else None

    def _ready(self) -> bool:
        return self._pid() is not None and self._pid_file(7) == "ready"

    def _await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._pid() is not None and time.monotonic() < deadline:
            time.sleep(0.02)

    def _explain(self, log: str, deadline: float) -> None:
        """A start failed: return when it is worth another try, else raise the reason."""
        if any(sign in log for sign in _PREDECESSOR_ENDS) and time.monotonic() < deadline:
            time.sleep(0.1)
            return
        if "could not bind" in log and "Address already in use" in log:
            raise PortTaken(f"Port {self.port} on {HOST} is used by another program. Stop it, or start the lab again.")
        raise LabError(f"The server in {self.data} did not start. Its log ends:\n{log.strip() or self.log_tail()}")


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
