"""The load guard's probe on a real server: what waits counts as long as it waits, beginning for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from orchestrator.clients.moves.probe import LoadGauge
from tests.fix_lab import Cluster
from tests.fix_standin import await_true


@pytest.fixture
def gauge(cluster: Cluster) -> Iterator[LoadGauge]:
    with cluster.connect() as admin:
        admin.execute("CREATE SCHEMA looked_at")
        admin.execute("SELECT citus_schema_distribute('looked_at')")
        admin.execute("CREATE TABLE looked_at.t (id bigint PRIMARY KEY)")
        made = LoadGauge(cluster.connect)
        made.start()
        yield made
        made.close()
        admin.execute("DROP SCHEMA looked_at CASCADE")


until = partial(await_true, seconds=60)


def slow(gauge: LoadGauge) -> list[float]:
    return [milliseconds for _, milliseconds in gauge.signals(1000.0).looks if milliseconds > 150]


def test_a_look_that_waits_counts_for_all_that_were_due_meanwhile(cluster: Cluster, gauge: LoadGauge) -> None:
    """While it waits already, and when it has come back: else a second's stop would count like a millisecond."""
    until(lambda: len(gauge.signals(1000.0).looks) >= 5)
    before = len(slow(gauge))
    with cluster.connect() as other, other.transaction():
        other.execute("LOCK TABLE looked_at.t IN ACCESS EXCLUSIVE MODE")
        until(lambda: len(slow(gauge)) >= before + 8)
    answered = len(gauge.signals(1000.0).looks)
    until(lambda: len(gauge.signals(1000.0).looks) > answered + 2)
    assert len(slow(gauge)) >= before + 8


def test_looks_go_on_when_a_table_they_read_is_gone(cluster: Cluster, gauge: LoadGauge) -> None:
    until(lambda: len(gauge.signals(1000.0).looks) >= 3)
    with cluster.connect() as admin:
        admin.execute("DROP TABLE looked_at.t")
        before = len(gauge.signals(1000.0).looks)
        until(lambda: len(gauge.signals(1000.0).looks) >= before + 5)


def test_without_a_probe_there_are_no_looks() -> None:
    unprobed = LoadGauge(None)
    unprobed.start()
    assert unprobed.signals(5.0).looks == []
    unprobed.close()
