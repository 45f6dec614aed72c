"""The decision itself, from numbers alone; and that the page about it lists every threshold as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.advice.answers import Answers
from orchestrator.core.advice.changes import changes
from orchestrator.core.advice.costs import costs
from orchestrator.core.advice.decision import amount, decide, percent
from orchestrator.core.advice.facts import Load, Table
from orchestrator.core.advice.rates import DAY, Counters, between, since_start
from orchestrator.core.advice.signals import Fit, Signals
from orchestrator.core.advice.thresholds import THRESHOLDS, Threshold, threshold
from orchestrator.core.outlook.pricing import shipped_prices
from tests.fix_lab import ROOT

SMALL = Signals(storage=100, growth=1, connections=20, cpu=4, wal=5)
GOOD = Fit("row", "tenant_id", covered=0.95, routed=0.97, joined=1.0, keys=0.6, hottest=0.05, units=500)
BEYOND = [
    {"storage": threshold("storage") + 1},
    {"connections": threshold("connections")},
    {"cpu": threshold("cpu")},
    {"wal": threshold("wal")},
    {"storage": threshold("storage") * 0.6, "growth": threshold("storage") * 0.05},
    {"saturated": "cpu"},
]
BAD = [
    {"covered": 0.79},
    {"routed": 0.89},
    {"joined": 0.5},
    {"hottest": 0.9},
    {"units": 3},
    {"routed": None},
    {"covered": None},
]


def test_the_default_is_a_flexible_server() -> None:
    advice = decide(SMALL, [GOOD], None)
    assert (advice.target, advice.nodes) == ("flexible server", 2)
    assert advice.way is not None
    assert decide(Signals(), [], None).target == "flexible server"


@pytest.mark.parametrize("beyond", BEYOND, ids=str)
def test_what_one_server_does_not_reach_needs_a_cluster(beyond: dict[str, float]) -> None:
    advice = decide(replace(SMALL, **beyond), [GOOD], None)
    assert advice.target == "elastic cluster"
    assert advice.way is not None
    assert advice.way.title == "by row, by tenant_id"


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("beyond", BEYOND[:1], ids=str)
def test_what_cannot_be_cut_stays_on_one_server(beyond: dict[str, float], bad: dict[str, float | None]) -> None:
    advice = decide(replace(SMALL, **beyond), [replace(GOOD, **bad)], None)
    assert advice.target == "flexible server"
    assert "accept the limits" in advice.reasons[-1]
    assert any("would need" in text for text in changes(advice))


def test_a_column_that_fits_is_taken_where_the_first_does_not() -> None:
    advice = decide(replace(SMALL, cpu=90), [replace(GOOD, by="id", routed=0.2), GOOD], None)
    assert advice.way is not None
    assert advice.way.fit.by == "tenant_id"


def test_growth_counts_for_a_year() -> None:
    assert decide(replace(SMALL, storage=20000, growth=500), [GOOD], None).target == "flexible server"
    assert decide(replace(SMALL, storage=20000, growth=600), [GOOD], None).target == "elastic cluster"


def test_sums_over_all_tenants_need_joins_that_stay_on_a_node_and_no_more() -> None:
    wide = replace(GOOD, routed=0.1)
    assert decide(replace(SMALL, cpu=90, analytic=0.7), [wide], None).target == "elastic cluster"
    assert decide(replace(SMALL, cpu=90, analytic=0.7), [replace(wide, joined=0.3)], None).target == "flexible server"


def test_nodes_are_as_many_as_the_furthest_signal_needs() -> None:
    assert decide(replace(SMALL, wal=threshold("wal") * 4.2), [GOOD], None).nodes == 5
    assert decide(replace(SMALL, wal=threshold("wal") * 99), [GOOD], None).nodes == 20


def test_the_distance_to_another_answer_is_said() -> None:
    said = " ".join(changes(decide(SMALL, [GOOD], None)))
    assert "Data: from 26,214 GB on (or 12 months before); 262 times what it is now, in more than 200 years" in said
    said = " ".join(changes(decide(replace(SMALL, cpu=154), [GOOD], None)))
    assert "Busy vCores at the peak that stays under 77 vCores: 2 times that now." in said
    assert "Less than 90 % of the calls give a value for tenant_id; now 97 %." in said


def test_the_cost_of_both_is_told_with_what_was_supposed() -> None:
    answers = Answers.model_validate({"server": {"sku": "Standard_D8ds_v5", "region": "westus2"}})
    advice = decide(SMALL, [GOOD], 4)
    found = costs(advice, SMALL, answers.server, None, shipped_prices())
    assert (found.cluster.nodes, found.cluster.sku) == (4, "Standard_D2ds_v5")
    before, after = found.change.before, found.change.after
    assert before.compute == pytest.approx(after.compute)
    assert before.compute == pytest.approx(8 * 0.089 * 730)
    assert any("together as many vCores" in text for text in found.assumed)
    elsewhere = Answers.model_validate({"server": {"sku": "Standard_D8ds_v5", "region": "nowhere"}})
    assert costs(advice, SMALL, elsewhere.server, None, shipped_prices()).change.missing


def test_azures_default_of_max_connections_tells_the_size() -> None:
    found = costs(decide(SMALL, [], None), SMALL, Answers().server, 3437, shipped_prices())
    assert found.flexible.sku == "Standard_D8ds_v5"


def test_growth_is_not_extrapolated_from_minutes() -> None:
    table = Table("public", "t", 1000, 10**6, grown=1000)
    begun = Counters(1000.0, 0, 0, 10**6, 0, 0, 0.0, 0.0)
    assert since_start(begun, [table], Load()).growth_bytes is None
    assert since_start(replace(begun, at=2 * DAY), [table], Load()).growth_bytes == pytest.approx(10**6 / (2 * DAY))
    later = between(begun, replace(begun, at=1010.0, wal_position=5000, bytes=10**9), Load())
    assert (later.wal_bytes, later.growth_bytes) == (500.0, None)


def shown(one: Threshold) -> str:
    return percent(one.value) if one.unit == "%" else amount(one.value, one.unit)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_the_page_lists_every_threshold_as_it_is(name: str) -> None:
    one = THRESHOLDS[name]
    row = f"| `{name}` | {shown(one)} | {one.meaning} | {one.source} |"
    assert row in (ROOT / "docs" / "advise.md").read_text().splitlines()
