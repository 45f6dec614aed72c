"""Server parameters through the lab's ARM endpoint, as Azure shows and refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fix_arm import EXECUTORS, ArmLab
from tests.lab.arm_requests import get, names, put_parameter


def test_a_configuration_is_shown_as_azure_does(arm: ArmLab) -> None:
    assert get(arm, f"/configurations/{EXECUTORS.upper()}") == {
        "properties": {
            "value": "1", "description": "", "defaultValue": "1", "dataType": "Integer", "allowedValues": "",
            "source": "system-default", "isDynamicConfig": True, "isReadOnly": False, "isConfigPendingRestart": False,
        },
        "id": f"{arm.server_path}/configurations/{EXECUTORS}",
        "name": EXECUTORS,
        "type": "Microsoft.DBforPostgreSQL/flexibleServers/configurations",
    }  # fmt: skip


def test_pgbouncer_settings_are_hidden_until_it_is_enabled(arm: ArmLab) -> None:
    assert {name for name in names(arm) if name.startswith("pgbouncer.")} == {"pgbouncer.enabled"}
    hidden = put_parameter(arm, "pgbouncer.pool_mode", {"value": "session", "source": "user-override"})
    assert hidden["error"]["code"] == "ConfigurationNotExists"
    put_parameter(arm, "pgbouncer.enabled", {"value": "true", "source": "user-override"})
    assert {"pgbouncer.pool_mode", "pgbouncer.max_prepared_statements"} < names(arm)
    put_parameter(arm, "pgbouncer.pool_mode", {"value": "session", "source": "user-override"})
    assert get(arm, "/configurations/pgbouncer.pool_mode")["properties"]["value"] == "session"


def test_source_tells_who_chose_the_value(arm: ArmLab) -> None:
    def source() -> str:
        found: str = get(arm, "/configurations/work_mem")["properties"]["source"]
        return found

    put_parameter(arm, "work_mem", {"value": "4MB", "source": "user-override"})
    assert source() == "user-override"
    put_parameter(arm, "work_mem", {"value": "8MB", "source": "system-default"})
    assert source() == "user-override"
    put_parameter(arm, "work_mem", {"value": "4MB", "source": "system-default"})
    assert source() == "system-default"


@pytest.mark.parametrize("properties", [{"value": "4"}, {"source": "user-override"}])
def test_put_needs_value_and_source(arm: ArmLab, properties: dict[str, Any]) -> None:
    assert put_parameter(arm, EXECUTORS, properties)["error"] == {"code": "OperationFailed", "message": "{0}"}


def test_patch_of_a_configuration_needs_no_source(arm: ArmLab) -> None:
    assert put_parameter(arm, EXECUTORS, {"value": "4"}, "PATCH")["status"] == "Succeeded"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("nope", "1", "ConfigurationNotExists"),
        ("block_size", "1", "ConfigurationReadOnly"),
        (EXECUTORS, "impossible", "InvalidConfigurationValue"),
        ("metrics.pgbouncer_diagnostics", "maybe", "InvalidConfigurationValue"),
    ],
)
def test_configurations_that_cannot_be_set(arm: ArmLab, name: str, value: str, code: str) -> None:
    assert put_parameter(arm, name, {"value": value, "source": "user-override"})["error"]["code"] == code


def test_a_cluster_that_does_not_answer_is_named(arm: ArmLab) -> None:
    arm.backend.silent = True
    status, body, _ = arm.request("GET", f"{arm.server_path}/configurations")
    assert (status, body["error"]) == (500, {"code": "InternalServerError", "message": "node 1 does not answer"})
