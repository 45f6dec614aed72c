"""Resources that only ARM knows: kept as they were written, answered at once, nothing behind them.

They let a whole Pulumi program run against the lab's endpoint. Real ones take their time and check far more.
"""

from __future__ import annotations

from orchestrator.lab.arm.operations import LabState, save
from orchestrator.lab.arm.protocol import ArmFault, Reply, Request

_NETWORK = "Microsoft.Network"
_INSIGHTS = "Microsoft.Insights"


def paths(group: str, server: str) -> tuple[str, ...]:
    """Path templates below a resource group and below a server."""
    network = f"{group}/providers/{_NETWORK}"
    return (
        f"{network}/privateEndpoints/{{name}}",
        f"{network}/privateEndpoints/{{parent}}/privateDnsZoneGroups/{{name}}",
        f"{network}/privateDnsZones/{{name}}",
        f"{network}/privateDnsZones/{{parent}}/virtualNetworkLinks/{{name}}",
        f"{group}/providers/{_INSIGHTS}/metricAlerts/{{name}}",
        f"{server}/providers/{_INSIGHTS}/diagnosticSettings/{{name}}",
    )


def get(state: LabState, request: Request) -> Reply:
    with state.lock:
        found = state.papers.get(request.path.lower())
    if found is None:
        raise ArmFault(404, "ResourceNotFound", f"The Resource '{request.path}' was not found.")
    return Reply(200, found)


def put(state: LabState, request: Request) -> Reply:
    with state.lock:
        created = request.path.lower() not in state.papers
        if request.params["group"].lower() not in state.groups:
            text = f"Resource group '{request.params['group']}' could not be found."
            raise ArmFault(404, "ResourceGroupNotFound", text)
        shown = {**request.body, "id": request.path, "name": request.params["name"], "type": _type(request.path)}
        state.papers[request.path.lower()] = shown
        save(state)
    return Reply(201 if created else 200, shown)


def delete(state: LabState, request: Request) -> Reply:
    with state.lock:
        found = state.papers.pop(request.path.lower(), None)
        save(state)
    return Reply(204 if found is None else 200)


def _type(path: str) -> str:
    """`Microsoft.Network/privateEndpoints` of a path that ends in `/privateEndpoints/NAME`."""
    namespace, *rest = path.rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])
