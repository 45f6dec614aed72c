"""Proxies that cut connections at a chosen moment, for `resume.py`.

`SqlProxy` counts what clients send; `ArmProxy` counts requests. Either cuts with a TCP reset: before the chosen message
is passed on, or after the other side has answered it and before the client hears of that.
"""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

When = Literal["before", "after"]
LOOPBACK = "127.0.0.1"


@dataclass
class Cut:
    """The message that is lost, counted from 1, and on which side of its effect."""

    at: int
    when: When


def reset(connection: socket.socket) -> None:
    """Close with RST, as a machine does that was switched off and on again."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class SqlProxy:
    """One listener before one server. `seen` counts the messages of clients since `arm` was called.

    One thread does everything: a socket that two threads close can take a newer connection of the same number with it.
    """

    def __init__(self, target: int) -> None:
        self.target, self.seen, self.fired = target, 0, False
        self.cut: Cut | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0))
        self._wake, self._woken = socket.socketpair()
        self._reset_done = threading.Event()
        self._closing = False
        self._clients: dict[socket.socket, socket.socket] = {}
        self._servers: dict[socket.socket, socket.socket] = {}
        self._marked: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        for one in (self._listener, self._woken):
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def arm(self, cut: Cut | None) -> None:
        with self._lock:
            self.seen, self.cut, self.fired = 0, cut, False

    def reset_all(self) -> None:
        """Cut every connection that is open now."""
        self._reset_done.clear()
        self._wake.send(b"r")
        self._reset_done.wait(10)

    def close(self) -> None:
        self._closing = True
        self._wake.send(b"c")
        self._thread.join(10)
        for one in (self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listener:
                    self._accept()
                elif ready is self._woken:
                    ready.recv(64)
                    for client in list(self._clients):
                        self._end(client, reset)
                    self._reset_done.set()
                    if self._closing:
                        return
                elif ready in self._clients:
                    self._forward(ready)
                elif ready in self._servers:
                    self._back(ready)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection((LOOPBACK, self.target))
        except OSError:
            reset(client)
            return
        self._clients[client], self._servers[server] = server, client
        for one in (client, server):
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, client: socket.socket) -> None:
        if not (data := _received(client)):
            self._end(client, socket.socket.close)
            return
        with self._lock:
            self.seen += 1
            hit = self.cut is not None and self.seen == self.cut.at
            self.fired = self.fired or hit
            before = self.cut is not None and self.cut.when == "before"
        if hit and before:
            self._end(client, reset)
            return
        if hit:
            self._marked.add(client)
        self._send(client, self._clients[client], data)

    def _back(self, server: socket.socket) -> None:
        client = self._servers[server]
        data = _received(server)
        if client in self._marked:
            self._end(client, reset)
        elif not data:
            self._end(client, socket.socket.close)
        else:
            self._send(client, client, data)

    def _send(self, client: socket.socket, to: socket.socket, data: bytes) -> None:
        try:
            to.sendall(data)
        except OSError:
            self._end(client, reset)

    def _end(self, client: socket.socket, how: Callable[[socket.socket], None]) -> None:
        server = self._clients.pop(client)
        self._servers.pop(server)
        self._marked.discard(client)
        for one in (client, server):
            self._selector.unregister(one)
            how(one)


def _received(connection: socket.socket) -> bytes:
    """Empty at the end of the connection, however it came."""
    try:
        return connection.recv(65536)
    except OSError:
        return b""


class ArmProxy(ThreadingHTTPServer):
    """Passes requests on to the lab's ARM endpoint. `seen` counts them since `arm` was called."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://")
        self.seen, self.fired = 0, False
        self.cut: Cut | None = None
        self.lock = threading.Lock()
        super().__init__((LOOPBACK, 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def arm(self, cut: Cut | None) -> None:
        with self.lock:
            self.seen, self.cut, self.fired = 0, cut, False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was cut off is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ArmProxy

    def _pass_on(self) -> None:
        with self.server.lock:
            self.server.seen += 1
            cut = self.server.cut
            hit = cut is not None and self.server.seen == cut.at
            self.server.fired = self.server.fired or hit
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if hit and cut is not None and cut.when == "before":
            self._cut()
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        # The Host header goes along: the endpoint builds the addresses of operations from it.
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        text = answer.read()
        upstream.close()
        if hit:
            self._cut()
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - names of the base class

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The reader and writer of the base class would hold a connection open that is only closed.
        socket.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        pass
