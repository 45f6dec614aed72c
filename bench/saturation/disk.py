"""One PostgreSQL server for loads that are to saturate one thing. Its disk is as slow as it is told to be.

`slow_disk.c`, preloaded by the server, lets flushes, reads and writes of pages wait for their turn: a disk with so many
operations a second, whatever the machine's own can do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.lab.postgres import HOST, PostgresServer, free_port
from orchestrator.lab.processes import command_line, private_folder, run_as_server, write_private

SOURCE = Path(__file__).parent / "slow_disk.c"
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements", "max_connections": "100", "shared_buffers": "64MB",
    "max_wal_size": "4GB", "wal_init_zero": "off", "full_page_writes": "off", "autovacuum": "off", "jit": "off",
    "lc_messages": "C",
}  # fmt: skip


@dataclass(frozen=True)
class Disk:
    """Seconds that a flush and each page of 8 kB take; 0 is as fast as the machine's memory."""

    flush: float = 0.0
    read: float = 0.0
    write: float = 0.0


FAST = Disk()


@dataclass(frozen=True)
class SlowServer:
    server: PostgresServer
    folder: Path
    library: Path
    password: str = field(repr=False)

    def set_disk(self, disk: Disk, name: str = "server.disk") -> Path:
        """Holds from the next operation on. Others that write WAL may read it too."""
        numbers = (int(1e6 * seconds) for seconds in (disk.flush, disk.read, disk.write))
        path = write_private(self.folder / name, " ".join(str(number) for number in numbers) + "\n")
        path.chmod(0o644)
        return path

    def preloaded(self, name: str = "server.disk") -> list[str | Path]:
        """What a command begins with to work on this disk."""
        return ["/usr/bin/env", f"LD_PRELOAD={self.library}", f"SLOW_DISK={self.folder / name}"]

    def start(self, settings: Mapping[str, str]) -> None:
        """Anew, with these settings beside SETTINGS."""
        self.server.stop()
        self.server.configure(SETTINGS | settings)
        self.set_disk(FAST)
        log = write_private(self.server.data / "server.log", "")
        options: list[str | Path] = ["-D", self.server.data, "-s", "-l", log, "-w"]
        done = run_as_server([*self.preloaded(), self.server.binaries / "pg_ctl", "start", *options])
        if done.returncode:
            raise RuntimeError(f"{done.stdout}\n{self.server.log_tail()}")
        first(self.postmaster)

    @property
    def postmaster(self) -> int:
        pid = int((self.server.data / "postmaster.pid").read_text("utf-8").split("\n")[0])
        assert str(self.server.data) in command_line(pid)
        return pid

    def pin(self, cores: set[int]) -> None:
        """The vCores that sessions that begin from now on may use."""
        os.sched_setaffinity(self.postmaster, cores)

    def connect(self, database: str = "postgres", role: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.server.port, dbname=database, user=role, password=self.password, sslmode="disable",
            autocommit=True,
        )  # fmt: skip

    def fresh(self, database: str) -> psycopg.Connection[Any]:
        with self.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.connect(database)

    def url(self, database: str, role: str) -> str:
        return f"postgresql://{role}@{HOST}:{self.server.port}/{database}"


def first(pid: int) -> None:
    """Before the machine's other programs, for it and what it starts from now on; where this user may do that."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -10)
        # Linux may weigh sessions of processes first; there the session is what counts.
        Path(f"/proc/{pid}/autogroup").write_text("-10", "utf-8")


@contextmanager
def slow_server(binaries: Path) -> Iterator[SlowServer]:
    """Not started yet; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-slow-", dir="/var/tmp"))
    folder.chmod(0o711)
    library = folder / "slow_disk.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed to slow the disk down"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    library.chmod(0o755)
    password = secrets.token_hex(12)
    private_folder(folder / "servers")
    server = PostgresServer(folder / "servers" / "data", binaries, free_port())
    made = SlowServer(server, folder, library, password)
    try:
        server.initdb("postgres", password)
        server.write_hba(["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"])
        yield made
    finally:
        made.server.stop()
        shutil.rmtree(folder, ignore_errors=True)
