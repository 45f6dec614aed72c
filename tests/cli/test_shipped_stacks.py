"""The stack files that people copy: each is what the schema says, and the local one makes a lab."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from orchestrator.cli.stack.stackfile import json_schema, parse
from tests.fix_lab import ROOT, Project

LOCAL = ROOT / "stacks" / "local" / "Pulumi.local.yaml"
SHIPPED = [ROOT / "stacks" / "Pulumi.dev.yaml", ROOT / "stacks" / "Pulumi.prod.yaml", LOCAL]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_stack_is_a_cluster_and_passes_the_schema_it_names(path: Path) -> None:
    text = path.read_text("utf-8")
    spec = parse(text, path.name)
    assert spec.services
    named = text.splitlines()[0].partition("$schema=")[2]
    assert (path.parent / named).resolve() == ROOT / "stacks" / "stack.schema.json"
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


def test_the_local_stack_makes_a_lab_with_its_services(project: Project) -> None:
    shutil.copy(LOCAL, project.stack)
    up = project.call("lab", "up", "--engine", "embedded")
    assert up.returncode == 0, up.stderr
    applied = project.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    shown = json.loads(project.call("status", "--json").stdout)
    assert len(shown["nodes"]) == 4
    assert {service["name"]: service["state"] for service in shown["services"]} == dict.fromkeys(
        ("user", "time", "ping"), "distributed"
    )
    assert project.call("plan", "--check").returncode == 0
