"""Azure Monitor's metrics of the cluster, through Azure Resource Manager: a few values need no client of their own.

Azure's reference has no dimension for the node of an elastic cluster. So the guard takes the highest value that it
gives, and doctor asks which dimensions there are, and splits by the node where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.errors import ArmBusy, ArmError, Refused
from orchestrator.core.observed.metrics import METRICS, Reading, Span, whole_minutes

API_VERSION = "2018-01-01"
METRIC = "cpu_percent"
# Minutes, up to now: one value a minute arrives some minutes later, and an older one says nothing of now.
_RECENT = 10
# What the node's dimension is called in Azure's older service on Citus.
_NODE = "servername"


class NoMetrics(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"--max-cpu: {endpoint} has no metric {METRIC} of this cluster: {reason.rstrip('.')}. Nothing was changed. "
            "Use --max-p99, which asks the cluster itself; on Azure the account needs Monitoring Reader."
        )


def read_cpu_percent(arm: ArmClient) -> float | None:
    """Of the busiest node in the last minute with a value; None where none of the last ten has. Raises NoMetrics."""
    try:
        minutes = _cpu_by_minute(arm, {})
    except ArmError as error:
        raise NoMetrics(arm.endpoint, error.text) from error
    return next((value for _, value in reversed(minutes[-_RECENT:]) if value is not None), None)


def read_cpu_minutes(arm: ArmClient, span: Span) -> tuple[float, ...]:
    """Percent of the busiest node in each whole minute of the span that has a value by now.

    Raises ArmBusy while Azure asks to wait, MetricsUnreadable for what waiting does not mend.
    """
    whole = whole_minutes(span)
    if whole.start >= whole.end:
        return ()
    try:
        found = _cpu_by_minute(arm, {"timespan": f"{_minute(whole.start)}/{_minute(whole.end)}"})
    except ArmBusy:
        raise
    except ArmError as error:
        raise MetricsUnreadable(arm.endpoint, error.text) from error
    return tuple(value for _, value in found if value is not None)


def _cpu_by_minute(arm: ArmClient, more: Mapping[str, str]) -> list[tuple[str, float | None]]:
    """In their order, the highest value of all nodes; None where there is none yet."""
    wanted = {"api-version": API_VERSION, "metricnames": METRIC, "aggregation": "Maximum", "interval": "PT1M", **more}
    found = arm.read_json(f"providers/Microsoft.Insights/metrics?{urlencode(wanted)}", "Reading the metrics")
    minutes: dict[str, float | None] = {}
    for metric in found.get("value", ()):
        for series in metric.get("timeseries", ()):
            for point in series.get("data", ()):
                values = (minutes.get(point["timeStamp"]), point.get("maximum"))
                minutes[point["timeStamp"]] = max((float(one) for one in values if one is not None), default=None)
    return sorted(minutes.items())


class MetricsUnreadable(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} gives no metrics of this cluster: {reason.rstrip('.')}. Nothing was changed. "
            "On Azure the account needs Monitoring Reader; a lab has no metrics."
        )


def read_metrics(arm: ArmClient, span: Span) -> tuple[Reading, ...]:
    """METRICS in the span's whole minutes, for each node where Azure tells nodes apart. Raises MetricsUnreadable."""
    whole = whole_minutes(span)
    if whole.start >= whole.end:
        return ()
    wanted = {
        "api-version": API_VERSION,
        "metricnames": ",".join(METRICS),
        "aggregation": "Average,Maximum",
        "interval": "PT1M",
        "timespan": f"{_minute(whole.start)}/{_minute(whole.end)}",
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
