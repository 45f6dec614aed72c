"""Azure Monitor's metrics of the server, in the documented form of its REST API (Metrics - List, 2018-01-01).

Nothing is made up: values are those that somebody has recorded in the store. Without a store there are no metrics at
all, and a minute without a value is a point that has only its time, as Azure answers for what has not arrived yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.core.desired.names import region_name
from orchestrator.lab.arm.metric_store import MetricStore, Value
from orchestrator.lab.arm.operations import LabState
from orchestrator.lab.arm.protocol import SERVER_TYPE, ArmFault, Json, Reply, Request
from orchestrator.lab.arm.resources import ServerRecord
from orchestrator.lab.arm.servers import find_record

# Name and unit of those that Azure's reference has for flexible servers, each PT1M, average, maximum and minimum.
KNOWN = {
    "active_connections": "Count", "cpu_percent": "Percent", "iops": "Count", "memory_percent": "Percent",
    "storage_percent": "Percent",
}  # fmt: skip
AGGREGATIONS = ("Average", "Maximum", "Minimum")
_MINUTE = timedelta(minutes=1)
_LONGEST = timedelta(days=31)


def list_definitions(state: LabState, request: Request) -> Reply:
    record, store = find_record(state, request), _store(state, request)
    dimensions = [_localizable(store.dimension)] if store.dimension else []
    return Reply(200, {"value": [_definition(record, name, dimensions) for name in sorted(KNOWN)]})


def list_metrics(state: LabState, request: Request) -> Reply:
    record, store = find_record(state, request), _store(state, request)
    names = [name for name in request.query.get("metricnames", "cpu_percent").split(",") if name]
    for name in names:
        if name not in KNOWN:
            text = (
                f"Failed to find metric configuration for provider: Microsoft.DBforPostgreSQL, resource Type: "
                f"flexibleServers, metric: {name}, Valid metrics: {','.join(sorted(KNOWN))}"
            )
            raise ArmFault(400, "BadRequest", text)
    start, end = _timespan(request.query.get("timespan"))
    wanted = [one.strip() for one in request.query.get("aggregation", "Average").split(",")]
    if unknown := [one for one in wanted if one not in AGGREGATIONS]:
        raise ArmFault(400, "BadRequest", f"Invalid aggregation type: {unknown[0]}")
    if request.query.get("interval", "PT1M") != "PT1M":
        raise ArmFault(400, "BadRequest", "The lab has metrics at the interval PT1M only.")
    split = _split(store, request.query.get("$filter"))
    with store.lock:
        values = [value for value in store.values if start <= value.at < end]
    body: Json = {
        "cost": int((end - start) / _MINUTE) * len(names),
        "timespan": f"{_text(start)}/{_text(end)}",
        "interval": "PT1M",
        "value": [_metric(record, name, values, (start, end), wanted, split) for name in names],
        "namespace": SERVER_TYPE,
        "resourceregion": region_name(record.location),
    }
    return Reply(200, body)


def _store(state: LabState, request: Request) -> MetricStore:
    if state.metrics is None:
        raise ArmFault(404, "InvalidResourceType", f"The lab's ARM endpoint has nothing at '{request.path}'.")
    return state.metrics


def _split(store: MetricStore, wanted: str | None) -> str | None:
    """The dimension by which values are told apart; only `NAME eq '*'` is understood here."""
    if not wanted:
        return None
    name = wanted.partition(" eq ")[0].strip()
    if store.dimension is None or name.lower() != store.dimension.lower():
        raise ArmFault(400, "BadRequest", f"Metric does not support requested dimension combination: {name}")
    return store.dimension


def _timespan(text: str | None) -> tuple[datetime, datetime]:
    """Minutes in between; without one the last hour."""
    if not text:
        end = datetime.now(UTC).replace(second=0, microsecond=0)
        return end - timedelta(hours=1), end
    first, _, last = text.partition("/")
    try:
        start, end = (datetime.fromisoformat(part.replace("Z", "+00:00")) for part in (first, last))
    except ValueError:
        raise ArmFault(400, "BadRequest", f"Invalid time span: {text}") from None
    start, end = (moment.astimezone(UTC).replace(second=0, microsecond=0) for moment in (start, end))
    if not start < end or end - start > _LONGEST:
        raise ArmFault(400, "BadRequest", f"The start time must be before the end time, by 31 days at most: {text}")
    return start, end


def _metric(
    record: ServerRecord,
    name: str,
    values: Sequence[Value],
    span: tuple[datetime, datetime],
    wanted: Sequence[str],
    split: str | None,
) -> Json:
    mine = [value for value in values if value.metric == name]
    nodes = sorted({value.node for value in mine}) if split else [""]
    series = [
        {
            "metadatavalues": [{"name": _localizable(split), "value": node}] if split else [],
            "data": _points([value for value in mine if not split or value.node == node], span, wanted),
        }
        for node in nodes
    ]
    return {
        "id": f"{record.resource_id}/providers/Microsoft.Insights/metrics/{name}",
        "type": "Microsoft.Insights/metrics",
        "name": _localizable(name),
        "displayDescription": name,
        "unit": KNOWN[name],
        "timeseries": series,
        "errorCode": "Success",
    }


def _points(values: Sequence[Value], span: tuple[datetime, datetime], wanted: Sequence[str]) -> list[Json]:
    start, end = span
    points = []
    while start < end:
        here = [value.value for value in values if start <= value.at < start + _MINUTE]
        point: Json = {"timeStamp": _text(start)}
        if here:
            whole = {"Average": sum(here) / len(here), "Maximum": max(here), "Minimum": min(here)}
            point |= {name.lower(): whole[name] for name in wanted}
        points.append(point)
        start += _MINUTE
    return points


def _definition(record: ServerRecord, name: str, dimensions: list[Json]) -> Json:
    return {
        "id": f"{record.resource_id}/providers/Microsoft.Insights/metricdefinitions/{name}",
        "resourceId": record.resource_id,
        "namespace": SERVER_TYPE,
        "name": _localizable(name),
        "isDimensionRequired": False,
        "unit": KNOWN[name],
        "primaryAggregationType": "Average",
        "supportedAggregationTypes": list(AGGREGATIONS),
        "metricAvailabilities": [{"timeGrain": "PT1M", "retention": "P93D"}],
        **({"dimensions": dimensions} if dimensions else {}),
    }


def _localizable(text: str | None) -> Json:
    return {"value": text, "localizedValue": text}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
