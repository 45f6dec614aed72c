"""The lab's admin role: what the administrator of an elastic cluster may do, and nothing that needs a superuser.

The same for every engine; to be run on the coordinator, in the cluster's database, as superuser.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from orchestrator.lab.engine import ADMIN_SETTINGS, LabSettings

# The group role of administrators on Azure.
GROUP = "azure_pg_admin"


def ensure_admin(conn: psycopg.Connection[Any], settings: LabSettings) -> None:
    admin = sql.Identifier(settings.admin_login)
    _ensure_roles(conn, settings)
    for statement in (
        sql.SQL("GRANT {}, pg_monitor TO {}").format(sql.Identifier(GROUP), admin),
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(settings.database), admin),
        sql.SQL("GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO {}").format(admin),
        *(
            sql.SQL("GRANT ALTER SYSTEM ON PARAMETER {} TO {}").format(sql.Identifier(*name.split(".")), admin)
            for name in ADMIN_SETTINGS
        ),
    ):
        conn.execute(statement)
    if conn.info.server_version >= 160000:
        # From 16 on CREATEROLE alone does not let a role act for the roles it made; on Azure the administrator can:
        # the microservices tutorial has it run CREATE USER x; CREATE SCHEMA AUTHORIZATION x.
        conn.execute(sql.SQL("ALTER ROLE {} SET createrole_self_grant = 'set, inherit'").format(admin))


def _ensure_roles(conn: psycopg.Connection[Any], settings: LabSettings) -> None:
    roles = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles")}
    if GROUP not in roles:
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(GROUP)))
    if settings.admin_login not in roles:
        # Only a verifier is sent: Citus forwards the statement to every node, and a server may log it.
        verifier = conn.pgconn.encrypt_password(
            settings.admin_password.encode(), settings.admin_login.encode(), b"scram-sha-256"
        )
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}").format(
                sql.Identifier(settings.admin_login), sql.Literal(verifier.decode())
            )
        )
