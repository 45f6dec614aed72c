"""Every number that decides, with where it comes from. `docs/advise.md` lists them; a test holds the two together."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.desired.limits import limit

DECISION = "Flexible Server vs Hyperscale (Citus) Architecture Decision"
OWN = "this project's own judgement"


@dataclass(frozen=True, slots=True)
class Threshold:
    """`value` is a share where `unit` is %, else in that unit."""

    name: str
    value: float
    unit: str
    meaning: str
    source: str


def _largest(name: str) -> tuple[float, str]:
    found = limit(name)
    return float(found.maximum or max(found.values)), f"{found.source} ({found.as_of})"


_STORAGE, _STORAGE_SOURCE = _largest("storage.size_gb")
_VCORES, _VCORES_SOURCE = _largest("compute.vcores")
_THROUGHPUT, _THROUGHPUT_SOURCE = _largest("storage.throughput_mb")
_CONNECTIONS = max(row[2] for row in limit("connections.by_vcores").values) - limit("connections.reserved").minimum

THRESHOLDS = {
    found.name: found
    for found in (
        Threshold(
            "storage",
            0.8 * _STORAGE,
            "GB",
            "80 % of the largest disk of one server: the rest is for WAL, temporary files and what comes",
            f"{_STORAGE_SOURCE}; the 80 % are {OWN}",
        ),
        Threshold(
            "connections",
            0.8 * _CONNECTIONS,
            "sessions",
            "80 % of the sessions that the largest server takes, counting those at work: a pooler holds the idle ones",
            f"{limit('connections.by_vcores').source} ({limit('connections.by_vcores').as_of}), less the reserved "
            f"ones; {DECISION}",
        ),
        Threshold(
            "cpu",
            0.8 * _VCORES,
            "vCores",
            "busy vCores at the peak, 80 % of those of the largest server: beyond that its processor saturates",
            f"{_VCORES_SOURCE}; {DECISION}; the 80 % are {OWN}",
        ),
        Threshold(
            "wal",
            0.4 * _THROUGHPUT,
            "MB/s",
            "40 % of the largest disk's throughput: what goes to the WAL is written to the tables a second time",
            f"{_THROUGHPUT_SOURCE}; {DECISION}; the 40 % are {OWN}",
        ),
        Threshold(
            "horizon",
            12,
            "months",
            "growth counts that far ahead: changing a schema afterwards is the dear part",
            f"{DECISION} (the choice after the schema is in production is expensive); the 12 months are {OWN}",
        ),
        Threshold(
            "covered",
            0.8,
            "%",
            "so much of the data must be in tables with the distribution column, or in schemas that can move",
            OWN,
        ),
        Threshold(
            "routed",
            0.9,
            "%",
            "so many of the calls must be answered by one node: the others ask all nodes",
            f"{DECISION} (tenant-scoped queries); the 90 % are {OWN}",
        ),
        Threshold(
            "joined",
            0.9,
            "%",
            "so many of the joins must be along the distribution column; Citus refuses or repartitions the others",
            f"{DECISION} (cross-tenant joins); the 90 % are {OWN}",
        ),
        Threshold(
            "crossing",
            0.99,
            "%",
            "so many of the calls must stay within one schema: Citus refuses to join two distributed schemas",
            f"measured on Citus 13.2; the 99 % are {OWN}",
        ),
        Threshold(
            "units",
            2,
            "per node",
            "so many schemas or values of the column there must be for each node: what cannot be split is moved whole",
            OWN,
        ),
        Threshold(
            "analytic",
            0.5,
            "%",
            "from this share of the time on in aggregates over many tenants the load is called analytic",
            f"{DECISION} (distributed analytics); the 50 % are {OWN}",
        ),
    )
}


def threshold(name: str) -> float:
    return THRESHOLDS[name].value
