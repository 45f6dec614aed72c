"""What people see of hot tenants and pins."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.cli.tenants.views import pin_lines, tenant_lines, tenants_json
from orchestrator.core.checks.heat import Reading, TenantHeat
from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.observed.state import ClusterState
from tests.core.observed import MB, cluster

ROWS = Tenant("it's 42", 'app."My Events"', 7)


def busy() -> tuple[ClusterState, Reading]:
    state = cluster([(1, MB), (1, MB), (2, MB)], nodes=3, pins=(Pin(Tenant("tenant2"), 2, True, 102),))
    heats = (
        TenantHeat(ROWS, 100, 1, 9000, 30.0, False, MB),
        TenantHeat(Tenant("tenant1"), 101, 1, 100, 10.0, True, MB),
        TenantHeat(Tenant("tenant2"), 102, 2, 50, 2.0, True, MB),
    )
    return state, Reading(True, 60, heats, {1: 7, 2: 0, 3: 0})


def text(state: ClusterState, reading: Reading, azure: float | None = None, top: int = 10) -> str:
    return "\n".join(tenant_lines("prod", state, reading, azure, top))


def test_who_makes_which_node_hot_and_what_moving_it_would_bring() -> None:
    shown = text(*busy(), azure=83.0)
    assert "node 1   10.7.0.254:7000     40.0 s cpu      9100 queries  ████████████████████████" in shown
    assert "2 groups, 2048 kB, 7 sessions at work" in shown
    assert "Azure: processors of the busiest node 83 % busy" in shown
    assert "75% of its node, 71% of all; in a shard of 1024 kB with others" in shown
    assert "tenant2" in shown
    assert "1024 kB, pinned" in shown
    assert "Hottest node now: 40.0 s cpu." in shown
    # Node 2 is tenant2's own, so the third is the only place to go.
    assert "to node 3: hottest node 30.0 s cpu (node 1 10.0, node 2 2.0, node 3 30.0)" in shown
    assert "moving its neighbours away instead: hottest node 30.0 s cpu" in shown


def test_the_command_that_is_offered_can_be_pasted_into_a_shell() -> None:
    assert """`orchestrator isolate 'it'"'"'s 42' --table 'app."My Events"'` does the first""" in text(*busy())


def test_where_nothing_is_counted_it_says_how_to_turn_that_on() -> None:
    state, reading = busy()
    shown = text(state, replace(reading, tracked=False, tenants=()))
    assert "`orchestrator tenants --track all`" in shown
    assert "az postgres flexible-server parameter set --name citus.stat_tenants_track --value all" in shown
    assert "Hottest" not in shown


def test_a_quiet_minute_gives_no_advice() -> None:
    state, reading = busy()
    calm = tuple(replace(heat, cpu=heat.cpu / 1000) for heat in reading.tenants)
    shown = text(state, replace(reading, tenants=calm))
    assert "0.03 s cpu" in shown
    assert "As predicted" not in shown


def test_only_the_hottest_are_shown() -> None:
    assert "tenant1  " not in text(*busy(), top=1)


def test_pins_say_where_their_tenants_are() -> None:
    state, _ = busy()
    pins = (
        Pin(Tenant("tenant2"), 2, True, 102),
        Pin(Tenant("tenant1"), 3, False, 101),
        Pin(ROWS, 3, False, None),
    )
    assert pin_lines(replace(state, pins=pins)) == [
        "  pinned: tenant2 to node 2, alone",
        "  pinned: tenant1 to node 3  (is on node 1 still: run the same isolate, or a rebalance)",
        """  pinned: it's 42 of app."My Events" to node 3"""
        "  (has no shard of its own now: isolate it again, or --release it)",
    ]


def test_json_has_every_tenant_and_what_is_predicted_for_it() -> None:
    state, reading = busy()
    document = tenants_json("prod", state, reading, None)
    assert [found["tenant"] for found in document["tenants"]] == ["it's 42", "tenant1", "tenant2"]
    first = document["tenants"][0]
    assert (first["table"], first["own_shard"], first["emptiest_node"]) == ('app."My Events"', False, 3)
    assert max(first["cpu_seconds_if_moved"].values()) == 30.0
    assert document["pins"] == [{"tenant": "tenant2", "table": None, "node_id": 2, "alone": True, "on_node": 2}]
    assert document["nodes"][0] == {
        "node_id": 1, "cpu_seconds": 40.0, "queries": 9100, "tenants": 2, "shard_groups": 2, "bytes": 2 * MB,
        "sessions": 7,
    }  # fmt: skip
