"""Where the cluster answers, and connections to it: as the administrator or as any role, through any of its ports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.clients.citus_errors import translated
from orchestrator.core.errors import Refused
from orchestrator.core.limits import standard_ports
from orchestrator.core.spec import ClusterSpec

CONNECT_TIMEOUT = 10
DEFAULT_VARIABLE = "ORCHESTRATOR_ADMIN_PASSWORD"


class PasswordMissing(Refused):
    """The administrator's password is not where the stack file says that it is."""


@dataclass(frozen=True, slots=True)
class Login:
    """The coordinator's address and the administrator's login. The password never shows in a repr."""

    host: str
    port: int
    database: str
    user: str
    sslmode: str
    password: str = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"


def administrator(spec: ClusterSpec, root: Path, environment: Mapping[str, str] = os.environ) -> Login:
    """Raises PasswordMissing."""
    place = spec.endpoint
    return Login(
        host=place.host if place else f"{spec.name}.postgres.database.azure.com",
        port=place.ports.direct if place else standard_ports()["direct"],
        database=spec.database,
        user=spec.administrator_login,
        sslmode=place.sslmode if place else "require",
        password=_password(spec, root, environment),
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
            password=login.password if user is None else password,
            sslmode=login.sslmode,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="orchestrator",
            autocommit=True,
            # Migrations and catalog reads go through the coordinator with few repeats: nothing to gain from these.
            prepare_threshold=None,
        )


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
