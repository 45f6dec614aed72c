"""Ranking of distribution columns: what a candidate's shares are, and that a better share never lowers its rank."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.advice.candidates import WEIGHTS, rank, score
from orchestrator.core.advice.facts import Class, Column, Common, Database, ForeignKey, Key, Query, Table, Usage
from orchestrator.core.advice.spread import SHARDS, hottest_shard, shard_of

SHARES = st.floats(0, 1)
KNOWN = st.fixed_dictionaries({name: st.none() | SHARES for name in WEIGHTS})


@given(KNOWN, st.sampled_from(sorted(WEIGHTS)), SHARES, st.none() | st.floats(0.001, 1), st.integers(2, 20))
def test_a_better_share_never_lowers_the_score(
    shares: dict[str, float | None], name: str, better: float, hottest: float | None, nodes: int
) -> None:
    old = shares[name]
    if old is None or better < old:
        return
    assert score({**shares, name: better}, hottest, nodes) >= score(shares, hottest, nodes) - 1e-12


@given(KNOWN, st.floats(0.001, 1), st.floats(0.001, 1), st.integers(2, 20))
def test_more_skew_never_raises_the_score(
    shares: dict[str, float | None], one: float, other: float, nodes: int
) -> None:
    assert score(shares, max(one, other), nodes) <= score(shares, min(one, other), nodes) + 1e-12
    assert 0 <= score(shares, one, nodes) <= 1


def usage(title: str, column: str, calls: int) -> Usage:
    return Usage(f"{column}", calls, 1.0, queries=(Query({"t": title}, (Class(frozenset({("t", column)}), True),)),))


def table(name: str, *columns: str, key: tuple[str, ...] = ("id",), size: int = 1000) -> Table:
    made = tuple(Column(column, "bigint", True, 1000.0, 0.0) for column in columns)
    return Table("public", name, 1000, size, made, (Key(f"{name}_pkey", key, True),))


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=2, max_size=6),
    st.permutations(range(6)),
    st.data(),
)
def test_the_order_of_what_was_read_does_not_matter(
    numbers: list[tuple[int, int]], order: list[int], data: st.DataObject
) -> None:
    tables = [table(f"t{i}", "id", "a", "b", size=size) for i, (size, _) in enumerate(numbers)]
    usages = [usage(f"public.t{i}", data.draw(st.sampled_from("ab")), calls) for i, (_, calls) in enumerate(numbers)]
    mixed = [tables[i] for i in order if i < len(tables)], [usages[i] for i in order if i < len(usages)]
    plain = rank(Database("d", "17", 0, tuple(tables), tuple(usages)), 4)
    other = rank(Database("d", "17", 0, tuple(mixed[0]), tuple(mixed[1])), 4)
    assert [(one.name, round(one.score, 9)) for one in plain] == [(one.name, round(one.score, 9)) for one in other]


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_of_two_columns_alike_the_one_that_more_calls_give_a_value_for_is_first(some: int, more: int) -> None:
    tables = (table("one", "id", "a", "b"), table("two", "id", "a", "b"))
    usages = (usage("public.one", "a", some + more + 1), usage("public.two", "b", some))
    assert rank(Database("d", "17", 0, tables, usages), 4)[0].name == "a"


def test_a_tables_own_number_is_not_another_tables() -> None:
    found = rank(Database("d", "17", 0, (table("one", "id"), table("two", "id"))), 4)
    assert [sorted(one.columns) for one in found] == [["public.one"], ["public.two"]]


def test_a_foreign_key_says_that_columns_are_the_same() -> None:
    child = replace(
        table("items", "id", "customer"), foreign_keys=(ForeignKey("f", ("customer",), "public.customers", ("id",)),)
    )
    found = {one.name: one for one in rank(Database("d", "17", 0, (child, table("customers", "id"))), 4)}
    assert dict(found["customer"].columns) == {"public.items": "customer", "public.customers": "id"}


def test_a_join_to_a_whole_key_says_so_too() -> None:
    join = Query(
        {"i": "public.items", "c": "public.customers"}, (Class(frozenset({("i", "who"), ("c", "id")}), False),)
    )
    database = Database(
        "d", "17", 0, (table("items", "id", "who"), table("customers", "id")), (Usage("j", 5, 1.0, queries=(join,)),)
    )
    found = next(one for one in rank(database, 4) if "public.customers" in one.columns)
    assert found.columns["public.items"] == "who"
    assert (found.joined, found.routed) == (1.0, 0.0)


def test_a_table_with_nulls_in_the_column_needs_it_first() -> None:
    holes = replace(table("holes", "id"), columns=(Column("tenant", "bigint", False, 10.0, 0.2),), bytes=5000)
    found = rank(Database("d", "17", 0, (table("whole", "id", "tenant", key=("tenant", "id")), holes)), 4)
    tenant = next(one for one in found if one.name == "tenant")
    assert tenant.others == ("public.holes",)


def test_dates_are_no_candidates() -> None:
    dated = replace(table("t", "id"), columns=(Column("day", "date", True, 100.0, 0.0),))
    assert rank(Database("d", "17", 0, (dated,), (usage("public.t", "day", 5),)), 4) == ()


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_hash_has_a_shard(value: int) -> None:
    assert 0 <= shard_of(value) < SHARDS


def test_shards_are_as_wide_as_those_of_citus() -> None:
    """pg_dist_shard of a table with 32 shards: the first begins at -2147483648, the second at -2013265920."""
    assert shard_of(-2147483648) == shard_of(-2013265921) == 0
    assert shard_of(-2013265920) == 1
    assert shard_of(2147483647) == 31


@pytest.mark.parametrize("values", [100, 1000, 20000])
def test_the_fullest_shard_of_many_alike_values(values: int) -> None:
    """Against values that are really thrown into shards: within a quarter of it."""
    import random

    seeded = random.Random(7)
    shares = []
    for _ in range(30):
        counts = Counter(seeded.randrange(SHARDS) for _ in range(values))
        shares.append(max(counts.values()) / values)
    mean = sum(shares) / len(shares)
    predicted = hottest_shard(Column("c", "bigint", True, float(values), 0.0))
    assert predicted is not None
    assert math.isclose(predicted, mean, rel_tol=0.25)


def test_a_value_with_half_of_the_rows_makes_a_shard_with_half_of_them() -> None:
    column = Column("c", "bigint", True, 1000.0, 0.0, (Common(0.5, 1234567),))
    found = hottest_shard(column)
    assert found is not None
    assert 0.5 <= found < 0.53


def test_a_column_with_one_value_fills_one_shard() -> None:
    assert hottest_shard(Column("c", "bigint", True, 1.0, 0.0, (Common(1.0, 5),))) == 1.0
    assert hottest_shard(Column("c", "bigint", True)) is None
