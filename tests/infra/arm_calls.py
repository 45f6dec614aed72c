"""Plain HTTP to an ARM endpoint: one call, and the operation behind it followed to its end."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit


class ArmRefused(Exception):
    """An answer other than 2xx, or an operation that failed, in the words of Pulumi's provider."""

    def __init__(self, status: int, body: Any) -> None:
        error = (body or {}).get("error") or {}
        self.status, self.code = status, error.get("code", "")
        super().__init__(f'Status={status} Code="{self.code}" Message="{error.get("message", "")}"')


class Arm:
    """`url` is the endpoint. Counts the writes, so that tests can tell one change from two."""

    def __init__(self, url: str, subscription: str) -> None:
        self.url, self.subscription = url, subscription
        self.writes: list[str] = []

    def get(self, path: str, version: str) -> dict[str, Any]:
        _, body, _ = self._send("GET", f"{path}?api-version={version}")
        return dict(body)

    def write(self, method: str, path: str, version: str, body: Any = None) -> None:
        """PUT or DELETE, done when this returns."""
        self.writes.append(f"{method} {path}")
        _, _, headers = self._send(method, f"{path}?api-version={version}", body)
        poll = headers.get("Azure-AsyncOperation")
        while poll is not None:
            address = urlsplit(poll)
            _, operation, _ = self._send("GET", f"{address.path}?{address.query}")
            if operation["status"] == "Succeeded":
                return
            if operation["status"] == "Failed":
                raise ArmRefused(200, operation)
            time.sleep(0.01)

    def _send(self, method: str, address: str, body: Any = None) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, address, text, {"Authorization": "Bearer any"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        parsed = json.loads(content) if content else None
        if response.status >= 400:
            raise ArmRefused(response.status, parsed)
        return response.status, parsed, response.headers
