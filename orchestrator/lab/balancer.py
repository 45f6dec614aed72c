"""The lab's balanced port: a TCP listener that spreads connections over the nodes, as Azure's port 7432 does.

Bytes pass through untouched, but for one option: `startup_options` adds server options to the StartupMessage of every
session. One background thread serves all connections. A target that does not answer is passed over.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import Address
from orchestrator.lab.postgres import HOST, PortTaken

CONNECT_TIMEOUT = 5.0
FAREWELL_TIMEOUT = 1.0
STARTUP_TIMEOUT = 60.0  # as PostgreSQL's authentication_timeout
# Protocol constants: PostgreSQL documentation, "Message Formats".
_SSL_REQUEST, _GSSENC_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_MAX_STARTUP_LENGTH = 10000
_BLOCK = 65536


class Balancer:
    """Listens on a loopback port; `targets` is asked anew for every connection, so nodes may come at any time."""

    def __init__(
        self, listen_port: int, targets: Callable[[], Sequence[Address]], *, startup_options: str | None = None
    ) -> None:
        self._port = listen_port
        self._targets = targets
        self._startup_options = startup_options
        self._turn = itertools.count()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        """Returns when the port takes connections."""
        if self._thread is not None:
            return
        try:
            listener = socket.create_server((HOST, self._port), backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"Port {self._port} on {HOST} is used by another program. Stop it first.") from error
            raise LabError(f"Port {self._port} on {HOST} cannot be listened on: {error}.") from error
        up = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, up)), name=f"balancer-{self._port}", daemon=True
        )
        self._thread.start()
        up.wait()

    def stop(self) -> None:
        """Close the port and every connection through it. Not running is no error."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = self._stopping = None

    async def _run(self, listener: socket.socket, up: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._stopping = loop, asyncio.Event()
        sessions: set[asyncio.Task[None]] = set()
        with listener:
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener, sessions)
            up.set()
            await self._stopping.wait()
            loop.remove_reader(listener)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _accept(self, listener: socket.socket, sessions: set[asyncio.Task[None]]) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has left already
        except OSError:
            time.sleep(0.05)  # no descriptor to spare until a session ends; the client waits in the queue
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = asyncio.get_running_loop().create_task(self._serve(client))
        sessions.add(session)
        session.add_done_callback(sessions.discard)
        # Also for a session that is cancelled before it begins, whose code never runs.
        session.add_done_callback(lambda _: client.close())

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            first = b""
            if self._startup_options is not None:
                async with asyncio.timeout(STARTUP_TIMEOUT):
                    first = await _startup(client, self._startup_options)
            server = await self._connect()
            if server is None:
                await _refuse(client, "no node of the cluster answers")
                return
            with server:
                await loop.sock_sendall(server, first)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(client, server))
                    both.create_task(_pump(server, client))
        except* (OSError, EOFError, TimeoutError, ValueError):
            pass  # one side went away or does not speak the protocol: the other side sees its connection end

    async def _connect(self) -> socket.socket | None:
        """The next target in turn that answers."""
        targets = list(self._targets())
        start = next(self._turn)
        for offset in range(len(targets)):
            target = targets[(start + offset) % len(targets)]
            server = _connection_socket()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await asyncio.get_running_loop().sock_connect(server, (target.host, target.port))
            except (OSError, TimeoutError):
                server.close()
            except BaseException:
                server.close()
                raise
            else:
                return server
        return None


def _connection_socket() -> socket.socket:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the end, then close only this direction: the other one may still have something to say."""
    loop = asyncio.get_running_loop()
    while block := await loop.sock_recv(source, _BLOCK):
        await loop.sock_sendall(sink, block)
    sink.shutdown(socket.SHUT_WR)


async def _refuse(client: socket.socket, reason: str) -> None:
    """Also reads what the client says: closing with something unread would take the message back."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, _fatal(reason))
    client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(FAREWELL_TIMEOUT):
        while await loop.sock_recv(client, _BLOCK):
            pass


async def _read(source: socket.socket, count: int) -> bytes:
    loop, read = asyncio.get_running_loop(), b""
    while len(read) < count:
        block = await loop.sock_recv(source, count - len(read))
        if not block:
            raise EOFError("the client left before it had said who it is")
        read += block
    return read


async def _startup(client: socket.socket, options: str) -> bytes:
    """Read the client's first message and give it back with the options added. Encryption is answered with 'no'."""
    while True:
        head = await _read(client, 8)
        length, code = struct.unpack("!II", head)
        if not 8 <= length <= _MAX_STARTUP_LENGTH:
            raise ValueError("not a PostgreSQL client")
        body = await _read(client, length - 8)
        if code in (_SSL_REQUEST, _GSSENC_REQUEST):
            await asyncio.get_running_loop().sock_sendall(client, b"N")
        elif code == _CANCEL_REQUEST:
            return head + body
        else:
            return _with_options(code, body, options.encode())


def _with_options(protocol: int, body: bytes, options: bytes) -> bytes:
    fields = body[:-2].split(b"\0") if len(body) > 2 else []  # the last value's end and the list's end
    parameters = dict(zip(fields[::2], fields[1::2], strict=True))
    # Last wins in PostgreSQL, so ours come after the client's own.
    parameters[b"options"] = b" ".join(filter(None, (parameters.get(b"options"), options)))
    packed = b"".join(name + b"\0" + value + b"\0" for name, value in parameters.items()) + b"\0"
    return struct.pack("!II", len(packed) + 8, protocol) + packed


def _fatal(text: str) -> bytes:
    """An ErrorResponse; 57P03 is cannot_connect_now."""
    fields = b"".join(part.encode() + b"\0" for part in ("SFATAL", "VFATAL", "C57P03", f"M{text}")) + b"\0"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields
