"""Monthly cost: right where prices are known, said to be unknown where they are not, and never negative."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.outlook.pricing import (
    PriceList,
    PricesRefused,
    Shape,
    cost_change,
    monthly,
    parse_prices,
    prices_text,
    shipped_prices,
)

FILE: dict[str, Any] = {
    "schema": 1,
    "currency": "EUR",
    "regions": {
        "northeurope": {
            "source": "negotiated",
            "date": "2026-10-01",
            "compute_hour": {"Ddsv5": 0.1, "Standard_D8ds_v5": 0.6, "Standard_B2s": 0.05},
            "storage_gb_month": 0.1,
            "iops_month": 0.02,
            "backup_gb_month": 0.1,
        },
        "westeurope": {"source": "with gaps", "date": "2026-10-01", "storage_gb_month": 0.1},
    },
}
SHAPE = Shape(4, "Standard_D4ds_v5", "northeurope", 128, None, standby=False)


def prices(**changes: Any) -> PriceList:
    return parse_prices(json.dumps(FILE | changes), "prices.json")


def test_nodes_times_compute_and_storage() -> None:
    cost = monthly(SHAPE, prices())
    assert cost.compute == pytest.approx(4 * 4 * 0.1 * 730)
    assert cost.storage == pytest.approx(4 * 128 * 0.1)
    assert cost.total == pytest.approx(4 * (292 + 12.8))


def test_a_standby_is_billed_like_its_node() -> None:
    single, double = monthly(SHAPE, prices()), monthly(replace(SHAPE, standby=True), prices())
    assert double.total == pytest.approx(2 * (single.total or 0))


def test_a_size_with_a_price_of_its_own_wins_over_its_series() -> None:
    assert monthly(replace(SHAPE, sku="Standard_D8ds_v5"), prices()).compute == pytest.approx(4 * 0.6 * 730)
    assert monthly(replace(SHAPE, sku="Standard_B2s"), prices()).compute == pytest.approx(4 * 0.05 * 730)


def test_only_iops_beyond_those_of_the_storage_cost() -> None:
    assert monthly(replace(SHAPE, iops=500), prices()).iops == 0
    assert monthly(replace(SHAPE, iops=600), prices()).iops == pytest.approx(4 * 100 * 0.02)


def test_backups_are_free_up_to_the_storage_of_all_nodes() -> None:
    assert monthly(replace(SHAPE, backup_gb=4 * 128), prices()).backup == 0
    assert monthly(replace(SHAPE, backup_gb=600), prices()).backup == pytest.approx((600 - 4 * 128) * 0.1)


def test_more_nodes_keep_more_backups_free() -> None:
    before = replace(SHAPE, backup_gb=600)
    change = cost_change(before, replace(before, nodes=8), prices())
    assert change.after.backup == 0
    assert change.ratio is not None
    assert change.ratio < 2


def test_backups_beyond_what_is_free_need_a_price() -> None:
    before = replace(SHAPE, location="westeurope", backup_gb=600)
    change = cost_change(before, replace(before, nodes=8), prices())
    assert "backups in westeurope" in change.missing
    assert change.ratio is None, "backups do not grow with the nodes"


def test_an_unknown_price_gives_the_ratio_and_says_what_is_missing() -> None:
    before = replace(SHAPE, location="westeurope")
    change = cost_change(before, replace(before, nodes=8, standby=True), prices())
    assert change.after.total is None
    assert change.ratio == pytest.approx(4.0)
    assert change.missing == ("compute Standard_D4ds_v5 in westeurope",)


def test_without_prices_another_size_has_no_ratio() -> None:
    before = replace(SHAPE, location="nowhere")
    assert cost_change(before, replace(before, sku="Standard_E8ds_v5"), prices()).ratio is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"regions": {"x": {"source": "s", "date": "2026-10-01", "storage_gb_month": -1}}},
            "regions.x.storage_gb_month",
        ),
        ({"regions": {"x": {"source": "s", "date": "yesterday"}}}, "regions.x.date"),
        ({"regions": {"x": {"date": "2026-10-01"}}}, "regions.x.source"),
        ({"regions": {"x": {"source": "s", "date": "2026-10-01", "compute": {}}}}, "regions.x.compute"),
        ({"regions": {"x": {"source": "s", "date": "2026-10-01", "compute_hour": {"D": 1e99}}}}, "compute_hour"),
        ({"currency": "euro"}, "currency"),
        ({"schema": 2}, "schema 2"),
        ({"regions": []}, "regions"),
    ],
)
def test_a_price_file_that_is_wrong_is_refused_with_the_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PricesRefused, match=said):
        prices(**change)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1'])
def test_what_is_no_price_file_is_refused(text: str) -> None:
    with pytest.raises(PricesRefused):
        parse_prices(text, "prices.json")


def test_the_included_prices_are_dated_and_name_their_source() -> None:
    for region in shipped_prices().regions.values():
        assert region.source
        assert region.date >= "2026"


def test_what_is_written_can_be_read() -> None:
    assert parse_prices(prices_text(prices()), "again") == prices()
