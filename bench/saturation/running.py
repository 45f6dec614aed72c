"""Runs a load on a server of `disk.py`: by `orchestrator advise --benchmark` as a user would, and by pgbench."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from bench.saturation.disk import FAST, SlowServer, first
from bench.saturation.loads import ROLE, Load
from orchestrator.lab.postgres import HOST

DATABASE = "loaded"
_STANDBY = "standby.disk"
_ROOT = Path(__file__).parent.parent.parent


def advised(server: SlowServer, load: Load, seconds: float, most: int = 64) -> dict[str, Any]:
    """What the benchmark printed as JSON."""
    with _prepared(server, load) as role:
        script = server.folder / "script.sql"
        script.write_text(load.script, "utf-8")
        command = [
            sys.executable, "-m", "orchestrator", "advise", "--benchmark", "--script", str(script), "--yes", "--json",
            "--seconds", f"{seconds:g}", "--max-clients", str(most), *load.options,
        ]  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PG"))}
        environment = kept | {
            "ORCHESTRATOR_ADMIN_PASSWORD": server.password, "ORCHESTRATOR_URL": server.url(DATABASE, role),
            "PYTHONPATH": str(_ROOT),
        }  # fmt: skip
        said = _run(command, server.folder, environment)
    found: dict[str, Any] = json.loads(said)
    return found


def driven(server: SlowServer, load: Load, seconds: float) -> float:
    """Transactions a second by pgbench."""
    script = load.script if load.commits else f"BEGIN;\n{load.script}ROLLBACK;\n"
    with _prepared(server, load) as role:
        path = server.folder / "pgbench.sql"
        path.write_text(script, "utf-8")
        command = [
            str(server.server.binaries / "pgbench"), "-n", "-f", str(path), "-c", str(load.clients), "-j", "2",
            "-T", f"{seconds:.0f}", "-M", "prepared", "-h", HOST, "-p", str(server.server.port), "-U", role, DATABASE,
        ]  # fmt: skip
        said = _run(command, server.folder, os.environ | {"PGPASSWORD": server.password})
    found = re.search(r"tps = ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    started = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    first(started.pid)
    said, errors = started.communicate(timeout=240)
    assert started.returncode == 0, errors
    return said


@contextmanager
def _prepared(server: SlowServer, load: Load) -> Iterator[str]:
    """The server as the load needs it, its tables made; the role to connect as."""
    server.start(load.settings)
    with ExitStack() as stack:
        admin = stack.enter_context(server.fresh(DATABASE))
        for statement in load.setup:
            admin.execute(statement)
        if load.limit is not None:
            password = sql.Literal(server.password)
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(ROLE)))
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {}").format(
                    sql.Identifier(ROLE), password, sql.Literal(load.limit)
                )
            )
        admin.execute("CHECKPOINT")
        if load.standby is not None:
            stack.enter_context(_standby(server, load))
        if load.cores is not None:
            server.pin(set(sorted(os.sched_getaffinity(0))[: load.cores]))
        server.set_disk(load.disk)
        admin.close()
        yield ROLE if load.limit is not None else "postgres"
        server.set_disk(FAST)


@contextmanager
def _standby(server: SlowServer, load: Load) -> Iterator[None]:
    """A synchronous one that takes WAL and no more."""
    assert load.standby is not None
    server.set_disk(load.standby, _STANDBY)
    target = server.folder / "received"
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    receiver = subprocess.Popen(
        [
            *map(str, server.preloaded(_STANDBY)), str(server.server.binaries / "pg_receivewal"), "--synchronous",
            "--no-loop", "-D", str(target), "-h", HOST, "-p", str(server.server.port), "-U", "postgres",
        ],
        env=os.environ | {"PGPASSWORD": server.password, "PGAPPNAME": "standby"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    first(receiver.pid)
    try:
        with server.connect() as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            admin.execute("SELECT pg_reload_conf()")
            _until_synchronous(admin)
        yield
    finally:
        receiver.terminate()
        receiver.wait()
        with server.connect() as admin:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")


def _until_synchronous(admin: Any) -> None:
    deadline = time.monotonic() + 60
    while admin.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()[0] == 0:
        assert time.monotonic() < deadline, "the standby does not become a synchronous one"
        time.sleep(0.05)
