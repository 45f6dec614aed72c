"""ARM's wire forms: requests, replies, the error envelope, api-versions. No state and no sockets here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PROVIDER = "Microsoft.DBforPostgreSQL"
SERVER_TYPE = f"{PROVIDER}/flexibleServers"

# Who asks with what: Pulumi's azure-native 3.29, azure-cli 2.85 and 2.87, azure-mgmt-postgresqlflexibleservers 3.0.
API_VERSIONS = ("2025-08-01", "2026-01-01-preview", "2026-04-01-preview", "2026-10-01")
API_VERSION_FORM = re.compile(r"^\d{4}-\d{2}-\d{2}(-preview)?$")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `base_url` is what the client dialled; `params` the path's variables once a route has matched."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Json
    base_url: str
    params: Mapping[str, str] = field(default_factory=dict)

    def with_params(self, params: Mapping[str, str]) -> Request:
        return replace(self, params=params)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; a body of None is sent empty."""

    status: int
    body: Json | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ArmFault(Exception):
    """An error that ARM answers at once, as `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.text, self.headers = status, code, message, dict(headers or {})
        super().__init__(f"{status} {code}: {message}")

    def reply(self) -> Reply:
        return Reply(self.status, {"error": {"code": self.code, "message": self.text}}, self.headers)


class OperationFault(Exception):
    """An error that ARM reports only when the operation is polled: the request itself was accepted with 202."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.text = code, message
        super().__init__(f"{code}: {message}")


def require_api_version(request: Request, *, of_provider: bool) -> None:
    """ARM checks the form of every api-version; only this provider's versions are a closed list here."""
    version = request.query.get("api-version", "")
    if not version:
        raise ArmFault(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if not API_VERSION_FORM.match(version):
        raise ArmFault(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are '{','.join(API_VERSIONS)}'.",
        )
    if of_provider and version not in API_VERSIONS:
        raise ArmFault(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider found for API version '{version}' for type 'flexibleServers'. "
            f"The supported api-versions are '{', '.join(API_VERSIONS)}'.",
        )


def merge(target: Json, patch: Mapping[str, Any]) -> Json:
    """JSON merge patch (RFC 7396): what is absent is kept, null removes, objects merge, everything else replaces."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            current = merged.get(key)
            merged[key] = merge(current if isinstance(current, dict) else {}, value)
        else:
            merged[key] = value
    return merged
