"""Where the cluster answers, and connections to it: as the administrator or as any role, through any of its ports.

The administrator logs in with a password or with an Entra token. A token lasts about an hour and is only needed to
connect, so every connection asks for one that is still good. Unless the stack file says otherwise the server has to
prove its name with a certificate that the system trusts: a password must not go to whoever answers.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.clients.azure.entra import LOOPBACK, EntraPassword
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.desired.limits import standard_ports
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import Refused

CONNECT_TIMEOUT = 10
DEFAULT_VARIABLE = "ORCHESTRATOR_ADMIN_PASSWORD"
VERIFIED = frozenset({"verify-ca", "verify-full"})
# Debian, Fedora, openSUSE, Alpine and macOS, BSDs. The OpenSSL in psycopg's wheels looks elsewhere.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)


class PasswordMissing(Refused):
    """The administrator's password is not where the stack file says that it is."""


class UnencryptedToken(Refused):
    def __init__(self, host: str, sslmode: str) -> None:
        super().__init__(
            f"elastic-cluster:endpoint.sslmode is {sslmode}: an Entra token must not travel to {host} unencrypted. "
            "Nothing was sent. Set it to require or verify-full."
        )


@dataclass(frozen=True, slots=True)
class Login:
    """The coordinator's address and the administrator's login. `password` gives it anew for every connection."""

    host: str
    port: int
    database: str
    user: str
    sslmode: str
    password: Callable[[], str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"


def administrator(spec: ClusterSpec, root: Path, environment: Mapping[str, str] = os.environ) -> Login:
    """Raises PasswordMissing, and UnencryptedToken where an Entra token would travel in the clear."""
    place = spec.endpoint
    host = place.host if place else f"{spec.name}.postgres.database.azure.com"
    sslmode = place.sslmode if place else "verify-full"
    if spec.database_login.method == "entra":
        if sslmode in {"disable", "prefer"} and host not in LOOPBACK:
            raise UnencryptedToken(host, sslmode)
        password: Callable[[], str] = EntraPassword()
    else:
        known = _password(spec, root, environment)

        def password() -> str:
            return known

    return Login(
        host=host,
        port=place.ports.direct if place else standard_ports()["direct"],
        database=spec.database,
        user=spec.database_login.role or spec.administrator_login,
        sslmode=sslmode,
        password=password,
    )


def connect(login: Login, *, user: str | None = None, password: str | None = None) -> psycopg.Connection[Any]:
    """A connection to the coordinator in autocommit mode. Raises LoginRefused or ClusterUnreachable."""
    role = user or login.user
    with translated("connect", endpoint=login.endpoint, role=role):
        return psycopg.connect(
            host=login.host,
            port=login.port,
            dbname=login.database,
            user=role,
            password=login.password() if user is None else password,
            sslmode=login.sslmode,
            sslrootcert=trusted_certificates() if login.sslmode in VERIFIED else None,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="orchestrator",
            autocommit=True,
            # Migrations and catalog reads go through the coordinator with few repeats: nothing to gain from these.
            prepare_threshold=None,
        )


def trusted_certificates(environment: Mapping[str, str] = os.environ) -> str | None:
    """For libpq's sslrootcert: the system's certificates; None where PGSSLROOTCERT names others, which libpq reads.

    `system` is libpq's own word for them (PostgreSQL 16) and means the OpenSSL that libpq was built with.
    """
    if environment.get("PGSSLROOTCERT"):
        return None
    named = environment.get("SSL_CERT_FILE")
    candidates = [named] if named else [ssl.get_default_verify_paths().cafile, *BUNDLES]
    return next((path for path in candidates if path and Path(path).is_file()), "system")


def _password(spec: ClusterSpec, root: Path, environment: Mapping[str, str]) -> str:
    source = spec.administrator_password
    if source.file is not None:
        path = root / source.file
        try:
            return path.read_text("utf-8").strip()
        except OSError as error:
            raise PasswordMissing(
                f"The administrator's password cannot be read from {path}: {error.strerror}. "
                "The stack file names it in elastic-cluster:administratorPassword."
            ) from error
    name = source.env or DEFAULT_VARIABLE
    if not environment.get(name):
        because = " (only Pulumi can decrypt the secret in the stack file)" if source.secure else ""
        raise PasswordMissing(
            f"The environment variable {name} is not set: it must hold the password of "
            f"{spec.administrator_login}{because}."
        )
    return environment[name]
