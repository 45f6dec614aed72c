"""Logging in to the database as an Entra principal: an access token takes the place of the password."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.core.errors import Refused

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Source: how-to-configure-sign-in-azure-ad-authentication, "Retrieve the Microsoft Entra access token".
SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
RENEW_SECONDS_BEFORE_END = 300


class NoEntraToken(Refused):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Entra gives no token for the database: {reason.rstrip('.')}. Run `az login`, or set AZURE_CLIENT_ID, "
            "AZURE_TENANT_ID and AZURE_CLIENT_SECRET; or set elastic-cluster:databaseLogin to {method: password}."
        )


class EntraPassword:
    """A token when called, kept until five minutes before it expires: asking `az` for one takes about a second."""

    def __init__(
        self, credential: Callable[[], TokenCredential] | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._make = credential
        self._credential: TokenCredential | None = None
        self._token: AccessToken | None = None
        self._now = now

    def __call__(self) -> str:
        """Raises NoEntraToken."""
        if self._token is None or self._token.expires_on - self._now() < RENEW_SECONDS_BEFORE_END:
            self._token = self._ask()
        return self._token.token

    def _ask(self) -> AccessToken:
        from azure.core.exceptions import ClientAuthenticationError

        if self._credential is None:
            self._credential = self._make() if self._make else _default()
        try:
            return self._credential.get_token(SCOPE)
        except ClientAuthenticationError as error:
            lines = (error.message or "").strip().splitlines()
            raise NoEntraToken(lines[0] if lines else "no reason given") from error


def _default() -> TokenCredential:
    from orchestrator.clients.azure.credentials import azure_credential

    return azure_credential()
