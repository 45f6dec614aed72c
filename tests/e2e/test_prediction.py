"""What is predicted for nodes that do not exist yet, against what real Citus then answers and does."""

from __future__ import annotations

import random

import pytest

from bench.prediction import fresh
from tests.fix_lab import engines


@pytest.mark.slow
def test_a_random_cluster_grows_as_predicted() -> None:
    """New random tenants on every run; the seed is in the failure's text."""
    if not engines()["native"].available:
        pytest.skip(f"engine native: {engines()['native'].reason}")
    seed = random.randrange(10**6)
    compared = list(fresh(seed, growth=(2, 4)))
    assert [case for case in compared if not case["same"]] == [], f"seed {seed}"
    assert sum(case["moves"] for case in compared) > 0
