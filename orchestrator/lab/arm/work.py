"""What each kind of operation does: `work` on the cluster while it runs, `commit` on the record at its end.

Both get only data, so that an operation that a stop interrupted can be run again; every work can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.core.errors import LabError
from orchestrator.lab.arm import configurations, resources
from orchestrator.lab.arm.backend import Cluster
from orchestrator.lab.arm.protocol import Json, OperationFault
from orchestrator.lab.arm.resources import ServerRecord


@dataclass(frozen=True, slots=True)
class Kind:
    """`state` is what GET of the server says meanwhile. Names other than UpdateServer's are not recorded: assumed."""

    wire_name: str
    state: str
    work: Callable[[Cluster, ServerRecord, Json], None]
    commit: Callable[[ServerRecord, Json], None]


def _update_server(cluster: Cluster, record: ServerRecord, change: Json) -> None:
    resources.validate(record, change)
    cluster.grow(resources.wanted_nodes(record, change))


def _set_parameter(cluster: Cluster, _record: ServerRecord, change: Json) -> None:
    configurations.validate(change)
    name, value = change["name"], str(change["value"])
    if name in configurations.AZURE_PARAMETERS:
        return
    try:
        cluster.backend.set_parameter(name, value)
    except LabError as error:
        raise configurations.invalid_value(name, value, error.message) from error


def _stop(cluster: Cluster, record: ServerRecord, _change: Json) -> None:
    _require(record, "Ready")
    cluster.backend.stop()


def _start(cluster: Cluster, record: ServerRecord, _change: Json) -> None:
    _require(record, "Stopped")
    cluster.backend.start()


def _restart(cluster: Cluster, record: ServerRecord, change: Json) -> None:
    """A failover is a restart here too: the lab has no standbys."""
    _require(record, "Ready")
    if change.get("failover") and record.properties["highAvailability"]["mode"] == "Disabled":
        text = f"Server '{record.name}' has no standby: high availability is not enabled."
        raise OperationFault("HighAvailabilityNotEnabled", text)  # assumed: no recording shows it
    cluster.backend.stop()
    cluster.backend.start()


def _require(record: ServerRecord, power: str) -> None:
    """Text of a failed restart in terraform-provider-azurerm #29219, its two spaces and its `Sever` included."""
    if record.power != power:
        rule = "Restart or Stop Server can only be performed on Started servers."
        if power == "Stopped":
            rule = "Start Server can only be performed on Stopped servers."
        text = f"{rule} Sever Name = {record.name}, Current Server State = {record.power}"
        raise OperationFault("ServerIsNotReady", text)


def _nothing(_cluster: Cluster, _record: ServerRecord, _change: Json) -> None:
    """Firewall rules exist on paper only: the lab listens on loopback."""


def _keep(_record: ServerRecord, _change: Json) -> None:
    """Nothing to keep."""


def _stopped(record: ServerRecord, _change: Json) -> None:
    record.power = "Stopped"


def _started(record: ServerRecord, _change: Json) -> None:
    record.power = "Ready"


def _created(record: ServerRecord, change: Json) -> None:
    resources.change_record(record, change)
    record.power = "Ready"


def _put_rule(record: ServerRecord, change: Json) -> None:
    record.firewall_rules[change["name"]] = change["rule"]


def _delete_rule(record: ServerRecord, change: Json) -> None:
    record.firewall_rules.pop(change["name"], None)


def _put_administrator(record: ServerRecord, change: Json) -> None:
    record.administrators[change["name"]] = change["administrator"]


def _delete_administrator(record: ServerRecord, change: Json) -> None:
    record.administrators.pop(change["name"], None)


KINDS: dict[str, Kind] = {
    "CreateServer": Kind("UpsertFlexClusterManagementOperation", "Provisioning", _update_server, _created),
    "DeleteServer": Kind("DropServerManagementOperation", "Dropping", _nothing, _keep),
    "UpdateServer": Kind("UpsertFlexClusterManagementOperation", "Updating", _update_server, resources.change_record),
    "SetParameter": Kind(
        "UpsertServerConfigurationManagementOperation", "Updating", _set_parameter, configurations.change_record
    ),
    "Restart": Kind("RestartServerManagementOperation", "Restarting", _restart, _keep),
    "Start": Kind("StartServerManagementOperation", "Starting", _start, _started),
    "Stop": Kind("StopServerManagementOperation", "Stopping", _stop, _stopped),
    "PutFirewallRule": Kind("UpsertServerFirewallRuleManagementOperation", "Updating", _nothing, _put_rule),
    "DeleteFirewallRule": Kind("DropServerFirewallRuleManagementOperation", "Updating", _nothing, _delete_rule),
    "PutAdministrator": Kind("UpsertServerAdministratorManagementOperation", "Updating", _nothing, _put_administrator),
    "DeleteAdministrator": Kind(
        "DropServerAdministratorManagementOperation", "Updating", _nothing, _delete_administrator
    ),
}
