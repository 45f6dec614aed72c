"""doctor and Azure's side: metrics around a change, parameters and high availability, through the production client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.observed.metrics import METRICS
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.resources import ServerFacts
from tests.fix_arm import SUBSCRIPTION, MemoryBackend
from tests.fix_lab import Project

MINUTE = timedelta(minutes=1)
POOLER = {
    "pgbouncer.enabled": "true", "pgbouncer.pool_mode": "transaction", "pgbouncer.default_pool_size": "50",
    "pgbouncer.max_client_conn": "5000", "pgbouncer.max_prepared_statements": "200",
}  # fmt: skip


class Azure:
    """The control plane of a cluster with no database behind it; doctor's ports are not of interest here."""

    def __init__(self, project: Project, parameters: dict[str, str], dimension: str | None = None) -> None:
        self.project, self.store = project, MetricStore(dimension)
        facts = ServerFacts(SUBSCRIPTION, "rg-lab", "elk1", database="citus", parameters=parameters)
        self.emulator = ArmEmulator(MemoryBackend(), facts, metrics=self.store)
        self.emulator.start()
        project.stack.write_text(
            "config:\n"
            "  elastic-cluster:name: elk1\n"
            "  elastic-cluster:resourceGroup: rg-lab\n"
            f"  elastic-cluster:subscriptionId: {SUBSCRIPTION}\n"
            "  elastic-cluster:location: northeurope\n"
            "  elastic-cluster:nodes: 2\n"
            f'  elastic-cluster:endpoint: {{host: 127.0.0.1, ports: {{direct: 1}}, arm: "{self.emulator.url}"}}\n',
            "utf-8",
        )

    def record(self, at: datetime, value: float, *nodes: str) -> None:
        for name in METRICS:
            for node in nodes or ("",):
                self.store.record(name, at, value, node)


@pytest.fixture
def azure(project: Project) -> Iterator[Azure]:
    made = Azure(project, POOLER)
    yield made
    made.emulator.stop()


def hour_ago() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)


def around(azure: Azure) -> tuple[str, str]:
    """A change that took ten minutes, two hours ago: busy before, quiet afterwards."""
    began = hour_ago()
    over = began + 10 * MINUTE
    for number in range(1, 31):
        azure.record(began - number * MINUTE, 80.0)
        azure.record(over + number * MINUTE, 30.0)
    azure.record(began + 5 * MINUTE, 99.0)  # while it went on: belongs to neither side
    return f"{began:%Y-%m-%dT%H:%M}", f"{over:%Y-%m-%dT%H:%M}"


def test_before_and_after_a_change(azure: Azure) -> None:
    before, after = around(azure)
    run = azure.project.call("doctor", "--before", before, "--after", after, "--json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    changes = {(one["metric"], one["node"]): one for one in document["changes"]}
    assert set(changes) == {(name, "") for name in METRICS}
    for one in changes.values():
        assert (one["before"]["average"], one["before"]["maximum"], one["before"]["minutes"]) == (80.0, 80.0, 30)
        assert (one["after"]["average"], one["after"]["minutes"]) == (30.0, 30)
    assert any("no value per node" in line for line in document["remarks"])


def test_nodes_that_were_added_are_told_apart_where_azure_does(project: Project) -> None:
    azure = Azure(project, POOLER, dimension="ServerName")
    try:
        began = hour_ago()
        azure.record(began - MINUTE, 80.0, "node-0", "node-1")
        azure.record(began + 2 * MINUTE, 40.0, "node-0", "node-1", "node-2")
        text = f"{began:%Y-%m-%dT%H:%M}"
        run = project.call("doctor", "--before", text, "--after", text)
    finally:
        azure.emulator.stop()
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert [
        "cpu_percent",
        "of",
        "node-0",
        "80.0%",
        "(at",
        "most",
        "80.0%)",
        "->",
        "40.0%",
        "(at",
        "most",
        "40.0%)",
    ] in lines
    assert ["cpu_percent", "of", "node-2", "nothing", "->", "40.0%", "(at", "most", "40.0%)"] in lines


def test_metrics_that_are_not_there_yet_are_said(azure: Azure) -> None:
    now = datetime.now(UTC)
    azure.record(now - timedelta(minutes=90), 80.0)
    before, after = now - timedelta(hours=1), now - timedelta(minutes=1)
    run = azure.project.call(
        "doctor", "--before", f"{before:%Y-%m-%dT%H:%M:%S}", "--after", f"{after:%Y-%m-%dT%H:%M:%S}"
    )
    assert run.returncode == 0, run.stderr
    assert "No values yet after the change: cpu_percent" in run.stdout
    assert "try again after" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--before", "2026-01-01T10:00"), "when the change began and was over"),
        (("--before", "2026-01-01T10:00", "--after", "2026-01-01T09:00"), "before it begins"),
        (("--before", "2000-01-01T10:00", "--after", "2000-01-01T11:00"), "93 days"),
    ],
)
def test_what_cannot_be_compared_is_refused(azure: Azure, arguments: tuple[str, ...], said: str) -> None:
    run = azure.project.call("doctor", *arguments)
    assert run.returncode == 2, run.stdout
    assert said in run.stderr


def test_a_cluster_without_metrics_says_so(project: Project) -> None:
    azure = Azure(project, POOLER)
    azure.emulator._state.metrics = None
    try:
        text = f"{hour_ago():%Y-%m-%dT%H:%M}"
        run = project.call("doctor", "--before", text, "--after", text)
        healthy = project.call("doctor", "--json")
    finally:
        azure.emulator.stop()
    assert run.returncode == 2
    assert "gives no metrics of this cluster" in run.stderr
    (note,) = [one for one in json.loads(healthy.stdout)["server"] if one["what"] == "metrics"]
    assert note["ok"]
    assert "not read" in note["seen"]


def test_parameters_of_the_server_are_judged(project: Project) -> None:
    azure = Azure(project, POOLER | {"pgbouncer.max_prepared_statements": "0"})
    azure.record(datetime.now(UTC) - 5 * MINUTE, 90.0)
    try:
        run = project.call("doctor", "--json")
        text = project.call("doctor")
    finally:
        azure.emulator.stop()
    assert run.returncode == 1
    found = {one["what"]: one for one in json.loads(run.stdout)["server"]}
    assert [what for what, one in found.items() if not one["ok"]] == [
        "pgbouncer.max_prepared_statements",
        "storage_percent",
    ]
    assert found["server"]["seen"].startswith("Ready, 2 nodes of Standard_D2ds_v5")
    assert "BAD pgbouncer.max_prepared_statements: 0: drivers' prepared statements break" in text.stdout
    assert "ok  cpu_percent: 90.0% on average" in text.stdout


def test_a_control_plane_that_does_not_answer_is_no_illness(azure: Azure) -> None:
    azure.emulator.stop()
    run = azure.project.call("doctor", "--json")
    assert run.returncode == 0, run.stdout
    (only,) = json.loads(run.stdout)["server"]
    assert only["what"] == "control plane"
    assert "not asked" in only["seen"]
