"""What preflight says of the balance that can be reached: an outlier, and a base cost that hides the bytes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.core.checks.preflight import Facts, Finding
from orchestrator.core.checks.preflight_balance import balance_findings
from tests.core.observed import BY_SIZE, cluster

KB, MB, GB = 2**10, 2**20, 2**30


def facts(held: Sequence[Sequence[int | None]], base_cost: int = BY_SIZE.base_cost) -> Facts:
    """Bytes of the groups that each node holds."""
    placed = [(node, size) for node, sizes in enumerate(held, 1) for size in sizes]
    return Facts(cluster(placed, len(held), strategies=(replace(BY_SIZE, base_cost=base_cost),)), ())


def found(held: Sequence[Sequence[int | None]], base_cost: int = BY_SIZE.base_cost) -> list[Finding]:
    return list(balance_findings(facts(held, base_cost)))


def test_many_tiny_groups_are_nothing_to_speak_of() -> None:
    assert found([[16 * KB] * 500, [16 * KB] * 500]) == []


def test_a_cluster_whose_first_table_was_just_made_is_nothing_to_speak_of() -> None:
    assert found([[8 * KB], []]) == []


def test_large_groups_that_a_rebalance_spreads_are_nothing_to_speak_of() -> None:
    assert found([[GB] * 8, []]) == []


def test_a_group_larger_than_a_share_is_named_with_the_median() -> None:
    (finding,) = found([[20 * GB, 16 * KB, 16 * KB], [16 * KB] * 3])
    assert (finding.check, finding.grade) == ("outlier", "warns")
    assert finding.object.startswith("tenant0 (20 GB; the median shard group has 16 kB)")
    assert "10 GB" in finding.consequence


def test_bytes_that_the_base_cost_hides() -> None:
    (finding,) = found([[90 * MB] * 10, [MB] * 10])
    assert (finding.check, finding.grade) == ("base cost", "informs")
    assert "20 shard groups" in finding.object
    assert "100 MB" in finding.consequence
    assert "base_cost = '1MB'" in finding.fix


def test_a_lower_base_cost_ends_the_finding() -> None:
    assert found([[90 * MB] * 10, [MB] * 10], base_cost=MB) == []


def test_a_small_part_of_much_is_nothing_to_speak_of() -> None:
    """The fullest node is 1 % above the average, which is more than the base cost."""
    assert found([[50 * MB] * 1010, [50 * MB] * 990]) == []


def test_sizes_that_are_not_known_say_nothing() -> None:
    assert found([[20 * GB, None], [16 * KB]]) == []


def test_ten_thousand_groups_take_no_time() -> None:
    chance = random.Random(3)
    many = facts([[chance.randint(8 * KB, 90 * MB) for _ in range(1000)] for _ in range(10)])
    began = time.perf_counter()
    list(balance_findings(many))
    assert time.perf_counter() - began < 2
