"""The embedded engine, started once; each test gets a database of its own with the stand-in and two nodes in it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import Diagnostic

from orchestrator.lab.admin import ensure_admin
from orchestrator.lab.embedded import EmbeddedEngine, availability
from orchestrator.lab.engine import LabSettings
from orchestrator.lab.ticker import Ticker

COORDINATOR, WORKER = 7000, 7001
_numbers = itertools.count()


def quiet(text: str) -> None:
    """A lab's progress that nobody watches."""


def settings_in(folder: Path) -> LabSettings:
    return LabSettings("test", folder, "citus", "adm", "adm-password", "superuser-password")


@pytest.fixture(scope="session")
def lab_folder() -> Iterator[Path]:
    """A folder that the server's user can reach also when the tests run as root, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="standin-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_engine(lab_folder: Path) -> Iterator[EmbeddedEngine]:
    if not availability().available:
        pytest.skip(availability().reason)
    engine = EmbeddedEngine(settings_in(lab_folder / "shared"))
    engine.start(2, quiet)
    yield engine
    engine.stop()


@dataclass(frozen=True)
class Message:
    """A notice, warning or error: what psql would show of it."""

    severity: str
    sqlstate: str
    text: str
    detail: str = ""
    hint: str = ""

    @classmethod
    def of(cls, diag: Diagnostic) -> Message:
        return cls(
            str(diag.severity),
            str(diag.sqlstate),
            str(diag.message_primary),
            diag.message_detail or "",
            diag.message_hint or "",
        )


@dataclass
class Session:
    """One connection; what the server says beside its rows is kept."""

    conn: psycopg.Connection[tuple[Any, ...]]
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conn.add_notice_handler(lambda diag: self.messages.append(Message.of(diag)))

    def run(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        self.messages.clear()
        cursor = self.conn.execute(statement.encode(), args or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *args: object) -> Any:
        return self.run(statement, *args)[0][0]

    def refused(self, statement: str) -> Message:
        with pytest.raises(psycopg.Error) as caught:
            self.run(statement)
        return Message.of(caught.value.diag)


@dataclass
class Standin:
    """The stand-in in a database of its own."""

    engine: EmbeddedEngine
    database: str
    sessions: dict[tuple[str, int], Session] = field(default_factory=dict)

    def superuser_conninfo(self) -> Mapping[str, Any]:
        return {**self.engine.superuser_conninfo(), "dbname": self.database}

    def connect(self, role: str = "postgres", node: int = 0, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """The admin logs in, as it does in life; other roles need no password here."""
        info = {**self.superuser_conninfo(), "options": f"-c citus_lab.node_id={node}" if node else "", **options}
        if role == "adm":
            return psycopg.connect(**info | {"user": role, "password": "adm-password"}, autocommit=True)
        conn = psycopg.connect(**info, autocommit=True)
        conn.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
        return conn

    def session(self, role: str = "postgres", node: int = 0) -> Session:
        if (role, node) not in self.sessions:
            self.sessions[role, node] = Session(self.connect(role, node))
        return self.sessions[role, node]

    def run(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        return self.session().run(statement, *args)

    def value(self, statement: str, *args: object) -> Any:
        return self.session().value(statement, *args)

    def add_node(self, port: int) -> int:
        self.run("INSERT INTO citus_lab.host VALUES ('localhost', %s) ON CONFLICT DO NOTHING", port)
        node_id: int = self.value("SELECT citus_add_node('localhost', %s)", port)
        return node_id

    def make_schemas(self, *names: str, rows: int = 0) -> None:
        for name in names:
            self.run(f"CREATE SCHEMA {name}")
            self.run(f"SELECT citus_schema_distribute('{name}')")
            self.run(f"CREATE TABLE {name}.t (id bigint PRIMARY KEY, v text)")
            self.run(f"INSERT INTO {name}.t SELECT i, 'x' FROM generate_series(1, {rows}) i")

    def placement(self) -> dict[str, int]:
        """Schema name -> port of its node."""
        return dict(self.run("SELECT DISTINCT split_part(table_name::text, '.', 1), nodeport FROM citus_shards"))

    def await_job(self, state: str = "finished", seconds: float = 20) -> None:
        await_true(lambda: self.value("SELECT state FROM citus_rebalance_status()") == state, seconds)

    def close(self) -> None:
        for session in self.sessions.values():
            session.conn.close()
        self.sessions.clear()


def await_true(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def standin(embedded_engine: EmbeddedEngine) -> Iterator[Standin]:
    """Two nodes, localhost:7000 (the coordinator, node 1) and localhost:7001 (node 2), as in the recordings."""
    name = f"citus{next(_numbers)}"
    with psycopg.connect(**embedded_engine.superuser_conninfo() | {"dbname": "postgres"}, autocommit=True) as admin:
        known = {role for (role,) in admin.execute("SELECT rolname FROM pg_roles")}
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE citus").format(sql.Identifier(name)))
        standin = Standin(embedded_engine, name)
        with standin.connect() as conn:
            conn.execute("ALTER ROLE adm RESET ALL")  # roles and their settings outlive a test's database
            ensure_admin(conn, replace(settings_in(Path()), database=name))
        standin.run("UPDATE pg_dist_node SET nodeport = %s + groupid", COORDINATOR)
        standin.run("INSERT INTO citus_lab.host VALUES ('localhost', %s), ('localhost', %s)", COORDINATOR, WORKER)
        yield standin
        standin.close()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for (role,) in admin.execute("SELECT rolname FROM pg_roles").fetchall():
            if role not in known:
                admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def ticker(standin: Standin) -> Iterator[Ticker]:
    """Background jobs of the test's database go on, fast."""
    standin.run("UPDATE citus_lab.settings SET start_delay = '0', logical_fixed = '0.05 s', retry_delay_factor = 0.01")
    ticker = Ticker(standin, interval=0.02)
    ticker.start()
    yield ticker
    ticker.stop()
