"""Proxies that cut connections at a chosen moment, for `resume.py`.

`SqlProxy` counts what clients send; `ArmProxy` counts requests. Either cuts with a TCP reset: before the chosen message
is passed on, or after the other side has answered it and before the client hears of that.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
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
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()


class SqlProxy:
    """One listener before one server. `seen` counts the messages of clients since `arm` was called."""

    def __init__(self, target: int) -> None:
        self.target, self.seen, self.cut = target, 0, None
        self.cut: Cut | None
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def arm(self, cut: Cut | None) -> None:
        with self._lock:
            self.seen, self.cut = 0, cut

    def reset_all(self) -> int:
        """Cut every connection that is open now; how many there were."""
        with self._lock:
            now = list(self._open)
        for connection in now:
            reset(connection)
        return len(now) // 2

    def close(self) -> None:
        self._listener.close()
        self.reset_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                reset(client)
                continue
            pair = (client, server)
            with self._lock:
                self._open.update(pair)
            marked = threading.Event()
            threading.Thread(target=self._forward, args=(client, server, pair, marked), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client, pair, marked), daemon=True).start()

    def _forward(
        self, client: socket.socket, server: socket.socket, pair: tuple[socket.socket, ...], marked: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    self.seen += 1
                    hit = self.cut is not None and self.seen == self.cut.at
                    when = self.cut.when if self.cut else None
                if hit and when == "before":
                    break
                if hit:
                    marked.set()
                server.sendall(data)
        self._end(pair)

    def _back(
        self, server: socket.socket, client: socket.socket, pair: tuple[socket.socket, ...], marked: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if marked.is_set():
                    break
                client.sendall(data)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, ...]) -> None:
        with self._lock:
            self._open.difference_update(pair)
        for connection in pair:
            reset(connection)


class ArmProxy(ThreadingHTTPServer):
    """Passes requests on to the lab's ARM endpoint. `seen` counts them since `arm` was called."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://")
        self.seen, self.cut = 0, None
        self.cut: Cut | None
        self.lock = threading.Lock()
        super().__init__((LOOPBACK, 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def arm(self, cut: Cut | None) -> None:
        with self.lock:
            self.seen, self.cut = 0, cut

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
        reset(self.connection)

    def log_message(self, *_: object) -> None:
        pass
