"""How evenly the values of a column would fill Citus' shards. Pure.

Citus gives shard i of n the hash values from -2^31 + i * (2^32 / n) on (`create_distributed_table`, hash distribution).
The most common values are placed by their own hash, as PostgreSQL computed it. Of all other values only their number
is known: they are taken to be alike, and the fullest of n shards then holds about m + sqrt(2 m ln n) of k values with
m = k / n, which is the usual bound for balls thrown into bins.
"""

from __future__ import annotations

import math
from collections import defaultdict

from orchestrator.core.advice.facts import Column

SHARDS = 32  # citus.shard_count, its default


def shard_of(value: int, shards: int = SHARDS) -> int:
    """The shard of a 32-bit hash; the last one takes what the division leaves over."""
    return min((value + 2**31) // (2**32 // shards), shards - 1)


def hottest_shard(column: Column, shards: int = SHARDS) -> float | None:
    """The fullest shard's share of the rows; None without statistics."""
    if column.distinct is None or column.distinct < 1:
        return None
    known = [common for common in column.common if common.hash is not None]
    rest = max(0.0, 1 - sum(common.share for common in known) - (column.nulls or 0))
    others = max(column.distinct - len(known), 0.0)
    bins: dict[int, float] = defaultdict(float)
    for common in known:
        bins[shard_of(common.hash or 0, shards)] += common.share
    if others < 1:
        return max(bins.values(), default=1.0)
    fullest_common = max(bins.values(), default=0.0) + rest / shards
    mean_common = sum(bins.values()) / shards
    return min(1.0, max(fullest_common, mean_common + _fullest(rest, others, shards)))


def _fullest(rest: float, values: float, shards: int) -> float:
    mean = values / shards
    return rest * max(1.0, min(values, mean + math.sqrt(2 * mean * math.log(shards)))) / values
