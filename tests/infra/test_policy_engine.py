"""The policy pack in Pulumi's real engine, from the environment that it has for itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_pulumi import ROOT, lacking

if lacking():
    pytest.skip(lacking(), allow_module_level=True)

from tests.infra.engine import STACK, PulumiProject, azure, operations, provider_for, refused

PYTHON = ROOT / "infra" / "policy" / ".venv" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.is_file(), reason="the policy pack has no environment: make policy")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PulumiProject]:
    with azure() as (emulator, _), provider_for(emulator) as provider, pytest.MonkeyPatch.context() as patch:
        made = PulumiProject(tmp_path / "project", provider)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        made.write(STACK)
        made.create()
        yield made
        made.close()


@pytest.fixture
def pack(tmp_path: Path) -> str:
    """The engine starts `pulumi-language-python` for a folder; an executable it starts itself."""
    path = tmp_path / "elastic-cluster-policies"
    program = shlex.quote(str(ROOT / "infra" / "policy" / "__main__.py"))
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(os.fspath(PYTHON))} -u {program} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_program_passes(project: PulumiProject, pack: str) -> None:
    events: list[Any] = []
    project.stack().preview(policy_packs=[pack], on_event=events.append, color="never")
    assert operations(events)["server"] == "create"
    assert [event for event in events if event.policy_event is not None] == []


def test_a_program_that_does_not_protect_its_server_fails_the_preview(project: PulumiProject, pack: str) -> None:
    source = project.folder / "infra" / "cluster.py"
    text = source.read_text("utf-8")
    assert "parent=cluster, protect=True, ignore_changes" in text
    program = project.folder / "infra" / "__main__.py"
    changed = text.replace("parent=cluster, protect=True, ignore_changes", "parent=cluster, ignore_changes")
    (project.folder / "infra" / "unprotected.py").write_text(changed, "utf-8")
    program.write_text(
        program.read_text("utf-8").replace(
            "from infra.cluster import ElasticCluster",
            "import sys\n\nsys.path.insert(0, str(Path(__file__).parent))\nfrom unprotected import ElasticCluster",
        ),
        "utf-8",
    )
    answer = refused(project.stack().preview, policy_packs=[pack])
    assert "The server is not protected" in answer
    assert project.provider.arm.writes == []
