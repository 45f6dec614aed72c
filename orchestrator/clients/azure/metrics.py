"""Azure Monitor's metrics of the cluster, through Azure Resource Manager: a few values need no client of their own.

Azure's reference has no dimension for the node of an elastic cluster. So the guard takes the highest value that it
gives, and doctor asks which dimensions there are, and splits by the node where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.errors import ArmError, Refused
from orchestrator.core.observed.metrics import METRICS, Reading, Span

API_VERSION = "2018-01-01"
METRIC = "cpu_percent"
# What the node's dimension is called in Azure's older service on Citus.
_NODE = "servername"


class NoMetrics(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"--max-cpu: {endpoint} has no metric {METRIC} of this cluster: {reason.rstrip('.')}. Nothing was changed. "
            "Use --max-p99, which asks the cluster itself; on Azure the account needs Monitoring Reader."
        )


def read_cpu_percent(arm: ArmClient) -> float | None:
    """The highest value of the last minute that has one; None when there is none yet. Raises NoMetrics."""
    wanted = {
        "api-version": API_VERSION,
        "metricnames": METRIC,
        "aggregation": "Maximum",
        "interval": "PT1M",
    }
    try:
        found = arm.read_json(f"providers/Microsoft.Insights/metrics?{urlencode(wanted)}", "Reading the metrics")
    except ArmError as error:
        raise NoMetrics(arm.endpoint, error.text) from error
    values = [
        point["maximum"]
        for metric in found.get("value", ())
        for series in metric.get("timeseries", ())
        for point in series.get("data", ())[-3:]
        if point.get("maximum") is not None
    ]
    return float(max(values)) if values else None


class MetricsUnreadable(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} gives no metrics of this cluster: {reason.rstrip('.')}. Nothing was changed. "
            "On Azure the account needs Monitoring Reader; a lab has no metrics."
        )


def read_metrics(arm: ArmClient, span: Span) -> tuple[Reading, ...]:
    """METRICS in the span's whole minutes, for each node where Azure tells nodes apart. Raises MetricsUnreadable."""
    start, end = _minute(span.start + timedelta(seconds=59)), _minute(span.end)
    if start >= end:
        return ()
    wanted = {
        "api-version": API_VERSION,
        "metricnames": ",".join(METRICS),
        "aggregation": "Average,Maximum",
        "interval": "PT1M",
        "timespan": f"{start}/{end}",
    }
    try:
        dimension = _dimension(arm)
        if dimension:
            wanted["$filter"] = f"{dimension} eq '*'"
        found = arm.read_json(f"providers/Microsoft.Insights/metrics?{urlencode(wanted)}", "Reading the metrics")
    except ArmError as error:
        raise MetricsUnreadable(arm.endpoint, error.text) from error
    return tuple(reading for metric in found.get("value", ()) for reading in _readings(metric))


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:00Z}"


def _dimension(arm: ArmClient) -> str | None:
    """The name of the node's dimension, spelt as Azure spells it, where every metric has it."""
    path = f"providers/Microsoft.Insights/metricDefinitions?{urlencode({'api-version': API_VERSION})}"
    found = {
        one["name"]["value"]: one for one in arm.read_json(path, "Reading which metrics there are").get("value", ())
    }
    named = [
        next(
            (one["value"] for one in found.get(name, {}).get("dimensions") or () if one["value"].lower() == _NODE), None
        )
        for name in METRICS
    ]
    return named[0] if all(named) else None


def _readings(metric: Mapping[str, Any]) -> Iterator[Reading]:
    for series in metric.get("timeseries", ()):
        points = [point for point in series.get("data", ()) if point.get("average") is not None]
        if points:
            yield Reading(
                metric["name"]["value"],
                next((str(one["value"]) for one in series.get("metadatavalues", ())), ""),
                sum(float(point["average"]) for point in points) / len(points),
                max(float(point["maximum"]) for point in points),
                len(points),
            )
