"""Who the ARM client says it is. Imported only when a client is made: azure.core is slow to load."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy

from orchestrator.clients.azure.entra import LOOPBACK
from orchestrator.core.errors import Refused


class InsecureEndpoint(Refused):
    def __init__(self, url: str) -> None:
        super().__init__(
            f"The ARM endpoint {url} cannot be used: a token for Azure must not travel unencrypted. Nothing was sent. "
            "Use an https:// address; http:// is only for a lab on this machine (127.0.0.1 or localhost)."
        )


def is_lab(base_url: str | None) -> bool:
    """True for plain http on loopback. Raises InsecureEndpoint for plain http to anywhere else."""
    if base_url is None:
        return False
    parts = urlsplit(base_url)
    if parts.scheme == "https":
        return False
    if parts.scheme == "http" and parts.hostname in LOOPBACK:
        return True
    raise InsecureEndpoint(base_url)


def azure_credential() -> TokenCredential:
    """Environment variables, workload identity, managed identity, `az login`, in azure-identity's order."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


class NoCredential:
    """The SDK insists on a credential; in the lab it is never asked for a token."""

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        raise RuntimeError(f"the lab's ARM endpoint needs no token, but one was asked for {', '.join(scopes)}")


class FixedBearer(SansIOHTTPPolicy[Any, Any]):
    """The SDK's own policy refuses plain http; the lab's endpoint takes any bearer token."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.http_request.headers["Authorization"] = "Bearer lab"
