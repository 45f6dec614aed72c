"""Where the database is that advice is asked for: a URL, and a password that is in no process's arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from orchestrator.clients.azure.entra import LOOPBACK
from orchestrator.clients.cluster.connection import DEFAULT_VARIABLE, Login, connect
from orchestrator.core.errors import ClusterUnreachable, LoginRefused, Refused

URL_VARIABLE = "ORCHESTRATOR_URL"
_KNOWN = frozenset({"host", "port", "dbname", "user", "password", "sslmode"})
# Beginnings of names that make no difference to what is read.
_HARMLESS = ("application_name", "fallback_", "connect_timeout", "client_encoding", "keepalives", "tcp_")
# PostgreSQL's texts for the limits of the server, the database and the role, and PgBouncer's; libpq has no SQLSTATE.
_NONE_LEFT = re.compile(
    r"too many (clients|connections)|remaining connection slots are reserved|no more connections allowed"
)


class UrlRefused(Refused):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"--url: {problem}. Nothing was read. {fix}")


class NotReadable(Refused):
    def __init__(self, endpoint: str, role: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} cannot be read as {role}: {reason.rstrip('.')}. Check the URL, and that {DEFAULT_VARIABLE} "
            "(or PGPASSWORD, or libpq's password file) holds the password. Where no authority that this machine trusts "
            "vouches for the server, say ?sslmode=require in the URL."
        )


class NoConnectionLeft(Refused):
    def __init__(self, endpoint: str, role: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} has no connection left for {role}: {reason.rstrip('.')}. End idle sessions, or raise the "
            "limit of the server, the database or the role."
        )


def login_of(url: str, from_environment: bool, environment: Mapping[str, str] = os.environ) -> Login:
    """Raises UrlRefused. A password in the URL is taken only from the environment."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise UrlRefused(str(error).strip().splitlines()[0], "Write postgresql://role@host:5432/database.") from None
    if parts.get("password") and not from_environment:
        raise UrlRefused(
            "it holds a password, which every user of this machine can see among the arguments of a process",
            f"Leave it out and set {DEFAULT_VARIABLE}, or set the whole URL in {URL_VARIABLE}.",
        )
    _only_known(parts)
    host, user = str(parts.get("host") or ""), str(parts.get("user") or environment.get("PGUSER") or "")
    if not host or not user:
        raise UrlRefused("it names no host or no role", "Write postgresql://role@host:5432/database.")
    port = str(parts.get("port") or 5432)
    if not port.isdigit() or "," in host:
        raise UrlRefused(f"it has to name one host and one port, not {host}:{port}", "Name the server to read.")
    near = host in LOOPBACK or host.startswith("/")
    found = environment.get(DEFAULT_VARIABLE) or str(parts.get("password") or "") or environment.get("PGPASSWORD", "")
    return Login(
        host,
        int(port),
        str(parts.get("dbname") or user),
        user,
        str(parts.get("sslmode") or ("prefer" if near else "verify-full")),
        lambda: found,
    )


def _only_known(parts: Mapping[str, Any]) -> None:
    """What would be ignored is refused: a certificate that is not looked at would be a surprise."""
    unknown = sorted(name for name in parts.keys() - _KNOWN if not name.startswith(_HARMLESS))
    if unknown:
        variables = ", ".join("PG" + name.upper().replace("_", "") for name in unknown)
        raise UrlRefused(
            f"it sets {', '.join(unknown)}, which is not taken from a URL here",
            f"Set libpq's environment variable instead: {variables}.",
        )


def open_login(login: Login) -> psycopg.Connection[Any]:
    """Raises NotReadable and NoConnectionLeft."""
    try:
        return connect(login)
    except (LoginRefused, ClusterUnreachable) as error:
        text = str(error.__cause__ or error).strip().splitlines()[-1].rsplit("failed: ", 1)[-1]
        if _NONE_LEFT.search(text):
            raise NoConnectionLeft(login.endpoint, login.user, text) from error
        raise NotReadable(login.endpoint, login.user, text) from error
