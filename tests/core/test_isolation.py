"""Which node a tenant goes to, what the plan says, what is refused; and who is hot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.checks.heat import TenantHeat, hottest, node_heats, what_if
from orchestrator.core.observed.pins import Isolation, Pin, Tenant
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.isolation import IsolationRefused, choose_node, isolation_plan, release_plan
from orchestrator.core.planning.plan import Wanted
from orchestrator.core.planning.steps import MoveShards, PinTenant, SplitTenant, VerifyCluster
from tests.core.observed import MB, cluster

WANTED = Wanted(False, False, True, moves="direct")


def heat(state: ClusterState, number: int, cpu: float, queries: int = 0) -> TenantHeat:
    group = state.shard_groups[number]
    return TenantHeat(Tenant(f"tenant{number}"), group.shard_id, group.node_id, queries, cpu, True, group.bytes)


def wish(state: ClusterState, number: int = 0, alone: bool = False) -> Isolation:
    group = state.shard_groups[number]
    return Isolation(Tenant(f"tenant{number}"), group.shard_id, group.node_id, True, group.node_id, alone)


def test_a_tenant_goes_where_others_use_the_least_processor_time_whatever_bytes_say() -> None:
    state = cluster([(1, MB), (1, MB), (2, MB), (3, 900 * MB)], nodes=3)
    heats = [heat(state, 0, 9.0), heat(state, 1, 5.0), heat(state, 2, 3.0), heat(state, 3, 0.5)]
    assert choose_node(state, wish(state), heats, None).to == 3
    assert choose_node(state, wish(state), (), None).to == 1, (
        "without counters by bytes, and a tie keeps it where it is"
    )


def test_noise_does_not_move_gigabytes() -> None:
    state = cluster([(1, MB), (2, 900 * MB)])
    assert choose_node(state, wish(state, 1), [heat(state, 0, 0.01)], None).to == 2
    assert choose_node(state, wish(state, 0), [heat(state, 1, 0.01), heat(state, 0, 8.0)], None).to == 1


def test_alone_the_fewest_bytes_move() -> None:
    """Moving 10 MB of neighbours away is less than moving 900 MB to another node, and the other way round."""
    state = cluster([(1, 900 * MB), (1, 10 * MB), (2, 500 * MB)])
    assert choose_node(state, wish(state, 0, alone=True), (), None).to == 1
    state = cluster([(1, MB), (1, 700 * MB), (2, 5 * MB)])
    assert choose_node(state, wish(state, 0, alone=True), (), None).to == 2


def test_a_node_that_another_tenant_has_for_itself_is_not_chosen() -> None:
    state = cluster([(1, MB), (1, 2 * MB), (2, MB), (3, MB)], nodes=3, pins=(Pin(Tenant("tenant2"), 2, True, 102),))
    assert choose_node(state, wish(state), (), None).to == 3
    with pytest.raises(IsolationRefused, match="another tenant is alone on node 2"):
        choose_node(state, wish(state), (), 2)
    with pytest.raises(IsolationRefused, match="no node would be left for the others"):
        choose_node(
            replace(state, nodes=state.nodes[:2], shard_groups=state.shard_groups[:2]), wish(state, 0, True), (), None
        )


def test_what_is_noted_down_wins_over_what_would_be_chosen_now() -> None:
    state = cluster([(1, MB), (1, MB)], nodes=3, pins=(Pin(Tenant("tenant0"), 3, shard_id=100),))
    assert choose_node(state, wish(state), (), None).to == 3
    assert choose_node(state, wish(state), (), 2).to == 2


def test_one_node_has_no_place_to_isolate_anybody() -> None:
    state = cluster([(1, MB)], nodes=1)
    with pytest.raises(IsolationRefused, match="only one node may hold data"):
        choose_node(state, wish(state), (), None)


def test_a_node_that_is_not_there_or_may_not_hold_data_is_refused() -> None:
    state = cluster([(1, MB)], nodes=3)
    with pytest.raises(IsolationRefused, match="there is no node 9; there are 1, 2, 3"):
        choose_node(state, wish(state), (), 9)
    shut = tuple(replace(node, should_have_shards=node.node_id != 2) for node in state.nodes)
    with pytest.raises(IsolationRefused, match="node 2 may not hold data now"):
        choose_node(replace(state, nodes=shut), wish(state), (), 2)


def test_the_plan_pins_first_and_moves_then() -> None:
    state = cluster([(1, MB), (1, MB), (2, MB), (2, MB)])
    plan = isolation_plan(state, WANTED, replace(wish(state, alone=True), to=2))
    assert [type(step) for step in plan.steps] == [PinTenant, MoveShards, VerifyCluster]
    assert {(move.shard_id, move.target) for move in plan.moves} == {(100, 2), (102, 1), (103, 1)}
    assert [step.title for step in plan.steps][:2] == [
        "pin tenant0 to node 2, alone",
        "move tenant0 to node 2, and everybody else away from there",
    ]
    assert [load.shard_groups for load in plan.after] == [3, 1]


def test_rows_that_share_a_shard_are_split_off_and_the_old_shard_is_not_missed() -> None:
    state = cluster([(1, 8 * MB), (1, MB), (2, MB)])
    rows = Isolation(Tenant("42", "app.events", 7), 100, 1, False, 2, False, ("app.events", "app.orders"))
    plan = isolation_plan(state, WANTED, rows)
    assert [type(step) for step in plan.steps] == [PinTenant, SplitTenant, MoveShards, VerifyCluster]
    assert plan.steps[1] == SplitTenant(rows.tenant, True, "auto", 8 * MB)
    assert plan.steps[-1] == VerifyCluster(2, (101, 102))
    assert plan.moves == (), "how large its part is, nobody knows yet"
    assert "in app.events, app.orders; how large it is shows then" in plan.notes[0]


def test_alone_where_it_is_those_leave_too_who_share_its_shard() -> None:
    state = cluster([(1, 8 * MB), (1, MB), (2, MB)])
    rows = Isolation(Tenant("42", "app.events", 7), 100, 1, False, 1, True, ("app.events",))
    plan = isolation_plan(state, WANTED, rows)
    assert [type(step) for step in plan.steps] == [PinTenant, SplitTenant, MoveShards, VerifyCluster]
    assert [(move.shard_id, move.target) for move in plan.moves] == [(101, 2)]
    only = isolation_plan(cluster([(1, 8 * MB), (2, MB)]), WANTED, rows)
    assert [type(step) for step in only.steps] == [PinTenant, SplitTenant, MoveShards, VerifyCluster]
    assert only.moves == ()


def test_a_rebalance_that_is_under_way_is_waited_for_first() -> None:
    from orchestrator.core.observed.state import RebalanceJob

    state = cluster([(1, MB), (1, MB)], job=RebalanceJob(3, "running"))
    plan = isolation_plan(state, WANTED, replace(wish(state), to=2))
    assert plan.steps[0].title == "follow the rebalance that is already running (job 3)"


def test_isolated_already_there_is_nothing_to_do() -> None:
    state = cluster([(1, MB), (2, MB)], pins=(Pin(Tenant("tenant1"), 2, False, 101),))
    plan = isolation_plan(state, WANTED, replace(wish(state, 1), to=2))
    assert (plan.steps, plan.notes) == ((), ("tenant1 is on node 2 and pinned there already.",))


def test_releasing_moves_nothing_and_a_slip_in_the_name_is_told() -> None:
    state = cluster([(1, MB), (2, MB)], pins=(Pin(Tenant("tenant1"), 2, False, 101),))
    plan = release_plan(state, Tenant("tenant1"))
    assert [step.title for step in plan.steps] == ["release tenant1: a rebalance may move it again"]
    assert plan.moves == ()
    slip = release_plan(state, Tenant("tenant7"))
    assert slip.steps == ()
    assert slip.notes == ("tenant7 is not pinned, so there is nothing to let go. Pinned: tenant1.",)


def test_moving_the_hottest_takes_its_work_along_and_moving_its_neighbours_leaves_it_alone() -> None:
    state = cluster([(1, MB), (1, MB), (1, MB), (2, MB), (3, MB)], nodes=3)
    heats = [heat(state, number, cpu) for number, cpu in enumerate((10.0, 4.0, 3.0, 2.0, 1.0))]
    assert [found.cpu for found in node_heats(state.nodes, state.shard_groups, heats)] == [17.0, 2.0, 1.0]
    found = what_if(state.nodes, state.shard_groups, heats, hottest(heats)[0])
    assert found.to == 3
    assert found.moved == {1: 7.0, 2: 2.0, 3: 11.0}
    assert found.alone == {1: 10.0, 2: 5.0, 3: 5.0}
    best = what_if(state.nodes, state.shard_groups, [heats[0]], heats[0])
    assert best.to is None, "no node has less beside it"
