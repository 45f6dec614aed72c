"""Endpoints of the server itself and of its long-running operations."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from urllib.parse import quote

from orchestrator.core.desired.names import region_name
from orchestrator.lab.arm import resources
from orchestrator.lab.arm.operations import LabOperation, LabState, begin, now_text, running
from orchestrator.lab.arm.protocol import PROVIDER, SERVER_TYPE, ArmFault, Json, Reply, Request
from orchestrator.lab.arm.resources import ServerRecord, server_key
from orchestrator.lab.arm.work import KINDS

Handler = Callable[[LabState, Request], Reply]


def accepted(state: LabState, request: Request, operation: LabOperation) -> Reply:
    record = state.servers[operation.server]
    region = quote(region_name(record.location))
    base = f"{request.base_url}/subscriptions/{record.subscription_id}/providers/{PROVIDER}/locations/{region}"
    query = _signature(operation.id, request.query["api-version"])
    headers = {
        "Azure-AsyncOperation": f"{base}/azureAsyncOperation/{operation.id}?{query}",
        "Location": f"{base}/operationResults/{operation.id}?{query}",
        **_retry_after(state),
    }
    body = {"operation": KINDS[operation.kind].wire_name, "startTime": operation.start_time}
    return Reply(202, body, headers)


def _signature(identity: str, api_version: str) -> str:
    """As long as ARM's own (3.5 KB of certificate and signature): a client that shortens or rebuilds it fails."""
    digest = hashlib.sha512(identity.encode()).digest()
    letters = {
        name: base64.urlsafe_b64encode(hashlib.shake_256(digest + name.encode()).digest(size)).decode().rstrip("=")
        for name, size in (("c", 1988), ("s", 256), ("h", 32))
    }
    return f"api-version={api_version}&t=639119769909175103&" + "&".join(f"{k}={v}" for k, v in letters.items())


def _retry_after(state: LabState) -> dict[str, str]:
    return {} if state.faults.retry_after is None else {"Retry-After": str(state.faults.retry_after)}


def _operation(state: LabState, request: Request) -> LabOperation:
    identity = request.params["operation"]
    known = state.operations.get(identity.lower())
    expected = _signature(identity, request.query["api-version"]).split("&")[2:]
    signed = [f"{name}={request.query.get(name, '')}" for name in ("c", "s", "h")] == expected
    if known is None or not signed or state.faults.expire_operations:
        raise ArmFault(404, "ResourceNotFound", f"The operation '{identity}' was not found.")
    return known


def poll(state: LabState, request: Request) -> Reply:
    with state.lock:
        operation = _operation(state, request)
        body: Json = {"name": operation.id, "status": operation.status, "startTime": operation.start_time}
        if operation.status == "Failed":
            body["error"] = {"code": operation.code, "message": operation.message}
        return Reply(200, body, _retry_after(state))


def result(state: LabState, request: Request) -> Reply:
    with state.lock:
        operation = _operation(state, request)
        if operation.status == "InProgress":
            return Reply(202, None, {"Location": f"{request.base_url}{request.path}", **_retry_after(state)})
        if operation.status == "Failed":
            raise ArmFault(400, operation.code, operation.message)
        return Reply(204)


def known_group(state: LabState, request: Request) -> Json:
    sub, name = request.params["sub"], request.params["group"]
    if not state.creatable and sub.lower() not in {record.subscription_id.lower() for record in state.servers.values()}:
        raise ArmFault(404, "SubscriptionNotFound", f"The subscription '{sub}' could not be found.")
    group = state.groups.get(name.lower())
    if group is None:
        raise ArmFault(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
    return group


def find_record(state: LabState, request: Request) -> ServerRecord:
    sub, group, name = (request.params[key] for key in ("sub", "group", "server"))
    record = state.servers.get(server_key(sub, group, name))
    if record is not None:
        return record
    known_group(state, request)
    raise ArmFault(
        404,
        "ResourceNotFound",
        f"The Resource '{SERVER_TYPE}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def _show(state: LabState, record: ServerRecord) -> Json:
    operation = running(state, record)
    return resources.show(record, KINDS[operation.kind].state if operation else record.power)


def get_server(state: LabState, request: Request) -> Reply:
    with state.lock:
        return Reply(200, _show(state, find_record(state, request)))


def list_servers(state: LabState, request: Request) -> Reply:
    sub, group = request.params["sub"].lower(), request.params.get("group", "").lower()
    with state.lock:
        if group:
            known_group(state, request)
        shown = [
            _show(state, record)
            for record in state.servers.values()
            if record.subscription_id.lower() == sub and group in ("", record.resource_group.lower())
        ]
    return Reply(200, {"value": shown})


def write_server(state: LabState, request: Request) -> Reply:
    full = request.method == "PUT"
    with state.lock:
        if full and _key(request) not in state.servers:
            return _create_server(state, request)
        record = find_record(state, request)
        change = resources.accept(record, request.body, full=full)
        if state.faults.take_ignored():
            change["properties"].pop("cluster", None)
        return accepted(state, request, begin(state, "UpdateServer", record, record.resource_id, change))


def _key(request: Request) -> str:
    return server_key(*(request.params[name] for name in ("sub", "group", "server")))


def _create_server(state: LabState, request: Request) -> Reply:
    """The record is there from now on, so that GET shows `Provisioning`; it goes again if the operation fails."""
    name = request.params["server"]
    if not state.creatable or state.servers:
        text = (
            f"The lab runs one server and cannot create '{name}'. Use `orchestrator lab up` with another lab name "
            "to run a second cluster beside it."
        )
        raise ArmFault(400, "NotSupportedByLab", text)
    group = known_group(state, request)
    record = resources.record_of(request.params["sub"], group["name"], name, request.body, now_text())
    change = resources.accept(record, request.body, full=True)
    state.servers[record.key] = record
    try:
        operation = begin(state, "CreateServer", record, record.resource_id, change)
    except ArmFault:
        del state.servers[record.key]
        raise
    return accepted(state, request, operation)


def delete_server(state: LabState, request: Request) -> Reply:
    with state.lock:
        if state.creatable and _key(request) not in state.servers:
            return Reply(204)
        record = find_record(state, request)
        if state.creatable:
            return accepted(state, request, begin(state, "DeleteServer", record, record.resource_id, {}))
    text = (
        f"The scope '{record.resource_id}' cannot perform delete operation because the lab locks its own server. "
        "Use `orchestrator lab down --delete`."
    )
    raise ArmFault(409, "ScopeLocked", text)


def power(kind: str) -> Handler:
    def handler(state: LabState, request: Request) -> Reply:
        failover = request.body.get("failoverMode") if request.body.get("restartWithFailover") else None
        change = {"failover": failover} if failover else {}
        with state.lock:
            record = find_record(state, request)
            return accepted(state, request, begin(state, kind, record, record.resource_id, change))

    return handler
