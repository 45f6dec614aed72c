"""Endpoints above a server: resource groups, name checks, what a region offers."""

from __future__ import annotations

import re

from orchestrator.lab.arm import catalog
from orchestrator.lab.arm.operations import LabState, save
from orchestrator.lab.arm.protocol import SERVER_TYPE, ArmFault, Json, Reply, Request
from orchestrator.lab.arm.servers import find_record, known_group


def _show_group(request: Request, group: Json) -> Json:
    return {
        "id": f"/subscriptions/{request.params['sub']}/resourceGroups/{group['name']}", "name": group["name"],
        "type": "Microsoft.Resources/resourceGroups", "location": group["location"], "tags": group["tags"],
        "properties": {"provisioningState": "Succeeded"},
    }  # fmt: skip


def get_group(state: LabState, request: Request) -> Reply:
    with state.lock:
        group = known_group(state, request)
    return Reply(204) if request.method == "HEAD" else Reply(200, _show_group(request, group))


def put_group(state: LabState, request: Request) -> Reply:
    name, location = request.params["group"], request.body.get("location")
    if not isinstance(location, str):
        raise ArmFault(400, "LocationRequired", "The location property is required for this definition.")
    with state.lock:
        created = name.lower() not in state.groups
        group = state.groups.setdefault(name.lower(), {"name": name, "location": location, "tags": {}})
        group["tags"] = request.body.get("tags") or {}
        save(state)
    return Reply(201 if created else 200, _show_group(request, group))


def delete_group(state: LabState, request: Request) -> Reply:
    with state.lock:
        group = known_group(state, request)
        if not state.creatable or state.servers:
            text = f"The resource group '{group['name']}' cannot be deleted while the lab has a server in it."
            raise ArmFault(409, "ScopeLocked", text)
        del state.groups[group["name"].lower()]
        save(state)
    return Reply(200)


def check_name(state: LabState, request: Request) -> Reply:
    name = str(request.body.get("name", ""))
    reply: Json = {"name": name, "type": SERVER_TYPE, "nameAvailable": True, "message": ""}
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name):
        text = "Specified server name must be 3 to 63 lowercase letters, digits and hyphens."
        reply |= {"nameAvailable": False, "reason": "Invalid", "message": text}
    elif name in {record.name for record in state.servers.values()}:
        reply |= {
            "nameAvailable": False,
            "reason": "AlreadyExists",
            "message": "Specified server name is already used.",
        }
    return Reply(200, reply)


def capabilities(state: LabState, request: Request) -> Reply:
    if "server" in request.params:
        find_record(state, request)
    return Reply(200, catalog.capabilities())


def quota(_state: LabState, request: Request) -> Reply:
    return Reply(200, catalog.quota_usages(request.params["sub"], request.params["location"]))


def dns_suffix(_state: LabState, _request: Request) -> Reply:
    return Reply(200, "private.postgres.database.azure.com")  # the SDK reads a bare JSON string
