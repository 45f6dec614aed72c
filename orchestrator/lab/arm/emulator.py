"""An ARM endpoint for the lab: the real Azure SDK talks to it over loopback HTTP and a local cluster does the work.

This module owns the sockets and the threads; `arm_api` knows the endpoints, `arm_operations` the state. It stands
in for Azure in the lab and in tests; there is no security in it: every bearer token is good.
"""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from orchestrator.lab.arm.api import answer
from orchestrator.lab.arm.backend import ClusterBackend
from orchestrator.lab.arm.faults import Faults
from orchestrator.lab.arm.metric_store import MetricStore
from orchestrator.lab.arm.operations import LabState, close_state, open_state, settle
from orchestrator.lab.arm.protocol import ArmFault, Reply, Request
from orchestrator.lab.arm.resources import ServerFacts

log = logging.getLogger(__name__)
_WRITES = frozenset({"PUT", "PATCH", "POST", "DELETE"})


class ArmEmulator:
    """Serves one server resource, made from `facts` unless `state_file` knows it already, and resizes `backend`.

    Without `facts` there is no server until one is created by PUT, and it can be deleted again. The caller starts the
    cluster first. One object is started once; a later one with the same file goes on.
    """

    def __init__(
        self,
        backend: ClusterBackend,
        facts: ServerFacts | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        state_file: Path | None = None,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.monotonic,
        metrics: MetricStore | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self._facts, self._address = facts, (host, port)
        self._state = LabState(backend, self.faults, clock, state_file, creatable=facts is None, metrics=metrics)
        self._http: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind first, so that a port in use is found before any state is touched."""
        self._http = _Server(self._address, self._state)
        try:
            open_state(self._state, self._facts)
        except BaseException:
            self._http.server_close()
            raise
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="arm-emulator", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, then wait for the work under way. Safe to repeat."""
        http, thread = self._http, self._thread
        self._http = self._thread = None
        if http is None or thread is None:
            return
        http.shutdown()
        thread.join()
        http.server_close()
        http.close_connections()
        close_state(self._state)

    @property
    def url(self) -> str:
        if self._http is None:
            raise RuntimeError("the ARM endpoint is not running: call start() first")
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> ArmEmulator:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    """Remembers open connections: idle ones of keep-alive clients would otherwise outlive the emulator."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], state: LabState) -> None:
        self.state = state
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("a client had gone already")

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        log.debug("connection of %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with Content-Length; knows nothing of ARM but authentication and the form of a body."""

    protocol_version = "HTTP/1.1"
    server_version = "orchestrator-lab-arm"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        if target.path == "/health":
            self._send(_health(self.server.state))
            return
        fault = self.server.state.faults.take_break(f"{self.command} {target.path}")
        if fault == "reset-before":
            self._reset()
            return
        reply = fault.reply() if isinstance(fault, ArmFault) else self._reply(target, body)
        taken = reply.status < 300 and self.command in _WRITES
        if taken and self.server.state.faults.take_lost_reply():
            self.close_connection = True
            return
        if fault == "reset-after":
            self._reset()
            return
        log.info("%s %s -> %d", self.command, target.path, reply.status)
        self._send(reply, garbled=fault == "garble")

    def _reply(self, target: SplitResult, body: bytes) -> Reply:
        try:
            return self._answer(target.path, dict(parse_qsl(target.query, keep_blank_values=True)), body)
        except Exception:  # a bug in here must look like a failing Azure, not like a broken network
            log.exception("%s %s failed in the lab's ARM endpoint", self.command, target.path)
            return ArmFault(500, "InternalServerError", "The lab's ARM endpoint failed; its log says why.").reply()

    def _reset(self) -> None:
        """Close the connection so that the client is told of a reset, not of an orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    do_GET = do_HEAD = do_PUT = do_PATCH = do_POST = do_DELETE = _serve  # noqa: N815

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> Reply:
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            text = "Authentication failed. The 'Authorization' header is missing."
            return ArmFault(401, "AuthenticationFailed", text, {"WWW-Authenticate": "Bearer"}).reply()
        try:
            parsed = json.loads(body) if body else {}
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            text = "The request content was invalid and could not be deserialized: a JSON object is expected."
            return ArmFault(400, "InvalidRequestContent", text).reply()
        base_url = f"http://{self.headers.get('Host', '')}"
        return answer(self.server.state, Request(self.command, path, query, parsed, base_url))

    def _send(self, reply: Reply, *, garbled: bool = False) -> None:
        content = b"" if reply.body is None else json.dumps(reply.body).encode()
        if garbled:
            content = content[: len(content) // 2]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        request_id = self.headers.get("x-ms-client-request-id")
        if request_id:
            self.send_header("x-ms-request-id", request_id)
        if content:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        if reply.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The standard log line would show whole URLs, signatures included."""


def _health(state: LabState) -> Reply:
    """For the lab's own `status`: no token needed. `nodes` is what ARM says, not what has joined."""
    settle(state)
    with state.lock:
        servers = {record.name: record.nodes for record in state.servers.values()}
        busy = any(operation.status == "InProgress" for operation in state.operations.values())
    return Reply(200, {"status": "ok", "servers": servers, "busy": busy})
