"""What the Pulumi client tells without an update: what is missing here, whether there may be a state, what changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.clients.azure import pulumi
from orchestrator.clients.azure.pulumi import PulumiMissing, PulumiStack, change_of, may_have_state
from orchestrator.core.planning.resource_changes import SERVER_TYPE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n")
    return tmp_path


def test_without_a_login_there_can_be_no_state(root: Path) -> None:
    nobody = {"PULUMI_HOME": str(root / "home")}
    assert not may_have_state(root, nobody)
    assert may_have_state(root, nobody | {"PULUMI_BACKEND_URL": "file:///var/state"})
    assert may_have_state(root, nobody | {"PULUMI_ACCESS_TOKEN": "pul-x"})
    (root / "home").mkdir()
    (root / "home" / "credentials.json").write_text("{}")
    assert may_have_state(root, nobody)


def test_a_project_can_name_its_backend_and_a_folder_without_a_project_has_none(root: Path, tmp_path: Path) -> None:
    nobody = {"PULUMI_HOME": str(root / "home")}
    with (root / "Pulumi.yaml").open("a") as file:
        file.write("backend: {url: azblob://state}\n")
    assert may_have_state(root, nobody)
    assert not may_have_state(tmp_path / "elsewhere", {"PULUMI_BACKEND_URL": "file:///var/state"})


@pytest.mark.parametrize(
    ("sdk", "cli", "said"), [(None, "/bin/pulumi", "pip install"), (object(), None, "pulumi.com/docs/install")]
)
def test_what_is_missing_is_named_with_how_to_get_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, sdk: object, cli: str | None, said: str
) -> None:
    monkeypatch.setattr(pulumi, "find_spec", lambda _: sdk)
    monkeypatch.setattr(pulumi.shutil, "which", lambda _: cli)
    with pytest.raises(PulumiMissing, match=said) as error:
        PulumiStack(root, "prod")
    assert "elastic-cluster:scaling: arm" in str(error.value)


def step(op: str, *, old: dict[str, Any] | None, new: dict[str, Any] | None, custom: bool = True, **more: Any) -> Any:
    def state(inputs: dict[str, Any] | None) -> Any:
        return None if inputs is None else SimpleNamespace(inputs=inputs, outputs={}, custom=custom)

    urn = f"urn:pulumi:prod::elastic-cluster::x${SERVER_TYPE}::server"
    values = {"op": op, "urn": urn, "type": SERVER_TYPE, "detailed_diff": None, "diffs": None, **more}
    return SimpleNamespace(old=state(old), new=state(new), **values)


def test_an_update_is_told_with_the_values_on_both_sides() -> None:
    diff = {"cluster.clusterSize": object(), "administratorLoginPassword": object()}
    found = change_of(
        step(
            "update",
            old={"cluster": {"clusterSize": 4}, "administratorLoginPassword": "[secret]"},
            new={"cluster": {"clusterSize": 8}, "administratorLoginPassword": "[secret]"},
            detailed_diff=diff,
        )
    )
    assert found is not None
    assert found.title == ("update Server server (administratorLoginPassword [secret] -> [secret], nodes 4 -> 8)")


@pytest.mark.parametrize("op", ["same", "refresh", "read"])
def test_what_stays_is_no_change(op: str) -> None:
    assert change_of(step(op, old={}, new={})) is None


def test_components_only_group() -> None:
    assert change_of(step("create", old=None, new={}, custom=False)) is None


@pytest.mark.parametrize("op", ["replace", "create-replacement", "delete-replaced", "delete"])
def test_every_way_to_lose_the_server_is_seen(op: str) -> None:
    found = change_of(step(op, old={"location": "a"}, new={"location": "b"}, diffs=["location"]))
    assert found is not None
    assert found.loses_data
