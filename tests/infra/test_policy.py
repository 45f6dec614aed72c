"""The policy pack's rules over what the program declares, and over programs that break them."""

from __future__ import annotations

from typing import Any

import pytest

from infra.policy.rules import DATABASE, RULES, SERVER, Resource, problems

GOOD: dict[str, Any] = {
    "cluster": {"clusterSize": 4.0, "defaultDatabaseName": "citus"},
    "location": "northeurope",
    "version": "17",
    "administratorLogin": "clusteradmin",
    "storage": {"storageSizeGB": 128.0, "autoGrow": "Disabled"},
    "backup": {"backupRetentionDays": 7.0, "geoRedundantBackup": "Disabled"},
    "network": {"publicNetworkAccess": "Enabled"},
}


def broken(change: dict[str, Any], *, protect: bool = True) -> list[tuple[str, str]]:
    return list(problems(Resource(SERVER, GOOD | change, protect)))


def test_what_the_program_declares_keeps_to_every_rule() -> None:
    program = pytest.importorskip("tests.infra.program")
    recorded = program.run()
    assert recorded.azure()
    for request in recorded.azure():
        assert list(problems(Resource(request.type, program.inputs(request), request.protect))) == []


@pytest.mark.parametrize(
    ("change", "rule", "said"),
    [
        ({"cluster": {"clusterSize": 21.0}}, "node-count", "21 is outside 2 to 20 nodes"),
        ({"cluster": {"clusterSize": 0.0}}, "node-count", "0 is outside 2 to 20 nodes"),
        ({"version": "15"}, "version", "15 is not one of"),
        ({"storage": {"autoGrow": "Enabled"}}, "storage", "cannot grow their storage"),
        ({"storage": {"storageSizeGB": 100.0}}, "storage", "100 is not one of"),
        ({"backup": {"backupRetentionDays": 60.0}}, "backup", "60 is outside 7 to 35"),
        (
            {"location": "Qatar Central", "backup": {"geoRedundantBackup": "Enabled"}},
            "backup",
            "has no paired region",
        ),
        ({"network": {"delegatedSubnetResourceId": "/s"}}, "no-vnet-injection", "no VNet injection"),
        ({"administratorLogin": "root"}, "login", "root is reserved by Azure"),
        ({"administratorLogin": "pg_me"}, "login", "pg_me is reserved by Azure"),
    ],
)
def test_what_azure_would_refuse_is_named(change: dict[str, Any], rule: str, said: str) -> None:
    ((name, text),) = broken(change)
    assert name == rule
    assert said in text


def test_a_server_without_protection_is_refused() -> None:
    ((name, text),) = broken({}, protect=False)
    assert name == "protected"
    assert "Set protect" in text


def test_a_second_database_is_refused() -> None:
    ((name, text),) = problems(Resource(DATABASE, {"databaseName": "app"}))
    assert name == "one-database"
    assert "exactly one database" in text


def test_a_server_that_is_no_cluster_is_left_alone() -> None:
    single = {"storage": {"autoGrow": "Enabled"}, "version": "13", "administratorLogin": "root"}
    assert list(problems(Resource(SERVER, single))) == []


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
