"""The rules against what a real Citus and PgBouncer do; the labels of the corpus are asked for again on a live lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.checks.findings import RULES
from orchestrator.lab import manager
from orchestrator.lab.home import LabHome
from tests.fix_lab import ROOT, SERVER, engines
from tests.lint.live import label
from tests.lint.measure import measure
from tests.lint.place import Place, clean, corpus, prepare

LIVE_RULES = sorted(set(RULES) - {"EC000"})


def test_precision_and_recall_stay_what_they_are() -> None:
    result = measure(corpus())
    assert result["statements"] >= 150
    assert result["held_out"]["precision"] >= 0.92
    assert result["held_out"]["recall"] >= 0.96
    assert result["held_out_before"]["1"]["precision"] >= 0.99
    assert result["held_out_before"]["1"]["recall"] >= 0.99
    assert result["held_out_before"]["2"]["precision"] >= 0.88
    assert result["held_out_before"]["2"]["recall"] >= 0.96
    assert result["seen_while_written"]["precision"] >= 0.98
    assert result["seen_while_written"]["recall"] >= 0.98


def test_every_rule_has_a_page_and_a_statement_in_the_corpus() -> None:
    labelled = {rule for entry in corpus() for rule in entry["rules"]}
    assert labelled == set(LIVE_RULES)
    for rule in RULES:
        assert (ROOT / "docs" / "lint" / f"{rule}.md").read_text("utf-8").startswith(f"# {rule} ")


@pytest.fixture(scope="module")
def place(lab_base: Path) -> Iterator[Place]:
    """The native engine: real Citus, and PgBouncer before it."""
    if not engines()["native"].available:
        pytest.skip(f"engine native: {engines()['native'].reason}")
    home = LabHome.of(ROOT, "lint", lab_base)
    running = manager.up(
        home, "native", 2, database="citus", admin_login="clusteradmin", server=SERVER, progress=lambda _: None
    )
    record = home.read()
    found = Place(running.direct, running.pooled or 0, 0, "citus", record.admin_login, record.admin_password)
    with found.connect(found.direct) as admin:
        worker = admin.execute("SELECT nodeport FROM pg_dist_node WHERE groupid <> 0 LIMIT 1").fetchone()[0]
    found = Place(running.direct, running.pooled or 0, worker, "citus", record.admin_login, record.admin_password)
    prepare(found)
    yield found
    clean(found)
    manager.down(home, delete=True, progress=lambda _: None)


def sample(rule: str) -> list[dict[str, Any]]:
    """Two statements that break the rule, and two of the same experiment that break none."""
    entries = corpus()
    broken = [entry for entry in entries if entry["rules"] == [rule]][:2]
    fine = [entry for entry in entries if not entry["rules"] and entry["probe"] == broken[0]["probe"]]
    offset = LIVE_RULES.index(rule) * 2
    return broken + (fine[offset : offset + 2] or fine[:2])


@pytest.mark.parametrize("rule", LIVE_RULES)
def test_the_engine_does_what_the_label_says(place: Place, rule: str) -> None:
    for entry in sample(rule):
        if entry["port"].endswith("pooled") and not place.pooled:
            pytest.skip("the lab has no pooled port: no pgbouncer was found")
        assert label(place, entry)[0] == entry["rules"], entry["sql"]


def test_a_block_of_plpgsql_leaves_nothing(place: Place) -> None:
    entry = next(entry for entry in corpus() if entry["sql"].startswith("DO $$"))
    assert label(place, entry)[0] == []
