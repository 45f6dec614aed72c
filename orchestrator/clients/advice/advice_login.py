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


_FIXES = (
    (
        "authentication failed|no password supplied",
        f"Check that {DEFAULT_VARIABLE} (or PGPASSWORD, or libpq's password file) holds the password of this role.",
    ),
    ('(database|role) ".*" does not exist', "Check the database and the role."),
    ("no pg_hba.conf entry", "Allow this machine's address there (on Azure: the server's firewall)."),
    (
        "certificate",
        "Name the file of its authority in PGSSLROOTCERT; or say ?sslmode=require in the URL, and the password may go "
        "to whoever answers there.",
    ),
    ("does not support SSL", "Say ?sslmode=disable in the URL only where the way to the server is safe."),
)
_ELSE = "Check host and port, that the server runs, and that firewalls let this machine in."
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class UrlRefused(Refused):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"--url: {problem}. Nothing was read. {fix}")


class NotReadable(Refused):
    def __init__(self, endpoint: str, role: str, reason: str) -> None:
        fix = next((text for pattern, text in _FIXES if re.search(pattern, reason)), _ELSE)
        super().__init__(f"{endpoint} cannot be read as {role}: {reason.rstrip('.')}. {fix}")


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
    sslmode = str(parts.get("sslmode") or "")
    if sslmode and sslmode not in SSLMODES:
        raise UrlRefused(f"{sslmode!r} is no sslmode", f"It is one of {', '.join(SSLMODES)}.")
    near = host in LOOPBACK or host.startswith("/")
    found = environment.get(DEFAULT_VARIABLE) or str(parts.get("password") or "") or environment.get("PGPASSWORD", "")
    return Login(
        host,
        int(port),
        str(parts.get("dbname") or user),
        user,
        sslmode or ("prefer" if near else "verify-full"),
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
        text = _reason(str(error.__cause__ or error))
        if _NONE_LEFT.search(text):
            raise NoConnectionLeft(login.endpoint, login.user, text) from error
        raise NotReadable(login.endpoint, login.user, text) from error


def _reason(text: str) -> str:
    """The server's or the network's own words: libpq writes a line for every address that it tried, and hints below."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "failed: " in line), lines[0] if lines else "no reason was given")
    return last.rsplit("failed: ", 1)[-1].removeprefix("FATAL:").strip()
