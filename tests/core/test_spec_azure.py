"""What a stack file may say about logins, logs and alerts, and what it is told about what clusters do not have."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.cli.stack.stackfile import parse
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import SpecError

TENANT = "00000000-1111-2222-3333-444444444444"
GROUP = "55555555-6666-7777-8888-999999999999"
ADMINISTRATOR = {"objectId": GROUP, "name": "database-administrators", "type": "group"}
ENTRA = {"tenantId": TENANT, "administrators": [ADMINISTRATOR]}
ENTRA_LOGIN = {"method": "entra", "role": "database-administrators"}


def spec(**change: object) -> ClusterSpec:
    values = {"name": "contoso", "resourceGroup": "rg", "location": "northeurope"} | change
    return parse(
        yaml.safe_dump({"config": {f"elastic-cluster:{key}": value for key, value in values.items()}}),
        "stacks/Pulumi.test.yaml",
    )


def test_a_server_without_passwords_is_administered_through_entra() -> None:
    made = spec(authentication={"password": False, "entra": ENTRA}, databaseLogin=ENTRA_LOGIN)
    assert made.authentication.entra is not None
    assert made.authentication.entra.administrators[0].type == "group"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"authentication": {"password": False}}, "authentication: nobody could log in"),
        ({"authentication": {"password": False, "entra": ENTRA}}, "databaseLogin: the server takes no passwords"),
        (
            {"authentication": {"entra": ENTRA}, "databaseLogin": {"method": "entra", "role": "somebody"}},
            "databaseLogin.role: somebody is no administrator in authentication.entra; known: database-administrators",
        ),
        (
            {"authentication": {"entra": ENTRA | {"administrators": [ADMINISTRATOR, ADMINISTRATOR]}}},
            "two administrators have the same objectId",
        ),
        ({"authentication": {"entra": ENTRA | {"tenantId": "contoso.com"}}}, "authentication.entra.tenantId"),
        ({"databases": ["a", "b"]}, "elastic-cluster:databases: an elastic cluster has exactly one database"),
        ({"network": {"delegatedSubnetId": "/subscriptions/x"}}, "elastic clusters have no VNet injection"),
        ({"location": "Italy North", "backup": {"geoRedundant": True}}, "Italy North has no paired region"),
        ({"administratorPassword": {"env": "X", "generate": True}}, "generate needs the file"),
        ({"alerts": {"actionGroupIds": ["oncall"]}}, "elastic-cluster:alerts.actionGroupIds[0]"),
        ({"diagnostics": {"workspaceId": "logs"}}, "elastic-cluster:diagnostics.workspaceId"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key_and_the_reason(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(**change)
    assert said in str(error.value)


def test_backups_are_kept_in_the_pair_of_a_region_that_has_one() -> None:
    assert spec(backup={"geoRedundant": True}).backup.geo_redundant
