"""The stack's configuration as a ClusterSpec: checked as a whole before any resource is declared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pydantic import ValidationError

from infra.password import PASSWORD, administrator_password
from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec
from orchestrator.core.desired.spec_azure import NOT_ON_CLUSTERS

_PREFIX = NAMESPACE + ":"


@dataclass(frozen=True)
class Settings:
    """What the program builds. The password is a secret output; None where the server takes no passwords."""

    spec: ClusterSpec
    password: pulumi.Output[str] | None


def refusal(problems: Iterable[str]) -> pulumi.RunError:
    return pulumi.RunError("Nothing was changed. The stack's configuration cannot be used:\n  " + "\n  ".join(problems))


def read(environment: Mapping[str, str] = os.environ, root: Path = Path()) -> Settings:
    """Raises pulumi.RunError with every key that is wrong, or when the password is nowhere."""
    config = pulumi.Config(NAMESPACE)
    raw = {key: config.get(key) for key in _configured_keys()}
    values = {key: _value(text) for key, text in raw.items() if text is not None}
    # `pulumi config set --secret` keeps the password itself under the key; the orchestrator sees `secure` there.
    kept = values.get(PASSWORD)
    secret = kept if isinstance(kept, str) else None
    if secret is not None:
        values[PASSWORD] = {"secure": "in Pulumi's configuration"}
    try:
        spec = ClusterSpec.model_validate(values)
    except ValidationError as error:
        raise refusal(_problem(item) for item in error.errors()) from None
    problems = list(_program_only(spec))
    if problems:
        raise refusal(problems)
    if not spec.authentication.password:
        return Settings(spec, None)
    return Settings(spec, administrator_password(spec, secret, environment, root))


def _configured_keys() -> list[str]:
    """Every key of ours that the stack has, unknown ones too: they are mistakes, not to be passed over."""
    configured = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    return sorted(key.removeprefix(_PREFIX) for key in configured if key.startswith(_PREFIX))


def _value(raw: str) -> Any:
    """Pulumi hands objects, numbers and booleans over as JSON text; anything else is text as it is."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        return raw
    return parsed if isinstance(parsed, dict | list | bool) else raw


def _problem(item: Any) -> str:
    """One mistake by its key. Values are left out: the password may be among them."""
    key = _PREFIX + ".".join(map(str, item["loc"])) if item["loc"] else NAMESPACE
    if item["type"] == "extra_forbidden":
        return f"{key}: {NOT_ON_CLUSTERS.get(str(item['loc'][-1]), 'there is no such key; remove it or correct it')}"
    if item["type"] == "missing":
        return f"{key}: this key is missing; add it"
    return f"{key}: {str(item['msg']).removeprefix('Value error, ')}"


def _program_only(spec: ClusterSpec) -> Iterable[str]:
    """What the orchestrator may do with a server that somebody else made, but this program would undo."""
    if spec.database_login.method == "entra" and spec.authentication.entra is None:
        yield (
            f"{_PREFIX}databaseLogin: {spec.database_login.role} could not log in, because the server would not take "
            "Entra logins; name it in authentication.entra"
        )
