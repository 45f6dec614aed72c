"""Endpoints below a server: configurations, databases, firewall rules, and lists that are always empty in the lab."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address

from orchestrator.lab.arm import configurations
from orchestrator.lab.arm.operations import LabState, begin
from orchestrator.lab.arm.protocol import SERVER_TYPE, ArmFault, Json, Reply, Request
from orchestrator.lab.arm.resources import ServerRecord
from orchestrator.lab.arm.servers import accepted, find_record


def list_configurations(state: LabState, request: Request) -> Reply:
    record = find_record(state, request)
    return Reply(200, {"value": list(configurations.read_all(record, state.backend.parameters()).values())})


def get_configuration(state: LabState, request: Request) -> Reply:
    record = find_record(state, request)
    return Reply(200, configurations.find(record, state.backend.parameters(), request.params["name"]))


def write_configuration(state: LabState, request: Request) -> Reply:
    record = find_record(state, request)
    found = configurations.find(record, state.backend.parameters(), request.params["name"])
    change = configurations.accept(found, record, request.body, full=request.method == "PUT")
    with state.lock:
        return accepted(state, request, begin(state, "SetParameter", record, found["id"], change))


def _databases(record: ServerRecord) -> dict[str, Json]:
    """The one user database, and `postgres`, which every cluster has."""
    names = dict.fromkeys([record.properties["cluster"]["defaultDatabaseName"], "postgres"])
    return {name: _child(record, "databases", name, {"charset": "UTF8", "collation": "en_US.utf8"}) for name in names}


def _child(record: ServerRecord, kind: str, name: str, properties: Json) -> Json:
    return {
        "properties": properties, "id": f"{record.resource_id}/{kind}/{name}", "name": name,
        "type": f"{SERVER_TYPE}/{kind}",
    }  # fmt: skip


def list_databases(state: LabState, request: Request) -> Reply:
    return Reply(200, {"value": list(_databases(find_record(state, request)).values())})


def get_database(state: LabState, request: Request) -> Reply:
    record, name = find_record(state, request), request.params["name"]
    return Reply(200, _found(_databases(record), record, "databases", name))


def refuse_database(state: LabState, request: Request) -> Reply:
    record = find_record(state, request)
    database = record.properties["cluster"]["defaultDatabaseName"]
    text = f"Server '{record.name}' is an elastic cluster: its only database is '{database}', fixed at creation."
    raise ArmFault(400, "OperationNotSupportedOnCluster", text)  # assumed: azure-cli refuses before it asks


def _found(children: dict[str, Json], record: ServerRecord, kind: str, name: str) -> Json:
    for known, resource in children.items():
        if known.lower() == name.lower():
            return resource
    text = f"The requested resource of type '{SERVER_TYPE}/{kind}' with name '{name}' was not found on '{record.name}'."
    raise ArmFault(404, "ResourceNotFound", text)


def _rules(record: ServerRecord) -> dict[str, Json]:
    return {name: _child(record, "firewallRules", name, rule) for name, rule in record.firewall_rules.items()}


def list_rules(state: LabState, request: Request) -> Reply:
    with state.lock:
        return Reply(200, {"value": list(_rules(find_record(state, request)).values())})


def get_rule(state: LabState, request: Request) -> Reply:
    with state.lock:
        record = find_record(state, request)
        return Reply(200, _found(_rules(record), record, "firewallRules", request.params["name"]))


def put_rule(state: LabState, request: Request) -> Reply:
    name, asked = request.params["name"], request.body.get("properties") or {}
    rule = {key: _address(key, asked.get(key)) for key in ("startIpAddress", "endIpAddress")}
    with state.lock:
        record = find_record(state, request)
        target = f"{record.resource_id}/firewallRules/{name}"
        return accepted(state, request, begin(state, "PutFirewallRule", record, target, {"name": name, "rule": rule}))


def _address(key: str, value: object) -> str:
    try:
        return str(IPv4Address(str(value)))
    except AddressValueError:
        raise ArmFault(
            400, "InvalidParameterValue", f"Invalid value given for parameter {key}. Specify an IPv4 address."
        ) from None


def delete_rule(state: LabState, request: Request) -> Reply:
    with state.lock:
        record = find_record(state, request)
        names = {known.lower(): known for known in record.firewall_rules}
        name = names.get(request.params["name"].lower())
        if name is None:
            return Reply(204)
        target = f"{record.resource_id}/firewallRules/{name}"
        return accepted(state, request, begin(state, "DeleteFirewallRule", record, target, {"name": name}))


def _administrators(record: ServerRecord) -> dict[str, Json]:
    return {
        name: _child(record, "administrators", name, administrator)
        for name, administrator in record.administrators.items()
    }


def list_administrators(state: LabState, request: Request) -> Reply:
    with state.lock:
        return Reply(200, {"value": list(_administrators(find_record(state, request)).values())})


def get_administrator(state: LabState, request: Request) -> Reply:
    with state.lock:
        record = find_record(state, request)
        return Reply(200, _found(_administrators(record), record, "administrators", request.params["name"]))


def put_administrator(state: LabState, request: Request) -> Reply:
    name, asked = request.params["name"].lower(), request.body.get("properties") or {}
    given = {key: asked.get(key) for key in ("principalName", "principalType", "tenantId")}
    missing = [key for key, value in given.items() if not value]
    if missing:
        raise ArmFault(400, "InvalidParameterValue", f"Invalid value given for parameter {missing[0]}.")
    with state.lock:
        record = find_record(state, request)
        if record.properties.get("authConfig", {}).get("activeDirectoryAuth") != "Enabled":
            text = "Microsoft Entra authentication is not enabled on the server."
            raise ArmFault(400, "AadAuthDisabled", text)  # assumed: the service's wording is not recorded
        target = f"{record.resource_id}/administrators/{name}"
        change = {"name": name, "administrator": {**given, "objectId": name}}
        return accepted(state, request, begin(state, "PutAdministrator", record, target, change))


def delete_administrator(state: LabState, request: Request) -> Reply:
    with state.lock:
        record, name = find_record(state, request), request.params["name"].lower()
        if name not in record.administrators:
            return Reply(204)
        target = f"{record.resource_id}/administrators/{name}"
        return accepted(state, request, begin(state, "DeleteAdministrator", record, target, {"name": name}))


def empty_list(state: LabState, request: Request) -> Reply:
    find_record(state, request)
    return Reply(200, {"value": []})
