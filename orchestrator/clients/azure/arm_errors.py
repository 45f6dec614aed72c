"""What goes wrong with Azure Resource Manager, as one sentence each: every exception of Azure's SDK ends here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.clients.azure.arm_answers import garbled, retry_after
from orchestrator.core.errors import ArmBusy, ArmError, ClusterUnreachable, Refused

# A server answers ServerIsBusy while another operation runs on it; older ones ServerBusy. Both come as 409.
_BUSY_CODES = frozenset({"ServerIsBusy", "ServerBusy", "TooManyRequests"})
_BUSY_STATUSES = frozenset({429, 500, 502, 503, 504})
_ABSENT_CODES = frozenset({"ResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound", "ServerNotFound"})


@dataclass(frozen=True, slots=True)
class Place:
    """Which server is spoken of, and at which endpoint of ARM."""

    endpoint: str
    subscription_id: str
    resource_group: str
    server_name: str


class ServerNotFound(Refused):
    def __init__(self, place: Place, text: str) -> None:
        super().__init__(
            f"There is no server {place.server_name!r} in resource group {place.resource_group!r} of subscription "
            f"{place.subscription_id}: {text.rstrip('.')}. Check these three in the stack file, or create the cluster "
            "first."
        )


class NotElasticCluster(Refused):
    def __init__(self, place: Place) -> None:
        super().__init__(
            f"Server {place.server_name!r} in resource group {place.resource_group!r} is a single flexible server, not "
            "an elastic cluster, and cannot become one. Create an elastic cluster and move the data there."
        )


class AzureLoginRefused(Refused):
    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} does not accept this login: {reason.rstrip('.')}. Run `az login`, or set AZURE_CLIENT_ID, "
            "AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
        )


@contextmanager
def translated(place: Place, doing: str) -> Iterator[None]:
    """Turn the SDK's exceptions into this project's. Order counts: all of them are AzureErrors."""
    from azure.core import exceptions as sdk

    try:
        yield
    except sdk.ClientAuthenticationError as error:
        raise AzureLoginRefused(place.endpoint, _first_line(error.message)) from error
    except sdk.DecodeError as error:
        raise garbled(doing, error.status_code) from error
    except sdk.HttpResponseError as error:
        code = (error.error.code if error.error else None) or str(error.status_code)
        text = (error.error.message if error.error else None) or error.message
        headers = getattr(error.response, "headers", {})
        raise refusal(place, doing, error.status_code or 0, code, text, headers) from error
    except sdk.ServiceRequestError as error:
        lab = place.endpoint.startswith("http://")
        fix = "Is the lab up? See `orchestrator lab status`." if lab else "Check the network."
        raise ClusterUnreachable(place.endpoint, _first_line(error.message), fix) from error
    except sdk.AzureError as error:
        # No answer, or half of one: the request may have taken effect. Read the server, then decide again.
        raise ArmBusy(doing, "NoAnswer", _first_line(error.message)) from error


def refusal(place: Place, doing: str, status: int, code: str, text: str, headers: Mapping[str, str]) -> Exception:
    """By code before status: a busy server is a 409 like any conflict, and a failed operation can come as a 200."""
    if code in _BUSY_CODES or status in _BUSY_STATUSES:
        return ArmBusy(doing, code, text, status=status, retry_after=retry_after(headers))
    if status == 401:
        return AzureLoginRefused(place.endpoint, text)
    if code in _ABSENT_CODES:
        return ServerNotFound(place, text)
    fix = ""
    if status == 403:
        fix = f"This login needs the role Contributor on resource group {place.resource_group!r}."
    return ArmError(doing, code, text, status=status, fix=fix)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else "no reason given"
