"""Snapshots: what was observed comes back whole, holds no secret, and what is no snapshot is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.observed.snapshot import SnapshotRefused, read_snapshot, snapshot_text
from orchestrator.core.observed.state import RebalanceJob, RebalanceTask
from tests.core.observed import MB, cluster, timing

AT = "2026-11-28T10:00:00+00:00"
PIN = Pin(Tenant("tenant0"), 2, True, 100, 1)
PLACED = st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, 2**50)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(PLACED)
def test_property_what_is_saved_is_read_again(placed: list[tuple[int, int | None]]) -> None:
    state = cluster(placed, nodes=3, timings=(timing(),), executors=(4, 2), leftovers=1, pins=(PIN,))
    read = read_snapshot(snapshot_text(state, AT), "s.json")
    assert state.server is not None
    assert read == replace(state, server=replace(state.server, resource_id=""))


def test_nothing_secret_is_saved() -> None:
    task = RebalanceTask(1, "running", "SELECT citus_move_shard_placement(1,2,3)", 1, 1, "ERROR: password=hunter2")
    rows = Pin(Tenant("hunter3@example.com", "app.events", 4711), 2, False, 100)
    text = snapshot_text(cluster([(1, MB)], job=RebalanceJob(7, "running", (task,)), pins=(rows,)), AT)
    assert "hunter" not in text
    assert "4711" not in text
    assert read_snapshot(text, "s.json").pins == (Pin(Tenant("a tenant", "app.events"), 2, False, 100),)
    assert "secret-subscription" not in text
    job = read_snapshot(text, "s.json").job
    assert job is not None
    assert job.in_flight


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    document = json.loads(snapshot_text(cluster([(1, MB), (2, MB)]), AT))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema=2), "schema 2 and this orchestrator reads up to 1"),
        (lambda d: d.update(schema="1"), "`schema` is not a number"),
        (lambda d: d.update(kind="something"), "`kind`"),
        (lambda d: d.pop("nodes"), "nodes: field required"),
        (lambda d: d.update(nodes=[]), "at least one node"),
        (lambda d: d["nodes"].append(d["nodes"][0]), "same node_id"),
        (lambda d: d.update(strategies=[]), "strategies"),
        (lambda d: d["shard_groups"][1].update(bytes=-1), r"shard_groups\.1\.bytes: -1"),
        (lambda d: d["shard_groups"][1].update(bytes=2**62), r"shard_groups\.1\.bytes"),
        (lambda d: d["shard_groups"][0].update(bytes="many"), r"shard_groups\.0\.bytes"),
        (lambda d: d["shard_groups"][0].update(node_id=9), "there is no node 9"),
        (lambda d: d["shard_groups"][1].update(shard_id=100), "100 is there twice"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    with pytest.raises(SnapshotRefused, match=said):
        read_snapshot(changed(change), "s.json")


def test_a_file_that_was_cut_off_anywhere_is_refused() -> None:
    text = snapshot_text(cluster([(1, MB), (2, 3 * MB)]), AT)
    for length in range(0, len(text.rstrip()), 97):
        with pytest.raises(SnapshotRefused):
            read_snapshot(text[:length], "s.json")


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "{}", "[" * 5000])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(SnapshotRefused):
        read_snapshot(text, "s.json")


def test_fields_of_a_later_version_of_the_same_schema_are_no_obstacle() -> None:
    read_snapshot(changed(lambda d: d.update(remark="new")), "s.json")
