"""Fixtures are plugins, one subject each; the header says what was found on this machine."""

from __future__ import annotations

pytest_plugins = ["tests.fix_arm"]
