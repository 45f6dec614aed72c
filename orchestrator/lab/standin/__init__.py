"""Installs the stand-in for Citus' management API into a plain PostgreSQL: the SQL files of this folder, in order.

README.md beside it says what it imitates and where it differs. Nothing here runs a server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

import psycopg

from orchestrator.core.errors import LabError


@cache
def install_script() -> bytes:
    files = sorted(
        (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return b"\n".join(file.read_bytes() for file in files)


def install(conn: psycopg.Connection[Any]) -> None:
    """Make the stand-in in this database, whole or not at all, unless it is there. `conn` is a superuser's."""
    digest = hashlib.sha256(install_script()).hexdigest()
    with conn.transaction():
        if conn.execute("SELECT to_regclass('citus_lab.installed') IS NOT NULL AS there").fetchone() == (True,):
            if conn.execute("SELECT digest FROM citus_lab.installed").fetchone() != (digest,):
                raise LabError(
                    "This lab was made by another version of the orchestrator, whose stand-in for Citus differs. "
                    "Remove it with `orchestrator lab down --delete` and start it again."
                )
            return
        conn.execute("SET LOCAL allow_system_table_mods = on")
        conn.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        conn.execute(install_script())
        conn.execute("INSERT INTO citus_lab.installed VALUES (%s)", [digest])
