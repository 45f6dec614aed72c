"""A user's project with the example services, and the `orchestrator` command run in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab.discover import ORDER
from orchestrator.lab.home import HOME_VARIABLE
from tests.fix_lab import ROOT, Project, engines


def _project(folder: Path, lab_base: Path) -> Project:
    (folder / "stacks").mkdir(parents=True)
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    shutil.copytree(ROOT / "examples" / "microservices", folder / "examples" / "microservices")
    mine = {key for key in os.environ if key.startswith(("ORCHESTRATOR_", "PG"))}
    # What says which engine is found stays; the rest is a developer's own and would change what is tested.
    mine -= {"ORCHESTRATOR_LAB_IMAGE", "PG_CONFIG"}
    environment = {key: value for key, value in os.environ.items() if key not in mine}
    return Project(folder, environment | {HOME_VARIABLE: str(lab_base), "PYTHONPATH": str(ROOT)})


@pytest.fixture
def project(tmp_path: Path, lab_base: Path) -> Iterator[Project]:
    """No lab yet; one that the test makes is removed afterwards."""
    made = _project(tmp_path / "project", lab_base)
    yield made
    made.call("lab", "down", "--delete")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-engine", action="store_true", help="end-to-end tests run on every engine that is here")


@pytest.fixture(params=ORDER)
def lab_project(request: pytest.FixtureRequest, tmp_path: Path, lab_base: Path) -> Iterator[tuple[Project, str]]:
    """A project whose lab runs four nodes: on the best engine that is here, or once for each with --every-engine.

    That the engines behave alike is what the contract tests in tests/lab are for; they run on each in any case.
    """
    engine = str(request.param)
    if not engines()[engine].available:
        pytest.skip(f"engine {engine}: {engines()[engine].reason}")
    best = next(name for name in ORDER if engines()[name].available)
    if engine != best and not request.config.getoption("--every-engine"):
        pytest.skip(f"engine {engine}: end-to-end tests ran on {best}; `make test-all` runs them on every engine")
    made = _project(tmp_path / "project", lab_base)
    up = made.run("lab", "up", "--engine", engine, "--nodes", "4")
    assert up.returncode == 0, up.stderr
    yield made, engine
    made.call("lab", "down", "--delete")
