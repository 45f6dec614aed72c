"""The report's page in a real browser: Chromium, without a network, light and dark, on paper, small, by keyboard."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.report.page import render
from tests.cli.run_report import HOSTILE, document

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ARGUMENTS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package `chromium`)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not work for root.
    arguments = [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else ARGUMENTS
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, made in {
        "plain": document(),
        "big": document(8, 20, 1000, 4000),
        "hostile": document(name=HOSTILE),
        "failed": document(failed=True),
    }.items():
        (folder / f"{name}.html").write_text(render(made), "utf-8")
    return folder


def visit(browser: Any, pages: Path, name: str, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.told = []
    page.on("request", lambda request: page.told.append(request.url))
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("dialog", lambda dialog: page.told.append(dialog.message))
    page.goto((pages / f"{name}.html").as_uri())
    return page


@pytest.mark.parametrize("name", ["plain", "big", "hostile", "failed"])
def test_it_asks_for_nothing_but_itself_and_complains_of_nothing(browser: Any, pages: Path, name: str) -> None:
    page = visit(browser, pages, name)
    assert page.told == [(pages / f"{name}.html").as_uri()]
    page.close()


@pytest.mark.parametrize(("name", "scheme"), [("plain", "light"), ("failed", "dark")])
def test_axe_finds_no_violation(browser: Any, pages: Path, name: str, scheme: str) -> None:
    """WCAG 2.2 A and AA, with best practices; contrast included. Everything that folds is unfolded for it."""
    from axe_playwright_python.sync_playwright import Axe

    # The page's own policy forbids what axe brings with it.
    page = visit(browser, pages, name, color_scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    page.close()


def test_it_can_be_read_with_the_keyboard_alone(browser: Any, pages: Path) -> None:
    page = visit(browser, pages, "big")
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.id") == "main"
    stops = []
    for _ in range(20):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(f"{focused}.getAttribute('aria-label') || {focused}.textContent"))
        if stops[-1] == "All 1,000 moves":
            break
    assert "Chart of the placement" in stops
    assert "Placement by node" in stops
    page.keyboard.press("Enter")
    assert page.locator("th", has_text="tenant999").is_visible()
    page.close()


@pytest.mark.parametrize("name", ["plain", "big"])
def test_a_narrow_window_scrolls_down_only(browser: Any, pages: Path, name: str) -> None:
    page = visit(browser, pages, name, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


def test_paper_is_white_and_nothing_is_cut_off(browser: Any, pages: Path) -> None:
    page = visit(browser, pages, "big", color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    # The width of A4 within the margins, at 96 dots an inch.
    page.set_viewport_size({"width": 680, "height": 960})
    assert page.evaluate("document.documentElement.scrollWidth") == 680
    printed = page.pdf(format="A4")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8
    page.close()


def test_names_that_are_markup_are_shown_as_they_are(browser: Any, pages: Path) -> None:
    page = visit(browser, pages, "hostile")
    assert page.title().startswith("scale-out of <script>alert(1)</script>")
    assert page.locator("img").count() == 0
    page.close()


def test_a_thousand_moves_and_twenty_nodes_are_all_in_the_charts(browser: Any, pages: Path) -> None:
    page = visit(browser, pages, "big")
    chart = page.locator("svg[aria-labelledby^=timeline]")
    assert chart.locator("rect.blocking, rect.logical, rect.failed").count() == 1000
    box = chart.bounding_box()
    assert box["height"] < 1000
    assert page.locator("svg[aria-labelledby^=placement] rect.is").count() == 20
    page.close()
