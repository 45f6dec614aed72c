"""Client connections of a node shrink as nodes are added; the values that keep today's are named."""

from __future__ import annotations

import pytest

from orchestrator.core.outlook.connections import Pools, budget, max_connections


@pytest.mark.parametrize(
    ("sku", "tier", "number"),
    [
        ("Standard_D2ds_v5", "GeneralPurpose", 859),
        ("Standard_D4ds_v5", "GeneralPurpose", 1718),
        ("Standard_D64ds_v5", "GeneralPurpose", 5000),
        ("Standard_E4ads_v5", "MemoryOptimized", 3437),
        ("Standard_D3ds_v5", "GeneralPurpose", None),
        ("Standard_B2s", "Burstable", None),
        ("strange", "GeneralPurpose", None),
    ],
)
def test_the_limit_of_a_compute_size(sku: str, tier: str, number: int | None) -> None:
    assert max_connections(sku, tier, {}) == number


def test_four_times_the_nodes_leave_a_quarter_of_the_client_connections() -> None:
    found = budget(8, 2, "Standard_D4ds_v5", "GeneralPurpose", {}, None)
    assert found is not None
    assert found.clients == 1718 // 8
    assert found.keep == (("citus.max_client_connections", str(1718 // 2)),)
    assert "citus.max_client_connections = 859" in found.note


def test_a_number_that_was_set_does_not_shrink() -> None:
    found = budget(8, 2, "Standard_D4ds_v5", "GeneralPurpose", {"citus.max_client_connections": "300"}, None)
    assert found is not None
    assert (found.clients, found.keep, found.note) == (300, (), "")


def test_pools_that_no_longer_fit_are_told_with_the_size_that_does() -> None:
    found = budget(8, 2, "Standard_D4ds_v5", "GeneralPurpose", {}, Pools(10, 50))
    assert found is not None
    assert found.pool_size == 21
    assert "10 x 50 = 500" in found.note
    fits = budget(2, 2, "Standard_D4ds_v5", "GeneralPurpose", {}, Pools(10, 50))
    assert fits is not None
    assert (fits.pool_size, fits.note) == (50, "")
