"""The stack's configuration as a ClusterSpec: checked as a whole before any resource is declared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pydantic import ValidationError

from orchestrator.core.spec import NAMESPACE, ClusterSpec

PASSWORD = "administratorPassword"  # noqa: S105  # the name of the key, not a password


@dataclass(frozen=True)
class Settings:
    """What the program builds. The password is a secret output and never a plain string."""

    spec: ClusterSpec
    password: pulumi.Output[str]


def read(environment: Mapping[str, str] = os.environ, root: Path = Path()) -> Settings:
    """Raises pulumi.RunError with every key that is wrong, or when the password is nowhere."""
    config = pulumi.Config(NAMESPACE)
    values: dict[str, Any] = {}
    for name, field in ClusterSpec.model_fields.items():
        key = field.alias or name
        raw = config.get(key)
        if raw is not None:
            values[key] = _value(raw)
    # `pulumi config set --secret` keeps the password itself under the key; the orchestrator sees `secure` there.
    secret = config.get_secret(PASSWORD) if isinstance(values.get(PASSWORD), str) else None
    if secret is not None:
        values[PASSWORD] = {"secure": "in Pulumi's configuration"}
    try:
        spec = ClusterSpec.model_validate(values)
    except ValidationError as error:
        lines = [f"{NAMESPACE}:{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise pulumi.RunError("The stack's configuration cannot be used:\n  " + "\n  ".join(lines)) from None
    return Settings(spec, secret if secret is not None else _password(spec, environment, root))


def _value(raw: str) -> Any:
    """Pulumi hands objects, numbers and booleans over as JSON text; anything else is text as it is."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        return raw
    return parsed if isinstance(parsed, dict | list | bool) else raw


def _password(spec: ClusterSpec, environment: Mapping[str, str], root: Path) -> pulumi.Output[str]:
    source = spec.administrator_password
    if source.file is not None:
        try:
            return pulumi.Output.secret((root / source.file).read_text("utf-8").strip())
        except OSError as error:
            raise pulumi.RunError(f"{NAMESPACE}:{PASSWORD}: {source.file} cannot be read: {error.strerror}") from error
    if source.env is None or not environment.get(source.env):
        raise pulumi.RunError(
            f"{NAMESPACE}:{PASSWORD}: the environment variable {source.env} is not set. Set it, or keep the password "
            f"in Pulumi: `pulumi config set --secret {NAMESPACE}:{PASSWORD}`."
        )
    return pulumi.Output.secret(environment[source.env])
