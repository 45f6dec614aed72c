"""Clients are tested against every engine that this machine has."""

from __future__ import annotations

import pytest

from tests.fix_lab import Cluster


@pytest.fixture(scope="session")
def cluster(lab_cluster: Cluster) -> Cluster:
    return lab_cluster
