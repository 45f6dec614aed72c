"""`advise --benchmark` with Azure's metric of the processors: late, missing, refused, throttled.

The load is real, and so is the client of Azure; the metric comes from the lab's ARM endpoint, by a clock of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.advise import processor
from orchestrator.driver import drive
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.protocol import ArmFault
from orchestrator.lab.arm.resources import ServerFacts
from tests.fix_arm import SUBSCRIPTION, MemoryBackend
from tests.fix_lab import Project
from tests.fix_plain import Plain
from tests.fix_standin import await_true

MINUTE = timedelta(minutes=1)
# The more clients, the longer each takes: the throughput does not rise, and nothing on the server says why.
SCRIPT = """SELECT pg_sleep(0.02 * power(greatest(count(*) - 2, 1), 1.5))
FROM pg_stat_activity WHERE application_name = 'orchestrator benchmark';
"""
FORBIDDEN = ArmFault(403, "AuthorizationFailed", "The client does not have authorization to perform action 'read'.")


@dataclass
class Azure:
    """Measures one value a minute, which arrives `late`; None is no value. Time passes when the command waits."""

    plain: Plain
    percent: float | None = 93.0
    late: timedelta = 4 * MINUTE
    now: datetime = datetime(2026, 11, 28, 10, 0, 20, tzinfo=UTC)
    waited: list[float] = field(default_factory=list)
    clients: list[int] = field(default_factory=list)
    store: MetricStore = field(default_factory=MetricStore)

    def __post_init__(self) -> None:
        facts = ServerFacts(SUBSCRIPTION, "rg-lab", "elk1", location="northeurope", database="citus")
        self.emulator = ArmEmulator(MemoryBackend(), facts, metrics=self.store)

    @property
    def azure_id(self) -> str:
        path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-lab"
        return f"{self.emulator.url}{path}/providers/Microsoft.DBforPostgreSQL/flexibleServers/elk1"

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        if seconds == processor.HELD:
            self._count_clients()
        self.waited.append(seconds)
        before, self.now = self.now, self.now + timedelta(seconds=seconds)
        arrives = (before - self.late).replace(second=0, microsecond=0)
        while arrives + MINUTE + self.late <= self.now:
            if arrives + MINUTE + self.late > before and self.percent is not None:
                self.store.record("cpu_percent", arrives, self.percent)
            arrives += MINUTE

    def _count_clients(self) -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orchestrator benchmark'"

        def there() -> bool:
            with self.plain.connect() as connection:
                row = connection.execute(query + " AND state = 'active'").fetchone()
            self.clients.append(int(row[0]) if row else 0)
            return self.clients[-1] > 0

        await_true(there)


@pytest.fixture
def azure(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    made = Azure(plain)
    monkeypatch.setattr(processor, "drive", partial(drive, sleep=made.sleep, now=made.monotonic))
    monkeypatch.setattr(processor, "utc_now", lambda: made.now)
    with made.emulator:
        yield made


def benchmark(project: Project, azure: Azure, *where: str) -> tuple[dict[str, Any], str]:
    (project.folder / "s.sql").write_text(SCRIPT)
    run = project.call(
        "advise", "--benchmark", "--script", "s.sql", "--seconds", "1", "--max-clients", "8", "--yes", "--json",
        "--commit", *where, env=azure.plain.environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), run.stderr


def cpu(found: dict[str, Any]) -> list[float]:
    return [step["cpu"] for step in found["steps"] if step["cpu"] is not None]


def test_the_processor_is_named_by_azures_metric_when_its_late_values_are_there(project: Project, azure: Azure) -> None:
    found, said = benchmark(project, azure, "--azure-id", azure.azure_id)
    assert found["saturated"] == "cpu"
    assert cpu(found) == [pytest.approx(0.93)]
    assert azure.clients[-1] > 0
    # Two whole minutes of the three that were held; the second arrives four minutes after its end.
    assert sum(azure.waited) == pytest.approx(processor.HELD + 220, abs=20)
    assert "Holding" in said


def test_minutes_before_and_after_the_load_do_not_count(project: Project, azure: Azure) -> None:
    azure.percent = 30.0
    for number in (-1, 0, 3, 4):
        azure.store.record("cpu_percent", azure.now.replace(second=0) + number * MINUTE, 100.0)
    found, said = benchmark(project, azure, "--azure-id", azure.azure_id)
    assert cpu(found) == [pytest.approx(0.30)], (said, found["steps"])
    assert found["saturated"] == "unknown"


@pytest.mark.slow
def test_a_value_that_never_arrives_leaves_the_rest_of_the_measurement(project: Project, azure: Azure) -> None:
    azure.percent = None
    found, said = benchmark(project, azure, "--azure-id", azure.azure_id)
    assert (found["saturated"], cpu(found)) == ("unknown", [])
    assert len(found["steps"]) >= 3
    assert "CPU stays unknown: Azure has no value of these minutes yet." in said
    assert sum(azure.waited) < processor.HELD + 700


def test_azure_that_asks_for_patience_is_asked_again(project: Project, azure: Azure) -> None:
    azure.emulator.faults.throttle(4, retry_after=7)
    found, _ = benchmark(project, azure, "--azure-id", azure.azure_id)
    assert found["saturated"] == "cpu"
    assert azure.waited.count(7.0) == 3


def test_rights_that_are_missing_are_said_before_the_load(project: Project, azure: Azure) -> None:
    azure.emulator.faults.break_request(0, FORBIDDEN)
    (project.folder / "s.sql").write_text(SCRIPT)
    run = project.call(
        "advise", "--benchmark", "--script", "s.sql", "--yes", "--azure-id", azure.azure_id,
        env=azure.plain.environment,
    )  # fmt: skip
    assert run.returncode == 2
    assert "Monitoring Reader" in run.stderr
    assert "does not have authorization" in run.stderr
    assert "transactions/s" not in run.stderr


@pytest.mark.slow
def test_rights_that_are_lost_meanwhile_leave_the_rest_of_the_measurement(project: Project, azure: Azure) -> None:
    azure.emulator.faults.break_request(1, FORBIDDEN)
    found, said = benchmark(project, azure, "--azure-id", azure.azure_id)
    assert (found["saturated"], cpu(found)) == ("unknown", [])
    assert "CPU stays unknown: " in said
    assert "Monitoring Reader" in said


def stack_file(project: Project, azure: Azure) -> None:
    values = {
        "subscriptionId": SUBSCRIPTION, "resourceGroup": "rg-lab", "name": "elk1", "location": "northeurope",
        "nodes": 2, "administratorLogin": "postgres", "database": azure.plain.name,
    }  # fmt: skip
    endpoint = {
        "host": "127.0.0.1", "arm": azure.emulator.url, "sslmode": "disable",
        "ports": {"direct": azure.plain.port, "pooled": 1, "balanced": 1, "balancedPooled": 1},
    }  # fmt: skip
    lines = [f"  elastic-cluster:{name}: {value}" for name, value in values.items()]
    text = "\n".join(["config:", *lines, f"  elastic-cluster:endpoint: {json.dumps(endpoint)}"])
    Path(project.folder / "stacks" / "Pulumi.azure.yaml").write_text(text + "\n")


def test_with_a_stack_the_metric_is_that_of_its_server(project: Project, azure: Azure) -> None:
    stack_file(project, azure)
    found, said = benchmark(project, azure, "--stack", "azure")
    assert found["saturated"] == "cpu"
    assert "CPU: Azure's metric" in said


@pytest.mark.slow
def test_with_a_stack_whose_metric_cannot_be_read_the_rest_is_measured(project: Project, azure: Azure) -> None:
    stack_file(project, azure)
    azure.emulator.faults.break_request(0, FORBIDDEN)
    found, said = benchmark(project, azure, "--stack", "azure")
    # The server is on this machine, whose processors are looked at instead.
    assert "CPU: that of this machine" in said
    assert len(cpu(found)) == len(found["steps"])
    assert not azure.waited


@pytest.mark.parametrize("text", ["elk1", "/subscriptions/x/resourceGroups/y", "https://example.com/"])
def test_what_is_no_resource_id_is_refused(project: Project, plain: Plain, text: str) -> None:
    run = project.call("advise", "--benchmark", "--azure-id", text, env=plain.environment)
    assert run.returncode == 2
    assert re.search(r"is not the resource id .*`az postgres flexible-server show", run.stderr)
