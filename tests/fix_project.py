"""A user's project with the example services, and the `orchestrator` command run in it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.lab.discover import ORDER
from orchestrator.lab.engine import EngineName
from orchestrator.lab.home import HOME_VARIABLE
from tests.fix_lab import ROOT, Project, engine_of
from tests.fix_shared import Dirty, SharedLab

Labs = Callable[[EngineName], SharedLab]
log = logging.getLogger(__name__)


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


@pytest.fixture(scope="session")
def shared_labs(lab_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """The lab with four nodes that runs on an engine, or a new one; its project is as it was when that was new."""
    base = tmp_path_factory.mktemp("shared")
    running: dict[str, SharedLab] = {}

    def lab(engine: EngineName) -> SharedLab:
        folder = base / engine / "project"
        shutil.rmtree(folder, ignore_errors=True)
        project = _project(folder, lab_base)
        if engine in running and running[engine].there:
            project.stack.write_text(running[engine].stack_text, "utf-8")
        else:
            up = project.call("lab", "up", "--engine", engine, "--nodes", "4")
            assert up.returncode == 0, up.stderr
            running[engine] = SharedLab(project, engine)
        return running[engine]

    yield lab
    for one in running.values():
        one.remove()


@pytest.fixture(params=ORDER)
def lab_project(request: pytest.FixtureRequest, shared_labs: Labs) -> Iterator[tuple[Project, str]]:
    """A project whose lab runs four nodes: on the best engine that is here, or once for each with --everything.

    The lab is as if it were new, but tests share it. That the engines behave alike is what the contract tests in
    tests/lab are for; they run on each in any case.
    """
    engine = engine_of(request)
    lab = shared_labs(engine)
    # The environment is a copy, because tests add to it.
    yield Project(lab.project.folder, dict(lab.project.environment)), engine
    try:
        lab.take_back()
    except Dirty as reason:
        log.info("the next test gets a new lab: %s", reason)
        lab.remove()
    except BaseException:
        lab.remove()
        raise
