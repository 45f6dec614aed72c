"""Azure Monitor's metrics through the production client, against the lab's ARM endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.azure.metrics import (
    MetricsUnreadable,
    NoMetrics,
    read_cpu_minutes,
    read_cpu_percent,
    read_metrics,
)
from orchestrator.core.errors import ArmBusy
from orchestrator.core.observed.metrics import METRICS, Span
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.protocol import ArmFault
from orchestrator.lab.arm.resources import ServerFacts
from tests.fix_arm import SUBSCRIPTION, ArmLab, MemoryBackend

START = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = Span(START, START + 60 * MINUTE)
PATH = "/providers/Microsoft.Insights/metrics"


class Measured:
    """An emulator with metrics, and a client to it."""

    def __init__(self, dimension: str | None = None) -> None:
        self.store = MetricStore(dimension)
        facts = ServerFacts(SUBSCRIPTION, "rg-lab", "elk1", location="northeurope", database="citus")
        self.emulator = ArmEmulator(MemoryBackend(), facts, metrics=self.store)
        self.emulator.start()
        self.client = ArmClient(SUBSCRIPTION, "rg-lab", "elk1", self.emulator.url)

    def close(self) -> None:
        self.client.close()
        self.emulator.stop()


@pytest.fixture
def measured() -> Iterator[Measured]:
    made = Measured()
    yield made
    made.close()


@pytest.fixture
def by_node() -> Iterator[Measured]:
    made = Measured("ServerName")
    yield made
    made.close()


def test_average_and_maximum_of_the_span_and_of_nothing_else(measured: Measured) -> None:
    for number in range(-5, 5):
        measured.store.record("cpu_percent", START + number * MINUTE, 10.0 * (number + 6))
    measured.store.record("storage_percent", START + 59 * MINUTE, 42.0)
    measured.store.record("storage_percent", START + 60 * MINUTE, 99.0)
    found = {(one.metric, one.node): one for one in read_metrics(measured.client, HOUR)}
    cpu = found["cpu_percent", ""]
    assert (cpu.average, cpu.maximum, cpu.minutes) == (80.0, 100.0, 5)
    assert (found["storage_percent", ""].maximum, found["storage_percent", ""].minutes) == (42.0, 1)
    assert set(found) == {("cpu_percent", ""), ("storage_percent", "")}


def test_metrics_that_have_not_arrived_are_absent_not_zero(measured: Measured) -> None:
    assert read_metrics(measured.client, HOUR) == ()


def test_nodes_are_told_apart_where_the_metrics_have_their_dimension(by_node: Measured) -> None:
    for node, value in (("elk1-c", 80.0), ("elk1-w1", 20.0)):
        for name in METRICS:
            by_node.store.record(name, START + MINUTE, value, node)
    found = read_metrics(by_node.client, HOUR)
    assert {(one.metric, one.node) for one in found} == {(m, n) for m in METRICS for n in ("elk1-c", "elk1-w1")}
    assert {one.average for one in found if one.node == "elk1-w1"} == {20.0}


def test_without_the_dimension_all_nodes_are_one(measured: Measured) -> None:
    for node, value in (("a", 80.0), ("b", 20.0)):
        measured.store.record("cpu_percent", START + MINUTE, value, node)
    (reading,) = read_metrics(measured.client, HOUR)
    assert (reading.node, reading.average, reading.maximum) == ("", 50.0, 80.0)


def test_a_lab_without_metrics_says_so(client: ArmClient, arm: ArmLab) -> None:
    with pytest.raises(MetricsUnreadable, match="Monitoring Reader"):
        read_metrics(client, HOUR)
    with pytest.raises(NoMetrics):
        read_cpu_percent(client)


def test_the_guard_reads_the_last_minute_that_has_a_value(measured: Measured) -> None:
    assert read_cpu_percent(measured.client) is None
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    measured.store.record("cpu_percent", now - MINUTE, 73.0)
    assert read_cpu_percent(measured.client) == 73.0


def test_the_guard_reads_a_value_that_arrived_minutes_late_but_none_of_long_ago(measured: Measured) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    measured.store.record("cpu_percent", now - 20 * MINUTE, 99.0)
    assert read_cpu_percent(measured.client) is None
    measured.store.record("cpu_percent", now - 6 * MINUTE, 41.0)
    measured.store.record("cpu_percent", now - 5 * MINUTE, 42.0)
    assert read_cpu_percent(measured.client) == 42.0


def test_the_minutes_of_a_load_are_those_that_lie_within_it(by_node: Measured) -> None:
    """Of all nodes the busiest; the minutes in which it began and ended hold something else too."""
    for number, value in enumerate((10.0, 80.0, 90.0, 20.0)):
        by_node.store.record("cpu_percent", START + number * MINUTE, value, "elk1-w1")
        by_node.store.record("cpu_percent", START + number * MINUTE, 5.0, "elk1-c")
    began, ended = START + timedelta(seconds=0.5), START + timedelta(minutes=3, seconds=30)
    assert read_cpu_minutes(by_node.client, Span(began, ended)) == (80.0, 90.0)
    assert read_cpu_minutes(by_node.client, Span(START, ended)) == (10.0, 80.0, 90.0)
    assert read_cpu_minutes(by_node.client, Span(began, began + MINUTE)) == ()


def test_who_is_asked_for_patience_is_told_how_long(measured: Measured) -> None:
    measured.emulator.faults.throttle(retry_after=17)
    with pytest.raises(ArmBusy) as caught:
        read_cpu_minutes(measured.client, HOUR)
    assert caught.value.retry_after == 17


def test_rights_that_are_missing_are_named(measured: Measured) -> None:
    measured.emulator.faults.break_request(0, ArmFault(403, "AuthorizationFailed", "The client may not read."))
    with pytest.raises(MetricsUnreadable, match=r"The client may not read\..*Monitoring Reader"):
        read_cpu_minutes(measured.client, HOUR)


def test_the_form_is_azure_monitors(arm: ArmLab) -> None:
    """Metrics - List, api-version 2018-01-01: fields of the reply and of each metric, points without a value."""
    store = MetricStore()
    store.record("iops", START, 300.0)
    arm.emulator._state.metrics = store
    query = f"{PATH}?metricnames=iops&timespan=2026-11-28T10:00:00Z/2026-11-28T10:02:00Z&aggregation=Average"
    status, body, _ = arm.request("GET", arm.server_path + query, version="2018-01-01")
    assert status == 200
    assert body["timespan"] == "2026-11-28T10:00:00Z/2026-11-28T10:02:00Z"
    assert (body["interval"], body["resourceregion"]) == ("PT1M", "northeurope")
    (metric,) = body["value"]
    assert metric["id"].endswith("/providers/Microsoft.Insights/metrics/iops")
    assert (metric["name"]["value"], metric["unit"], metric["errorCode"]) == ("iops", "Count", "Success")
    assert metric["timeseries"] == [
        {
            "metadatavalues": [],
            "data": [
                {"timeStamp": "2026-11-28T10:00:00Z", "average": 300.0},
                {"timeStamp": "2026-11-28T10:01:00Z"},
            ],
        }
    ]


@pytest.mark.parametrize(
    "query",
    [
        "metricnames=nonsense",
        "metricnames=iops&aggregation=Median",
        "metricnames=iops&timespan=yesterday",
        "metricnames=iops&timespan=2026-11-28T11:00:00Z/2026-11-28T10:00:00Z",
        "metricnames=iops&$filter=ServerName%20eq%20'*'",
    ],
)
def test_what_azure_refuses(arm: ArmLab, query: str) -> None:
    arm.emulator._state.metrics = MetricStore()
    status, body, _ = arm.request("GET", f"{arm.server_path}{PATH}?{query}", version="2018-01-01")
    assert (status, body["error"]["code"]) == (400, "BadRequest")
