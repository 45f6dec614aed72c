"""Previews: the same from a snapshot as from the cluster, with what must be warned of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import ScaleInRefused
from orchestrator.core.moves.cost import AZURE
from orchestrator.core.observed.snapshot import read_snapshot, snapshot_text
from orchestrator.core.observed.state import ClusterState, RebalanceJob, RebalanceTask, Strategy
from orchestrator.core.outlook.preview import Preview, make_preview, recommend, replacements, spec_of
from orchestrator.core.outlook.pricing import shipped_prices
from orchestrator.core.planning.plan import Wanted
from tests.core.observed import BY_COUNT, GB, MB, cluster, server, spec, timing


def preview(state: ClusterState, *counts: int, declared: ClusterSpec | None = None) -> Preview:
    return make_preview(declared or spec(), state, Wanted(), counts, shipped_prices(), AZURE, 50)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, 2**42)), max_size=25),
    st.sampled_from([(), (timing(),), (timing(), timing(moves=0, fixed_seconds=None, seconds=10.0))]),
    st.booleans(),
)
def test_property_a_preview_of_the_snapshot_is_the_preview_of_the_cluster(
    placed: list[tuple[int, int | None]], timings: tuple[object, ...], moving: bool
) -> None:
    task = RebalanceTask(1, "running", "SELECT citus_move_shard_placement(100,1,2,'auto')", 100)
    job = RebalanceJob(3, "running", (task,)) if moving else None
    state = cluster(placed, nodes=3, timings=timings, job=job)
    assert preview(state, 4, 8) == preview(read_snapshot(snapshot_text(state, "now"), "x"), 4, 8)


def warnings(state: ClusterState, nodes: int) -> str:
    return " ".join(preview(state, nodes).options[0].warnings)


def test_nodes_that_stay_empty_are_warned_of() -> None:
    assert "5 of 8 nodes stay empty: there are 3 shard groups" in warnings(cluster([(1, GB), (2, GB), (2, GB)]), 8)


def test_a_node_that_would_be_too_full_for_citus_is_warned_of() -> None:
    said = warnings(cluster([(1, 120 * GB)] + [(2, GB)] * 6), 4)
    assert "1 node would hold more than 90%" in said


def test_a_large_move_names_the_space_it_takes_twice() -> None:
    assert "largest move is tenant" in warnings(cluster([(1, 3 * GB)] * 8), 4)


def test_simulated_placement_and_a_strategy_of_ones_own_are_said() -> None:
    own = Strategy("by_moonlight", False, 0, 0.1, 0.0, True)
    state = cluster([(1, GB)] * 8, citus_version="Citus 13.2 (placement simulated)", strategies=(own, BY_COUNT))
    assert "simulated" in warnings(state, 4)
    assert "by_moonlight is not one of Citus' own" in warnings(state, 4)


def test_sizes_that_cannot_be_read_are_said_and_nothing_is_recommended() -> None:
    state = cluster([(1, None), (2, GB)])
    assert "size of 1 of 2 shard groups cannot be read" in warnings(state, 4)
    found = recommend(spec(), state, Wanted(), 50)
    assert (found.nodes, "cannot be read" in found.reason) == (None, True)


def test_the_recommendation_is_a_count_that_holds_and_one_less_does_not() -> None:
    state = cluster([(i % 2 + 1, 10 * GB) for i in range(40)])
    found = recommend(spec(), state, Wanted(), 60)
    assert found.nodes is not None
    loads = preview(state, found.nodes, found.nodes - 1).options
    assert max(load.bytes or 0 for load in loads[0].plan.after) <= 0.6 * 128 * GB
    assert max(load.bytes or 0 for load in loads[1].plan.after) > 0.6 * 128 * GB


def test_an_empty_cluster_needs_no_more_nodes() -> None:
    assert recommend(spec(), cluster([]), Wanted(), 1).nodes == 2


def test_too_much_data_for_any_number_of_nodes() -> None:
    found = recommend(spec(), cluster([(i % 2 + 1, 60 * GB) for i in range(60)]), Wanted(), 50)
    assert (found.nodes, "also with 20 nodes" in found.reason) == (None, True)


def test_fewer_nodes_than_there_are_is_refused() -> None:
    with pytest.raises(ScaleInRefused):
        preview(cluster([], nodes=4), 2)


def test_what_only_a_new_server_can_have() -> None:
    assert replacements(spec(), server()) == ()
    assert replacements(spec(location="West US 2"), server()) == ()
    other = spec(location="norwayeast", database="other", postgresVersion="16")
    assert replacements(other, server()) == (
        "location: westus2 -> norwayeast",
        "database: citus -> other",
        "postgresVersion: 17 -> 16",
    )
    assert replacements(spec(), None) == ()


def test_the_cost_is_from_what_is_there_to_what_is_declared() -> None:
    declared = spec(4, highAvailability="ZoneRedundant")
    cost = preview(cluster([]), 4, declared=declared).options[0].cost
    assert cost.ratio == pytest.approx(4.0)


def test_a_server_alone_is_enough_to_declare_it_as_it_is() -> None:
    found = spec_of(replace(server(4), admin_login="somebody"))
    assert (found.nodes, found.compute.sku, found.storage.size_gb) == (4, "Standard_D4ds_v5", 128)
    assert replacements(found, replace(server(4), admin_login="somebody")) == ()


def test_one_more_service_takes_its_share_of_the_pools() -> None:
    services = [{"name": f"s{i}"} for i in range(10)]
    budget = preview(cluster([(1, MB)] * 4), 20, declared=spec(services=services)).options[0].budget
    assert budget is not None
    assert budget.pool_size == 1718 // 20 // 10
