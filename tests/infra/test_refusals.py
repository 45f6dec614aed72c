"""What the Pulumi program refuses before it declares anything, and where it finds the password."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from tests.infra.program import EXISTING, PASSWORD, SECRET, SERVER, Azure, refused, run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": 21}, "elastic-cluster:nodes: 21 is outside 2 to 20 nodes"),
        ({"location": None}, "elastic-cluster:location: this key is missing"),
        ({"name": "Contoso_Test"}, "elastic-cluster:name"),
        ({"postgresVersion": "15"}, "elastic-cluster:postgresVersion: 15 is not one of"),
        ({"compute": {"sku": "Standard_B2s", "tier": "Burstable"}}, "PgBouncer is not available in tier Burstable"),
        ({"storage": {"autoGrow": True}}, "elastic-cluster:storage.autoGrow: elastic clusters cannot grow"),
        ({"location": "qatarcentral", "backup": {"geoRedundant": True}}, "backup.geoRedundant: qatarcentral has no"),
        ({"databases": ["a"]}, "elastic-cluster:databases: an elastic cluster has exactly one database"),
        (
            {"network": {"delegatedSubnetId": "/s"}},
            "network.delegatedSubnetId: elastic clusters have no VNet",
        ),
        ({"administratorLogin": "azure_superuser"}, "azure_superuser is reserved by Azure"),
        ({"nodse": 4}, "elastic-cluster:nodse: there is no such key"),
        ({"databaseLogin": {"method": "entra", "role": "dba"}}, "name it in authentication.entra"),
    ],
)
def test_what_azure_would_refuse_late_is_refused_before_any_resource(change: dict[str, Any], said: str) -> None:
    assert said in refused(change)


def test_every_mistake_is_named_at_once() -> None:
    text = refused({"nodes": 21, "location": None})
    assert "elastic-cluster:nodes" in text
    assert "elastic-cluster:location" in text
    assert text.startswith("Nothing was changed.")


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("Short-1", "8 to 128 characters"),
        ("only-small-letters", "three of"),
        ("ClusterAdmin-2026", "must not contain administratorLogin"),
    ],
)
def test_a_password_that_azure_refuses_is_refused_without_being_shown(password: str, said: str) -> None:
    text = refused({"administratorPassword": password}, secret=("administratorPassword",))
    assert said in text
    assert password not in text


def changed(**change: Any) -> Azure:
    return Azure(EXISTING | change)


@pytest.mark.parametrize(
    ("change", "azure", "said"),
    [
        ({"location": "westeurope"}, changed(), "elastic-cluster:location: northeurope is fixed at creation"),
        ({"administratorLogin": "boss"}, changed(), "elastic-cluster:administratorLogin: clusteradmin is fixed"),
        ({"database": "app"}, changed(), "elastic-cluster:database: citus is fixed at creation"),
        ({"postgresVersion": "18"}, changed(), "elastic-cluster:postgresVersion: 17 is fixed at creation"),
        ({"name": "contoso-two"}, changed(), "elastic-cluster:name: contoso-test is fixed at creation"),
        ({"resourceGroup": "rg-two"}, changed(), "elastic-cluster:resourceGroup: rg-test is fixed at creation"),
        ({"nodes": 2}, changed(), "elastic-cluster:nodes: the cluster has 4 nodes and cannot lose any"),
        (
            {},
            changed(cluster={"clusterSize": 8, "defaultDatabaseName": "citus"}),
            "elastic-cluster:nodes: the cluster has 8 nodes and cannot lose any",
        ),
        ({"storage": {"sizeGb": 64}}, changed(), "elastic-cluster:storage.sizeGb: nodes have 128 GB"),
    ],
)
def test_what_an_existing_server_cannot_become_is_refused(change: dict[str, Any], azure: Azure, said: str) -> None:
    assert said in refused(change, azure)


def test_a_server_that_is_gone_is_declared_again_and_an_azure_that_fails_is_named() -> None:
    gone = Azure('Code="ResourceNotFound" Message="The Resource was not found"')
    assert run(azure=gone).of_type(SERVER)
    assert "Azure could not be asked about contoso-test" in refused({}, Azure("no token"))


def test_the_password_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"administratorPassword": {"env": "CLUSTER_PASSWORD"}}
    monkeypatch.delenv("CLUSTER_PASSWORD", raising=False)
    assert "the environment variable CLUSTER_PASSWORD is not set" in refused(source)
    monkeypatch.setenv("CLUSTER_PASSWORD", "From-the-environment-1")
    asked = run(source, secret=()).the(SERVER)
    assert asked["administratorLoginPassword"] == {**SECRET, "value": "From-the-environment-1"}


def test_a_password_is_generated_once_into_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "admin.password"
    source = {"administratorPassword": {"file": str(path), "generate": True}}
    run(source, secret=(), preview=True)
    assert not path.exists(), "a preview makes no file"
    first = run(source, secret=()).the(SERVER)["administratorLoginPassword"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first == {**SECRET, "value": path.read_text("utf-8").strip()}
    assert run(source, secret=()).the(SERVER)["administratorLoginPassword"] == first


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    text = refused({"administratorPassword": {"file": str(tmp_path / "none")}})
    assert "cannot be read" in text
    assert PASSWORD not in text


class Writing(Azure):
    """The engine is writing the stack's state to its file: the first readings find it cut off."""

    readings = 0

    def call(self, args: Any) -> Any:
        if args.token == "pulumi:pulumi:readStackOutputs":
            self.readings += 1
            if self.readings < 3:
                return {}, [("", "failed to load checkpoint: EOF")]
        return super().call(args)


def test_a_state_that_is_being_written_is_read_again() -> None:
    azure = Writing()
    assert run(azure=azure).of_type(SERVER)
    assert azure.readings == 3
