"""What runs, and in which order: tests marked slow only with --everything; those that start servers come first.

Files are handed out whole, one after the other: with the long ones first no process is left alone with one at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LONGEST_FIRST = ("e2e", "infra", "ci", "lab", "clients", "bench", "lint", "advice")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "end-to-end tests run on every engine that is here, and tests that are marked slow run too"
    parser.addoption("--everything", action="store_true", help=text)


def pytest_report_header(config: pytest.Config) -> str:
    if config.getoption("--everything"):
        return "all tests, end-to-end ones on every engine"
    return "left to `make test-all`: tests marked slow, and end-to-end tests on other engines than the best one"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--everything"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: `make test-all` runs it"))
    items.sort(key=lambda item: _turn(item.path))


def _turn(path: Path) -> int:
    folder = path.relative_to(ROOT).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
