"""Labs for tests: one cluster per engine found on this machine, started by the lab's own verbs and shared by the run.

A test that takes `cluster` runs once for every engine; an engine that is not here skips it with the reason.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from orchestrator.cli.app import main
from orchestrator.lab import manager
from orchestrator.lab.discover import ORDER, survey
from orchestrator.lab.engine import Availability, EngineName
from orchestrator.lab.home import LabHome

ROOT = Path(__file__).parent.parent
SERVER = {
    "subscription_id": "sub",
    "resource_group": "lab",
    "name": "lab-test",
    "database": "citus",
    "host": "127.0.0.1",
}


@cache
def engines() -> dict[str, Availability]:
    return {found.engine: found for found in survey()}


def available(request: pytest.FixtureRequest) -> EngineName:
    """The engine of this parameter; skips with the reason where it is not here."""
    engine: EngineName = request.param
    if not engines()[engine].available:
        pytest.skip(f"engine {engine}: {engines()[engine].reason}")
    return engine


def engine_of(request: pytest.FixtureRequest, among: Sequence[EngineName] = ORDER) -> EngineName:
    """That of this parameter, for end-to-end tests: only the best one that is here, or each with --everything."""
    engine = available(request)
    best = next(name for name in among if engines()[name].available)
    if engine != best and not request.config.getoption("--everything"):
        pytest.skip(f"engine {engine}: end-to-end tests ran on {best}; `make test-all` runs them on every engine")
    return engine


def pytest_report_header() -> list[str]:
    found = [f"{name} ({engine.version})" for name, engine in engines().items() if engine.available]
    missing = [f"{name} ({engine.reason})" for name, engine in engines().items() if not engine.available]
    return [
        f"lab engines found: {', '.join(found) or 'none'}",
        f"lab engines not found: {'; '.join(missing) or 'none'}",
    ]


@dataclass(frozen=True)
class Cluster:
    """A running lab with two nodes. `port` is the coordinator's, `balanced` spreads over the nodes."""

    engine: str
    home: LabHome
    host: str
    port: int
    balanced: int
    pooled: int | None
    arm: str
    database: str
    admin_login: str
    admin_password: str = field(repr=False)

    def dsn(self, role: str | None = None, password: str | None = None, dbname: str | None = None) -> str:
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=dbname or self.database,
            user=role or self.admin_login,
            password=self.admin_password if role is None else (password or ""),
            sslmode="disable",
        )

    def connect(self, role: str | None = None, password: str | None = None, port: int | None = None) -> Any:
        return psycopg.connect(self.dsn(role, password), port=port or self.port, autocommit=True)


def superuser(cluster: Cluster, port: int) -> psycopg.Connection[Any]:
    """A superuser's session on one node: for damage that nobody else can do."""
    return psycopg.connect(
        host=cluster.host, port=port, dbname=cluster.database, user="postgres", sslmode="disable",
        password=cluster.home.read().superuser_password, autocommit=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def lab_base() -> Iterator[Path]:
    """A folder that a server's unprivileged user can reach, also when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_cluster(home: LabHome, engine: EngineName, nodes: int) -> Iterator[Cluster]:
    """Started by the lab's own verbs, and gone afterwards."""
    running = manager.up(
        home, engine, nodes, database="citus", admin_login="clusteradmin", server=SERVER, progress=lambda _: None
    )
    try:
        record = home.read()
        yield Cluster(
            engine,
            home,
            "127.0.0.1",
            running.direct,
            running.balanced,
            running.pooled,
            running.arm,
            record.database,
            record.admin_login,
            record.admin_password,
        )
    finally:
        manager.down(home, delete=True, progress=lambda _: None)


@pytest.fixture(scope="session")
def clusters(lab_base: Path) -> Iterator[Callable[[EngineName], Cluster]]:
    """Started when it is first asked for. A fixture with parameters would start it anew for each file of tests."""
    with ExitStack() as stack:

        @cache
        def started(engine: EngineName) -> Cluster:
            return stack.enter_context(running_cluster(LabHome.of(ROOT, f"test-{engine}", lab_base), engine, 2))

        yield started


@pytest.fixture(scope="session", params=ORDER)
def cluster(request: pytest.FixtureRequest, clusters: Callable[[EngineName], Cluster]) -> Cluster:
    return clusters(available(request))


@dataclass(frozen=True)
class Project:
    """A project folder of its own, and the `orchestrator` command run in it as a user would."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=self.folder,
            env=self.environment | (env or {}),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def call(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The same in this process: quicker, for what needs no process of its own."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["orchestrator", *arguments])
            patch.setattr(sys, "stdin", io.StringIO())
            for name in [name for name in os.environ if name.startswith(("ORCHESTRATOR_", "PG"))]:
                patch.delenv(name)
            for name, value in (self.environment | (env or {})).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Takes Ctrl-C as in a terminal, also when the tests run in the background of a shell, which ignores it."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @property
    def stack(self) -> Path:
        return self.folder / "stacks" / "Pulumi.local.yaml"
