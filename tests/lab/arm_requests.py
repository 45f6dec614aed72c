"""Requests to the lab's ARM endpoint, with the operation behind a write followed to its end."""

from __future__ import annotations

import http.client
from typing import Any

from tests.fix_arm import ArmLab, wait_for

GROUP, NAME = "rg-lab", "elk1"
SECRET = "Sup3rSecret!value"


def resize(nodes: int) -> dict[str, Any]:
    return {"properties": {"cluster": {"clusterSize": nodes}}}


def settled(arm: ArmLab, headers: http.client.HTTPMessage) -> dict[str, Any]:
    """The last poll of the operation whose 202 had these headers."""
    path = headers["Azure-AsyncOperation"].partition(str(arm.port))[2]

    def poll() -> Any:
        status, body, _ = arm.request("GET", path, version=None)
        assert status == 200
        return body if body["status"] != "InProgress" else None

    body: dict[str, Any] = wait_for(poll)
    return body


def patch(arm: ArmLab, body: object) -> dict[str, Any]:
    status, _, headers = arm.request("PATCH", arm.server_path, body)
    assert status == 202
    return settled(arm, headers)


def get(arm: ArmLab, child: str = "") -> dict[str, Any]:
    status, body, _ = arm.request("GET", arm.server_path + child)
    assert status == 200
    found: dict[str, Any] = body
    return found


def put_parameter(arm: ArmLab, name: str, properties: dict[str, Any], method: str = "PUT") -> dict[str, Any]:
    status, body, headers = arm.request(method, f"{arm.server_path}/configurations/{name}", {"properties": properties})
    return settled(arm, headers) if status == 202 else {"status": status, **body}


def names(arm: ArmLab) -> set[str]:
    return {entry["name"] for entry in get(arm, "/configurations")["value"]}
