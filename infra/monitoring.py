"""Logs and metrics to a Log Analytics workspace, and alerts on the metrics that Azure has of the whole server."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import monitor

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.desired.spec_azure import Alerts, Diagnostics


@dataclass(frozen=True, slots=True)
class Alert:
    """One metric above a threshold over fifteen minutes. Source of the names: Azure's list of monitoring metrics."""

    name: str
    metric: str
    threshold: float
    aggregation: str
    severity: int
    description: str


def monitor_server(
    cluster: pulumi.Resource, spec: ClusterSpec, group: pulumi.Input[str], server_id: pulumi.Output[str]
) -> None:
    if spec.diagnostics is not None:
        _diagnostics(cluster, spec.diagnostics, server_id)
    for alert in alerts(spec.alerts) if spec.alerts is not None else ():
        _metric_alert(cluster, spec, alert, group, server_id)


def alerts(wanted: Alerts) -> list[Alert]:
    """The alerts whose thresholds are set."""
    found = []
    if wanted.cpu_percent is not None:
        found.append(Alert("cpu", "cpu_percent", wanted.cpu_percent, "Average", 2, "The cluster is short of CPU."))
    if wanted.storage_percent is not None:
        text = "Storage fills up. Elastic clusters cannot grow it by themselves: add nodes or choose larger storage."
        found.append(Alert("storage", "storage_percent", wanted.storage_percent, "Maximum", 1, text))
    if wanted.active_connections is not None:
        text = "Many connections are open."
        found.append(Alert("connections", "active_connections", wanted.active_connections, "Maximum", 2, text))
    if wanted.replication_lag_mb is not None:
        size = wanted.replication_lag_mb * 1024 * 1024
        text = "An asynchronous replica lags behind."
        found.append(Alert("lag", "physical_replication_delay_in_bytes", size, "Maximum", 2, text))
    return found


def _diagnostics(cluster: pulumi.Resource, wanted: Diagnostics, server_id: pulumi.Input[str]) -> None:
    monitor.DiagnosticSetting(
        "diagnostics",
        name="orchestrator",
        resource_uri=server_id,
        workspace_id=wanted.workspace_id,
        logs=[monitor.DiagnosticsLogSettingsArgs(category=category, enabled=True) for category in wanted.logs],
        metrics=[monitor.DiagnosticsMetricSettingsArgs(category="AllMetrics", enabled=True)] if wanted.metrics else [],
        opts=pulumi.ResourceOptions(parent=cluster),
    )


def _metric_alert(
    cluster: pulumi.Resource,
    spec: ClusterSpec,
    alert: Alert,
    group: pulumi.Input[str],
    server_id: pulumi.Output[str],
) -> None:
    criterion = monitor.MetricCriteriaArgs(
        criterion_type="StaticThresholdCriterion",
        name=alert.name,
        metric_namespace="Microsoft.DBforPostgreSQL/flexibleServers",
        metric_name=alert.metric,
        operator="GreaterThan",
        threshold=alert.threshold,
        time_aggregation=alert.aggregation,
    )
    groups = spec.alerts.action_group_ids if spec.alerts is not None else ()
    monitor.MetricAlert(
        f"alert-{alert.name}",
        rule_name=f"{spec.name}-{alert.name}",
        resource_group_name=group,
        location="global",
        description=alert.description,
        enabled=True,
        severity=alert.severity,
        scopes=[server_id],
        evaluation_frequency="PT5M",
        window_size="PT15M",
        criteria=monitor.MetricAlertSingleResourceMultipleMetricCriteriaArgs(
            odata_type="Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria", all_of=[criterion]
        ),
        actions=[monitor.MetricAlertActionArgs(action_group_id=identity) for identity in groups],
        tags=spec.tags,
        opts=pulumi.ResourceOptions(parent=cluster),
    )
