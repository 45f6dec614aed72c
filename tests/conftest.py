"""Fixtures are plugins, one subject each; the header says what was found on this machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

pytest_plugins = [
    "tests.fix_arm",
    "tests.fix_lab",
    "tests.fix_plain",
    "tests.fix_project",
    "tests.fix_pulumi",
    "tests.fix_sandbox",
    "tests.fix_services",
    "tests.fix_slow",
    "tests.fix_standin",
]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each reason to skip, however many tests had it."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")
