"""Azure Monitor's metrics of the cluster, through Azure Resource Manager: one value needs no client of its own.

Azure documents no dimension for the node of an elastic cluster, so the highest value that it gives is taken.
"""

from __future__ import annotations

from urllib.parse import urlencode

from orchestrator.clients.arm import ArmClient
from orchestrator.core.errors import ArmError, Refused

API_VERSION = "2018-01-01"
METRIC = "cpu_percent"


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
