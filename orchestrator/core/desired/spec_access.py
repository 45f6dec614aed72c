"""Desired state of how the orchestrator gets in: the password, the login, the endpoint. Part of `spec`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from orchestrator.core.desired.services import FilePath, Model, Name


class SecretSource(Model):
    """Where a password comes from: an environment variable or a file, or a Pulumi secret.

    Only Pulumi can decrypt `secure`; the orchestrator then takes ORCHESTRATOR_ADMIN_PASSWORD.
    With `generate`, `pulumi up` makes the file, with mode 0600, where it is missing.
    """

    secure: str | None = None
    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: FilePath | None = None
    generate: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        if self.generate and self.file is None:
            raise ValueError("generate needs the file that the password is kept in; add file")
        if sum(source is not None for source in (self.env, self.file, self.secure)) != 1:
            raise ValueError("name exactly one of env and file, or keep a Pulumi secret (secure)")
        return self


class DatabaseLogin(Model):
    """How the orchestrator itself logs in to the database: with the administrator's password or as an Entra principal.

    `role` is the principal's name as Azure made it a role: a user principal name, a group's or an application's name.
    """

    method: Literal["password", "entra"] = "password"
    role: Name | None = None

    @model_validator(mode="after")
    def _role_of_entra(self) -> DatabaseLogin:
        if self.method == "entra" and self.role is None:
            raise ValueError("role is missing: name the Entra administrator of the server that logs in")
        if self.method == "password" and self.role is not None:
            raise ValueError("role goes with method: entra; the password's role is administratorLogin")
        return self


class Ports(Model):
    """TCP ports of the cluster. A port that is absent is not offered."""

    direct: Annotated[int, Field(ge=1, le=65535)]
    pooled: Annotated[int, Field(ge=1, le=65535)] | None = None
    balanced: Annotated[int, Field(ge=1, le=65535)] | None = None
    balanced_pooled: Annotated[int, Field(ge=1, le=65535)] | None = None


class Endpoint(Model):
    """Where the cluster answers, when that is not Azure's public endpoint: the lab, a tunnel, a private name."""

    host: Annotated[str, Field(min_length=1)]
    ports: Ports
    arm: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = None
    engine: Literal["docker", "native", "embedded"] | None = None
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="verify-full",
        description="verify-full: the server proves its name with a certificate the system trusts.",
    )
