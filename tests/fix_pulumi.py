"""Pulumi's CLI, where this machine has it: tests with the real engine skip where it has not."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def pulumi_cli() -> Path | None:
    """The CLI on PATH, else the one that `make pulumi` builds."""
    found = shutil.which("pulumi")
    built = ROOT / ".tools" / "pulumi"
    return Path(found) if found else built if built.is_file() else None


@cache
def lacking() -> str:
    """Why the real engine cannot run here; empty where it can."""
    if find_spec("pulumi") is None or find_spec("pulumi_azure_native") is None:
        return "the Pulumi SDK is not installed: pip install '.[infra]'"
    if pulumi_cli() is None:
        return "the pulumi CLI is neither on PATH nor built: make pulumi"
    return ""


def pytest_report_header() -> str:
    if lacking():
        return f"pulumi not used: {lacking()}"
    version = subprocess.run([str(pulumi_cli()), "version"], capture_output=True, text=True, check=False)
    return f"pulumi found: {version.stdout.strip()} ({pulumi_cli()})"
