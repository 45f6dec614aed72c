"""What Azure Resource Manager says about a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerReading:
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
