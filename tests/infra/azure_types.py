"""What the stand-in provider knows of each Azure type that the program uses: its address, its form, what replaces it.

Replacement follows the ARM specification (x-ms-mutability without `update`) and Pulumi's rule for what is in the path.
Below `properties` the real provider also flattens and renames (`odata.type`); what the lab's endpoint only keeps is
kept here as the program wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]

_GROUP = "/subscriptions/{subscription}/resourceGroups/{resourceGroupName}"
_SERVER = f"{_GROUP}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{{serverName}}"
_NETWORK = f"{_GROUP}/providers/Microsoft.Network"
_ENVELOPE = frozenset({"location", "sku", "tags", "identity"})
# Of the server, whatever the program does not set: never an input.
READ_ONLY = frozenset(
    {"state", "fullyQualifiedDomainName", "systemData", "replica", "replicationRole", "dataEncryption"}
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type. `fixed` are inputs whose change replaces, beside those in the path."""

    path: str
    version: str
    fixed: frozenset[str] = frozenset()
    singleton: bool = False

    @property
    def in_path(self) -> frozenset[str]:
        return frozenset(re.findall(r"{(\w+)}", self.path)) - {"subscription"}

    def address(self, subscription: str, inputs: Mapping[str, Any]) -> str:
        values = {name: str(inputs[name]).strip("/") for name in self.in_path}
        return self.path.format(subscription=subscription, **values)

    def body(self, inputs: Mapping[str, Any]) -> Values:
        """The body of a PUT."""
        mine = {name: value for name, value in inputs.items() if name not in self.in_path}
        outer = {name: value for name, value in mine.items() if name in _ENVELOPE}
        return {**outer, "properties": {name: value for name, value in mine.items() if name not in _ENVELOPE}}

    def outputs(self, shown: Mapping[str, Any]) -> Values:
        """The body of a GET, flat as Pulumi's outputs are."""
        outer = {name: value for name, value in shown.items() if name != "properties"}
        return {**(shown.get("properties") or {}), **outer}

    def replaces(self, path: str) -> bool:
        return path.partition(".")[0] in self.fixed | self.in_path


def _postgresql(path: str, *fixed: str, singleton: bool = False) -> Kind:
    return Kind(path, "2025-08-01", frozenset(fixed), singleton)


KINDS: dict[str, Kind] = {
    "azure-native:resources:ResourceGroup": Kind(_GROUP, "2024-03-01", frozenset({"location"})),
    "azure-native:dbforpostgresql:Server": _postgresql(
        _SERVER, "location", "administratorLogin", "availabilityZone", "sourceServerResourceId", "pointInTimeUTC"
    ),
    "azure-native:dbforpostgresql:FirewallRule": _postgresql(f"{_SERVER}/firewallRules/{{firewallRuleName}}"),
    "azure-native:dbforpostgresql:Configuration": _postgresql(
        f"{_SERVER}/configurations/{{configurationName}}", singleton=True
    ),
    "azure-native:dbforpostgresql:AdministratorsMicrosoftEntra": _postgresql(
        f"{_SERVER}/administrators/{{objectId}}", "principalName", "principalType", "tenantId"
    ),
    "azure-native:network:PrivateEndpoint": Kind(
        f"{_NETWORK}/privateEndpoints/{{privateEndpointName}}", "2024-05-01", frozenset({"location"})
    ),
    "azure-native:network:PrivateDnsZoneGroup": Kind(
        f"{_NETWORK}/privateEndpoints/{{privateEndpointName}}/privateDnsZoneGroups/{{privateDnsZoneGroupName}}",
        "2024-05-01",
    ),
    "azure-native:privatedns:PrivateZone": Kind(
        f"{_NETWORK}/privateDnsZones/{{privateZoneName}}", "2024-06-01", frozenset({"location"})
    ),
    "azure-native:privatedns:VirtualNetworkLink": Kind(
        f"{_NETWORK}/privateDnsZones/{{privateZoneName}}/virtualNetworkLinks/{{virtualNetworkLinkName}}",
        "2024-06-01",
        frozenset({"location"}),
    ),
    "azure-native:monitor:DiagnosticSetting": Kind(
        "/{resourceUri}/providers/Microsoft.Insights/diagnosticSettings/{name}", "2021-05-01-preview"
    ),
    "azure-native:monitor:MetricAlert": Kind(
        f"{_GROUP}/providers/Microsoft.Insights/metricAlerts/{{ruleName}}", "2018-03-01", frozenset({"location"})
    ),
}
SERVER = KINDS["azure-native:dbforpostgresql:Server"]
