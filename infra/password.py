"""The administrator's password: a Pulumi secret, an environment variable, or a file that may be made here.

It leaves this module only as a secret output. It is never part of a message.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import pulumi

from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec

PASSWORD = "administratorPassword"  # noqa: S105  # the name of the key, not a password
_KEY = f"{NAMESPACE}:{PASSWORD}"
_CLASSES = ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]")


def administrator_password(
    spec: ClusterSpec, secret: str | None, environment: Mapping[str, str], root: Path
) -> pulumi.Output[str]:
    """Raises pulumi.RunError when it is nowhere, or when Azure would refuse it."""
    password = secret if secret is not None else _read(spec, environment, root)
    problem = weakness(password, spec.administrator_login)
    if problem is not None:
        raise pulumi.RunError(f"{_KEY}: {problem} Nothing was changed.")
    return pulumi.Output.secret(password)


def weakness(password: str, login: str) -> str | None:
    """Why Azure refuses this password, if it does ("Create an elastic cluster", Bicep quickstart)."""
    if not 8 <= len(password) <= 128:
        return "the password must have 8 to 128 characters; choose another."
    if sum(re.search(pattern, password) is not None for pattern in _CLASSES) < 3:
        return "the password needs three of: small letters, capital letters, digits, other characters; choose another."
    if login.lower() in password.lower():
        return "the password must not contain administratorLogin; choose another."
    return None


def _read(spec: ClusterSpec, environment: Mapping[str, str], root: Path) -> str:
    source = spec.administrator_password
    if source.file is not None:
        path = root / source.file
        if source.generate and not path.exists():
            return _generate(path, spec.administrator_login)
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise pulumi.RunError(f"{_KEY}: {source.file} cannot be read: {error}. Nothing was changed.") from None
    if source.env is None or not environment.get(source.env):
        raise pulumi.RunError(
            f"{_KEY}: the environment variable {source.env} is not set. Nothing was changed. Set it, or keep the "
            f"password in Pulumi: `pulumi config set --secret {_KEY}`."
        )
    return environment[source.env]


def _generate(path: Path, login: str) -> str:
    """32 random characters. A preview keeps nothing, so the `up` that follows makes its own."""
    while weakness(password := secrets.token_urlsafe(24), login) is not None:
        pass
    if pulumi.runtime.is_dry_run():
        return password
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise pulumi.RunError(f"{_KEY}: {path} cannot be made: {error.strerror}. Nothing was changed.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(password + "\n")
    return password
