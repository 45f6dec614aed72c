"""`orchestrator doctor --since RUN`: the times come from the run's record, the metrics from the control plane."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.observed.metrics import METRICS
from orchestrator.lab.arm.emulator import ArmEmulator
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.resources import ServerFacts
from tests.e2e.test_scale_out import config, connect, make_tenants
from tests.fix_arm import MemoryBackend
from tests.fix_lab import Project, engines

MINUTE = timedelta(minutes=1)


@pytest.mark.skipif(not engines()["embedded"].available, reason=f"engine embedded: {engines()['embedded'].reason}")
def test_metrics_before_and_after_a_run(project: Project) -> None:
    assert project.call("lab", "up", "--engine", "embedded", "--nodes", "2").returncode == 0
    make_tenants(project)
    grown = project.call("scale-out", "--nodes", "3", "--yes", "--moves", "direct")
    assert grown.returncode == 0, grown.stderr
    (run,) = json.loads(project.call("runs", "--json").stdout)
    # As if it had been two hours ago, so that there is an hour after it.
    with connect(project) as admin:
        admin.execute(
            "UPDATE orchestrator.run SET started_at = started_at - interval '2 hours', "
            "finished_at = finished_at - interval '2 hours'"
        )
    began = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
    store, values = MetricStore(), config(project)
    for name in METRICS:
        for number in range(5, 15):
            store.record(name, began - number * MINUTE, 90.0)
            store.record(name, began + number * MINUTE, 45.0)
    facts = ServerFacts(
        values["elastic-cluster:subscriptionId"],
        values["elastic-cluster:resourceGroup"],
        values["elastic-cluster:name"],
    )
    with ArmEmulator(MemoryBackend(3), facts, metrics=store) as measured:
        text = project.stack.read_text("utf-8")
        project.stack.write_text(re.sub(r"http://127\.0\.0\.1:\d+", measured.url, text), "utf-8")
        compared = project.call("doctor", "--since", str(run["run"]), "--json")
        unknown = project.call("doctor", "--since", "99")
        with connect(project) as admin:
            admin.execute("UPDATE orchestrator.run SET finished_at = NULL")
        unended = project.call("doctor", "--since", str(run["run"]))
        project.stack.write_text(text, "utf-8")
    assert compared.returncode == 0, compared.stderr
    document = json.loads(compared.stdout)
    assert document["run"] == run["run"]
    found = {one["metric"]: (one["before"]["average"], one["after"]["average"]) for one in document["changes"]}
    assert found == dict.fromkeys(METRICS, (90.0, 45.0))
    assert (unknown.returncode, "There is no run 99" in unknown.stderr) == (2, True)
    assert (unended.returncode, "has not ended, or was killed" in unended.stderr) == (2, True)
