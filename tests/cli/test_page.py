"""The report's page, read as text: complete, closed to the network and to names that would be markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.cli.report.page import render
from orchestrator.cli.report.page.charts import MOST_POINTS, lanes, thinned, ticks
from orchestrator.core.account import fold_moves
from orchestrator.core.events import MoveEnded, MoveStarted
from tests.cli.run_report import HOSTILE, document
from tests.fix_lab import Project


class Reader(HTMLParser):
    """Elements, attributes and cells; complains where an element is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(scope="module")
def page() -> Reader:
    return Reader(render(document()))


def test_the_page_tells_what_was_planned_done_measured_and_verified(page: Reader) -> None:
    for words in (
        "4 → 8", "23 of 24", "1 min 20 s", "node1.orders-production", "tenant23", "not known", "56,789", "direct",
        "A move of tenant has to wait.", "Groups planned", "02 March 2026, 22:15:00 UTC", "22,000 ", "21,000, sampled",
    ):  # fmt: skip
        assert words in page.text, words


def test_the_page_needs_no_network_and_no_script(page: Reader) -> None:
    assert {tag for tag, _ in page.seen}.isdisjoint({"script", "img", "link", "iframe", "object", "form", "input"})
    for tag, attributes in page.seen:
        assert not any(name.startswith("on") for name in attributes), tag
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    policy = next(found["content"] for tag, found in page.seen if tag == "meta" and "http-equiv" in found)
    assert policy.startswith("default-src 'none'")


def test_names_from_the_cluster_stay_text() -> None:
    plain, hostile = document(name="tenant"), document(name=HOSTILE)
    page, marked = render(plain), Reader(render(hostile))
    assert [tag for tag, _ in marked.seen] == [tag for tag, _ in Reader(page).seen]
    assert "<script>alert(1)</script>" in marked.text
    assert "\u202e" not in render(hostile)


def test_every_chart_has_a_title_a_description_and_its_numbers_in_a_table(page: Reader) -> None:
    charts = [attributes for tag, attributes in page.seen if tag == "svg"]
    named = {attributes.get("id") for tag, attributes in page.seen if tag in {"title", "desc"}}
    assert len(charts) == 3
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= named
    tags = [tag for tag, _ in page.seen]
    assert tags.count("table") == tags.count("caption") == 5
    assert {attributes.get("scope") for tag, attributes in page.seen if tag == "th"} == {"row", "col"}


def test_a_failed_run_says_so_and_what_was_not_reached() -> None:
    text = Reader(render(document(failed=True))).text
    assert "Failed" in text
    assert "rows of tenant differ" in text
    assert "Planned, but not reached" in text


def test_nothing_to_do_is_a_page_too() -> None:
    empty = document() | {"outcome": "nothing to do", "moves": [], "latency": [], "steps": [], "verification": []}
    assert "Nothing to do" in Reader(render(empty)).text


def test_moves_in_one_row_never_overlap() -> None:
    moves = document(moves=200)["moves"]
    places, count = lanes(moves)
    for row in range(count):
        mine = [move for move, place in zip(moves, places, strict=True) if place == row]
        for first, second in pairwise(mine):
            assert first["at"] + first["seconds"] <= second["at"] + 1e-6


def test_a_peak_of_the_latency_is_never_left_out() -> None:
    looks = document(looks=5000)["latency"]
    points = list(thinned(looks))
    assert len(points) <= MOST_POINTS
    assert max(look["milliseconds"] for look in points) == max(look["milliseconds"] for look in looks)


@pytest.mark.parametrize("most", [0.003, 0.9, 7, 61, 3600, 90_000])
def test_times_on_the_axis_are_few_and_within_it(most: float) -> None:
    found = ticks(most)
    assert 2 <= len(found) <= 9
    assert found[-1] <= most * (1 + 1e-6)


def test_a_move_that_never_ended_is_unfinished_and_one_that_began_between_looks_is_put_back() -> None:
    first = MoveStarted(1, 1, "a", 1, 2, 10, "auto", "job")
    second = MoveStarted(1, 2, "b", 1, 2, 10, "auto", "job")
    moves = fold_moves([(5.0, first), (6.0, second), (7.0, MoveEnded(1, 1, "done", 3.5))], 9.0)
    assert [(move.name, move.at, move.seconds, move.outcome) for move in moves] == [
        ("a", 3.5, 3.5, "done"),
        ("b", 6.0, 3.0, "unfinished"),
    ]


# --- the verb and the option ---


def test_a_report_is_rendered_again_from_json_and_from_the_last_line_of_events(project: Project) -> None:
    lines = [json.dumps({"type": "notice", "text": "x"}), json.dumps({"type": "report"} | document())]
    (project.folder / "run.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (project.folder / "run.json").write_text(json.dumps(document(), indent=2), "utf-8")
    assert project.call("report", "run.jsonl", "-o", "again.html").returncode == 0
    assert project.call("report", "run.json").returncode == 0
    first, second = (project.folder / name for name in ("again.html", "run.html"))
    assert first.read_text("utf-8") == second.read_text("utf-8") == render(document())


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("{}", ["report", "run.json"], "is not the report of a run"),
        ("not json", ["report", "run.json"], "is not the report of a run"),
        ("{}", ["report", "absent.json"], "cannot be read"),
        ("{}", ["report", "run.json", "-o", "page.pdf"], "has to end with .html or .json"),
        ("{}", ["scale-out", "--nodes", "3", "--yes", "--report", "page.txt"], "has to end with .html or .json"),
        ("{}", ["scale-out", "--nodes", "3", "--yes", "--report", "absent/page.html"], "there is no folder"),
    ],
)
def test_what_cannot_be_rendered_or_written_is_refused_beforehand(
    project: Project, content: str, arguments: list[str], said: str
) -> None:
    (project.folder / "run.json").write_text(content, "utf-8")
    run = project.call(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert not list(Path(project.folder).glob("*.html"))
