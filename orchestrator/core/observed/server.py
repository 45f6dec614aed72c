"""What Azure Resource Manager says about a cluster: the server, its operations, its parameters. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `Unknown`: ARM has forgotten the operation. Only the server itself then tells how it ended.
OperationStatus = Literal["InProgress", "Succeeded", "Failed", "Canceled", "Unknown"]


@dataclass(frozen=True, slots=True)
class ServerReading:
    """One GET of the server. `state` is Azure's word (Ready, Updating, ...); `location` like `northeurope`.

    `ha_state` is empty where Azure does not tell it, as it did not for a recorded elastic cluster.
    """

    name: str
    state: str
    nodes: int
    version: str
    sku: str
    tier: str
    location: str
    host: str
    admin_login: str
    database: str
    ha_mode: str
    storage_gb: int
    resource_id: str
    backup_days: int | None = None
    public_access: bool | None = None
    ha_state: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running operation that ARM accepted. `url` is signed by ARM: it is used as it came, never rebuilt."""

    url: str
    kind: str


@dataclass(frozen=True, slots=True)
class OperationReading:
    """One poll. `code` and `message` are ARM's own words when it failed; `retry_after` its wish in seconds, if any."""

    status: OperationStatus
    code: str = ""
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One server parameter. Values are text; `source` is `user-override` or `system-default`."""

    value: str
    default: str
    source: str
    read_only: bool
    dynamic: bool
    pending_restart: bool


@dataclass(frozen=True, slots=True)
class FirewallRuleReading:
    """Addresses that may reach the public endpoint, first and last included."""

    name: str
    start_ip: str
    end_ip: str
