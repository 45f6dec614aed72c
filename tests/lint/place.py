"""A real Citus and PgBouncer with the tables that the corpus is about; every experiment finds them as they were."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

CORPUS = Path(__file__).parent.parent / "data" / "lint-corpus"
PASSWORD = "lint-password"


@dataclass(frozen=True)
class Place:
    """Where to ask: ports on the loopback address, the administrator's login, and one node that is not the first."""

    direct: int
    pooled: int
    worker: int
    database: str
    admin: str
    password: str

    def connect(self, port: int, role: str | None = None) -> Any:
        password = self.password if role is None else PASSWORD
        return psycopg.connect(
            host="127.0.0.1", port=port, dbname=self.database, user=role or self.admin, password=password,
            sslmode="disable", autocommit=True, prepare_threshold=None,
        )  # fmt: skip


def corpus() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CORPUS / "corpus.json").read_text("utf-8"))
    return found


def prepare(place: Place) -> None:
    clean(place)
    with place.connect(place.direct) as admin:
        admin.execute(f"CREATE ROLE lint_probe LOGIN PASSWORD '{PASSWORD}'")
        admin.execute("CREATE ROLE lint_other")
        for grant in ("lint_probe TO CURRENT_USER", "lint_other TO CURRENT_USER", "lint_other TO lint_probe"):
            admin.execute(f"GRANT {grant}")
        for statement in (CORPUS / "prelude.sql").read_text("utf-8").split(";"):
            if statement.strip():
                admin.execute(statement)
        for schema in ("lr", "la", "lb"):
            admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO lint_probe")
            admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO lint_probe")


def clean(place: Place) -> None:
    """Also what a pool still has of the probe's sessions: they would outlive the role, and fail."""
    with place.connect(place.direct) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'lint_probe'")
        for schema in ("lx", "lr", "la", "lb", "lint_new", "lint_renamed"):
            admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        for role in ("lint_probe", "lint_other", "lint_new_role"):
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                with suppress(psycopg.errors.InsufficientPrivilege):
                    admin.execute(f"GRANT {role} TO CURRENT_USER")
                    admin.execute(f"DROP OWNED BY {role}")
                admin.execute(f"DROP ROLE {role}")


def fresh(place: Place) -> None:
    with place.connect(place.direct) as admin:
        admin.execute("DROP SCHEMA IF EXISTS lx CASCADE")
        admin.execute("CREATE SCHEMA lx")
        for schema in ("lint_new", "lint_renamed"):
            admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
