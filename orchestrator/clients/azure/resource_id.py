"""A server by its resource id, for what needs no stack file: a single flexible server has none."""

from __future__ import annotations

import re

from orchestrator.clients.azure.arm import ArmClient
from orchestrator.core.errors import Refused

# The endpoint before it is for other clouds than the public one, and for a lab.
_SERVER = re.compile(
    r"(?P<endpoint>https?://[^/]+)?/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.DBforPostgreSQL/flexibleServers/(?P<name>[^/]+)/?",
    re.IGNORECASE,
)


class NoServerId(Refused):
    def __init__(self, text: str) -> None:
        super().__init__(
            f"--azure-id: {text!r} is not the resource id of a flexible server. Nothing was run. `az postgres "
            "flexible-server show --resource-group GROUP --name NAME --query id` prints it."
        )


def server_of(text: str) -> ArmClient:
    """Raises NoServerId."""
    found = _SERVER.fullmatch(text.strip())
    if found is None:
        raise NoServerId(text)
    return ArmClient(found["subscription"], found["group"], found["name"], found["endpoint"])
