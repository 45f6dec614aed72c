"""Previews as people and pipelines see them, from snapshots: no database and no Azure are there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.preview.markdown import LIMIT, plain
from orchestrator.cli.stack.stackfile import parse
from orchestrator.core.observed.snapshot import snapshot_text
from orchestrator.core.observed.state import ClusterState, ShardGroup
from tests.cli.test_views import golden
from tests.core.observed import GB, MB, cluster, timing
from tests.fix_lab import Project

PLACED = [(i % 2 + 1, (i % 5 + 1) * 60 * MB) for i in range(16)]
STACK = """\
config:
  elastic-cluster:name: contoso
  elastic-cluster:resourceGroup: rg
  elastic-cluster:location: westus2
  elastic-cluster:nodes: 8
  elastic-cluster:compute: {sku: Standard_D4ds_v5, tier: GeneralPurpose}
  elastic-cluster:database: citus
"""


def save(project: Project, state: ClusterState) -> str:
    path = project.folder / "snapshot.json"
    path.write_text(snapshot_text(state, "2026-11-28T10:00:00+00:00"), "utf-8")
    return str(path)


def preview(project: Project, state: ClusterState, *options: str, code: int = 0) -> str:
    run = project.call("preview", "--snapshot", save(project, state), *options)
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    return run.stdout if code in {0, 10, 11, 12} else run.stderr


def document(project: Project, state: ClusterState, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(preview(project, state, "--format", "json", *options))
    return found


def test_text_and_markdown(project: Project) -> None:
    state = cluster(PLACED, timings=(timing(),))
    golden("preview.txt", preview(project, state, "--nodes", "4", "--target-storage-percent", "1").splitlines())
    golden("preview.md", preview(project, state, "--nodes", "4", "--format", "markdown").splitlines())
    golden("what-if.txt", preview(project, state, "--what-if", "4,6,8").splitlines())
    golden("what-if.md", preview(project, state, "--what-if", "4,8", "--format", "markdown").splitlines())


def test_json_has_everything_that_a_pipeline_needs(project: Project) -> None:
    option = document(project, cluster(PLACED), "--nodes", "4")["options"][0]
    assert option["verdict"]["kind"] == "improves"
    assert option["moved_bytes"] == sum(move["bytes"] for move in option["moves"])
    assert option["seconds"]["low"] < option["seconds"]["likely"] < option["seconds"]["high"]
    assert option["cost"]["ratio"] == pytest.approx(2)
    assert option["cost"]["after"]["total"] == pytest.approx(4 * (4 * 0.089 * 730 + 128 * 0.115))
    assert (option["connections_before"]["clients"], option["connections"]["clients"]) == (859, 429)


def test_both_strategies_and_several_counts(project: Project) -> None:
    for strategy in ("by_disk_size", "by_shard_count"):
        found = document(project, cluster(PLACED), "--what-if", "4,6,8,12", "--strategy", strategy)
        assert [option["nodes"] for option in found["options"]] == [4, 6, 8, 12]
        assert found["strategy"] == strategy


def test_without_a_count_the_stack_file_decides(project: Project) -> None:
    (project.folder / "stacks" / "Pulumi.pr.yaml").write_text(STACK, "utf-8")
    found = document(project, cluster(PLACED), "--stack", "pr")
    assert [option["nodes"] for option in found["options"]] == [8]
    assert found["replacements"] == []


def test_prices_from_a_file_and_from_the_stack_file(project: Project) -> None:
    region = {"source": "ours", "date": "2026-01-01", "compute_hour": {"Ddsv5": 1}, "storage_gb_month": 0}
    file = project.folder / "stacks" / "prices.json"
    file.write_text(json.dumps({"schema": 1, "currency": "CHF", "regions": {"westus2": region}}), "utf-8")
    (project.folder / "stacks" / "Pulumi.pr.yaml").write_text(
        STACK + "  elastic-cluster:prices: prices.json\n", "utf-8"
    )
    for options in (("--prices", str(file)), ("--stack", "pr")):
        cost = document(project, cluster(PLACED), "--nodes", "4", *options)["options"][0]["cost"]
        assert (cost["currency"], cost["after"]["total"]) == ("CHF", 4 * 4 * 730)


def test_an_unknown_price_is_said_and_the_ratio_shown(project: Project) -> None:
    file = project.folder / "prices.json"
    file.write_text('{"schema": 1, "currency": "EUR", "regions": {}}', "utf-8")
    text = preview(project, cluster(PLACED), "--nodes", "4", "--prices", str(file))
    assert "x 2.00 of today's; no price for compute Standard_D4ds_v5 in westus2, storage in westus2" in text


WORSE = [(1, 1 * MB)] * 12 + [(1, 30 * MB)] * 4 + [(2, 60 * MB)] * 4


@pytest.mark.parametrize(
    ("placed", "conditions", "code", "said"),
    [
        (PLACED, "worse", 0, ""),
        (PLACED, "cost>100%", 0, ""),
        (PLACED, "cost>20%", 11, "4 nodes cost +100 %"),
        (PLACED, "replace,cost>99.5%", 11, "4 nodes cost +100 %"),
    ],
)
def test_gates(project: Project, placed: Sequence[tuple[int, int]], conditions: str, code: int, said: str) -> None:
    run = project.call("preview", "--snapshot", save(project, cluster(placed)), "--nodes", "4", "--fail-on", conditions)
    assert (run.returncode, said in run.stderr) == (code, True)


def test_the_gate_for_worse_bytes(project: Project) -> None:
    state = cluster(WORSE)
    assert "Better, as predicted" in preview(project, state, "--nodes", "2", "--fail-on", "worse", code=10)


def test_the_gate_for_a_new_server_and_for_a_cost_that_is_not_known(project: Project) -> None:
    stack = STACK.replace("westus2", "norwayeast").replace("D4ds", "D8ds")
    (project.folder / "stacks" / "Pulumi.pr.yaml").write_text(stack, "utf-8")
    text = preview(project, cluster(PLACED), "--stack", "pr", "--fail-on", "replace,cost>20%", code=12)
    assert "Needs a new, empty server: location: westus2 -> norwayeast" in text
    preview(project, cluster(PLACED), "--stack", "pr", "--fail-on", "cost>20%,replace", code=11)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--nodes", "0"), "at least 2"),
        (("--nodes", "-3"), "at least 2"),
        (("--nodes", "21"), "at most 20"),
        (("--nodes", "99999999999999999999"), "at most 20"),
        (("--what-if", "4,,8"), "'nothing' is not a number of nodes"),
        (("--what-if", "4,x"), "'x' is not a number of nodes"),
        (("--what-if", ""), "is not a number of nodes"),
        (("--what-if", "4", "--nodes", "4"), "exclude each other"),
        (("--nodes", "4", "--fail-on", "cheaper"), "not a condition"),
        (("--nodes", "4", "--strategy", "nosuch"), "no rebalance strategy"),
        (("--nodes", "4", "--prices", "none.json"), "cannot be read"),
        (("--nodes", "4", "--target-storage-percent", "0"), "0"),
    ],
)
def test_bad_options_are_a_sentence(project: Project, options: tuple[str, ...], said: str) -> None:
    assert said in preview(project, cluster(PLACED), *options, code=2)


def test_fewer_nodes_are_refused_alone_and_remarked_among_others(project: Project) -> None:
    state = cluster(PLACED, nodes=4)
    assert "cannot lose nodes" in preview(project, state, "--nodes", "2", code=2)
    assert "Not possible: " in preview(project, state, "--what-if", "2,4,8")


def test_a_snapshot_that_is_missing_or_not_text(project: Project) -> None:
    (project.folder / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "binary"):
        run = project.call("preview", "--snapshot", name, "--nodes", "4")
        assert run.returncode == 2
        assert "cannot be read" in run.stderr


def test_a_snapshot_without_a_server_needs_a_stack_file(project: Project) -> None:
    assert "--stack" in preview(project, cluster(PLACED, server=None), "--nodes", "4", code=2)
    (project.folder / "stacks" / "Pulumi.pr.yaml").write_text(STACK, "utf-8")
    preview(project, cluster(PLACED, server=None), "--nodes", "4", "--stack", "pr")


@pytest.mark.parametrize("placed", [[], [(1, 900 * GB)], [(1, 0)], [(1, 2**59), (2, 1)], [(1, None), (2, 5)]])
@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_strange_clusters_get_an_answer(project: Project, placed: list[tuple[int, int | None]], form: str) -> None:
    options = ("--nodes", "8", "--target-storage-percent", "80", "--format", form)
    assert preview(project, cluster(placed), *options)


def test_one_giant_group_is_recommended_larger_storage(project: Project) -> None:
    text = preview(project, cluster([(1, 900 * GB), (2, GB)]), "--nodes", "4", "--target-storage-percent", "80")
    assert "tenant0 alone is 900 GB, more than 80 % of 128 GB; choose larger storage" in text


@pytest.mark.parametrize(
    "options",
    [("--nodes", "20"), pytest.param(("--what-if", "4,6,8,10,12,14,16,18,20"), marks=pytest.mark.slow)],
    ids=["nodes", "what-if"],
)
def test_the_page_for_five_thousand_services_stays_under_githubs_limit(
    project: Project, options: tuple[str, str]
) -> None:
    long = "s" * 63
    state = cluster([])
    groups = tuple(
        ShardGroup(i, i, i % 2 + 1, i * 1000, (f"{long}{i}.t",), f"{long[: 63 - len(str(i))]}{i}")
        for i in range(1, 5001)
    )
    page = preview(project, replace_groups(state, groups), "--format", "markdown", *options)
    assert len(page) < LIMIT < 65_536
    assert page.splitlines()[1].startswith("###")
    assert page.count("<details>") == page.count("</details>")


def replace_groups(state: ClusterState, groups: tuple[ShardGroup, ...]) -> ClusterState:
    return ClusterState(state.server, state.citus_version, state.server_version, state.nodes, groups, state.strategies)


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_thousands_of_services_get_a_preview_in_seconds(project: Project, count: int) -> None:
    groups = tuple(ShardGroup(i, i, i % 2 + 1, i % 7 * MB, (f"s{i}.t",), f"s{i}") for i in range(1, count + 1))
    path = save(project, replace_groups(cluster([]), groups))
    start = time.process_time()
    run = project.call("preview", "--snapshot", path, "--nodes", "20", "--format", "markdown")
    assert run.returncode == 0, run.stderr
    assert time.process_time() - start < count / 5_000
    assert len(run.stdout) < LIMIT


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", "@everyone", "[x](http://evil)", "`code`", "www.evil.example", "x\ny"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    shown = plain(name)
    assert not re.search(r"[|<>@`\[\]\n]|://|www\.", shown)


def test_the_new_key_is_part_of_the_stack_file() -> None:
    assert parse(STACK + "  elastic-cluster:prices: prices.json\n", "x").prices == "prices.json"


def test_goldens_are_no_accident() -> None:
    """The page's first lines say the verdict."""
    page = (Path(__file__).parent / "golden" / "preview.md").read_text("utf-8").splitlines()
    assert re.match(r"### . 2 → 4 nodes: improves", page[1])
