"""The lab's balanced port: a TCP listener that spreads connections over the nodes, as Azure's port 7432 does.

Bytes pass through untouched, but for one option: `startup_options` adds server options to the StartupMessage of every
session. One background thread serves all connections. A target that does not answer is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Sequence

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import Address
from orchestrator.lab.postgres import HOST, PortTaken

CONNECT_TIMEOUT = 5.0
FLUSH_TIMEOUT = 1.0
STARTUP_TIMEOUT = 60.0  # as PostgreSQL's authentication_timeout
# Protocol constants: PostgreSQL documentation, "Message Formats".
_SSL_REQUEST, _GSSENC_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_MAX_STARTUP_LENGTH = 10000
_BLOCK = 65536

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        sessions: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session = asyncio.ensure_future(self._serve(reader, writer))
            sessions.add(session)
            session.add_done_callback(sessions.discard)
            # Also for a session that is cancelled before it begins, whose code never runs.
            session.add_done_callback(lambda _: writer.transport.abort())

        server = await asyncio.start_server(accepted, sock=listener)
        up.set()
        await self._stopping.wait()
        server.close()
        # Connections that were accepted in this very moment are still on their way to becoming sessions.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for session in sessions:
                session.cancel()
            await asyncio.wait(others)
        await asyncio.sleep(0)  # aborted connections close their sockets in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: _Streams | None = None
        try:
            first = b""
            if self._startup_options is not None:
                async with asyncio.timeout(STARTUP_TIMEOUT):
                    first = await _startup(reader, writer, self._startup_options)
            server = await self._connect()
            if server is None:
                writer.write(_fatal("no node of the cluster answers"))
                await writer.drain()
                return
            server[1].write(first)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, server[1]))
                both.create_task(_pump(server[0], writer))
        except* (OSError, EOFError, TimeoutError, ValueError):
            pass  # one side went away or does not speak the protocol: the other side sees its connection end
        finally:
            await asyncio.gather(*(_close(stream) for stream in (writer, server and server[1]) if stream))

    async def _connect(self) -> _Streams | None:
        """The next target in turn that answers."""
        targets = list(self._targets())
        start = next(self._turn)
        for offset in range(len(targets)):
            target = targets[(start + offset) % len(targets)]
            with contextlib.suppress(OSError, TimeoutError):
                # Not wait_for(), which may lose a connection that is made while it is cancelled.
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(target.host, target.port)
        return None


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the end, then close only this direction: the other one may still have something to say."""
    while block := await source.read(_BLOCK):
        sink.write(block)
        await sink.drain()
    sink.write_eof()


async def _close(stream: asyncio.StreamWriter) -> None:
    """Let what is under way arrive, but do not wait for a peer that has stopped reading."""
    stream.close()
    try:
        async with asyncio.timeout(FLUSH_TIMEOUT):
            await stream.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        stream.transport.abort()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, options: str) -> bytes:
    """Read the client's first message and give it back with the options added. Encryption is answered with 'no'."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!II", head)
        if not 8 <= length <= _MAX_STARTUP_LENGTH:
            raise ValueError("not a PostgreSQL client")
        body = await reader.readexactly(length - 8)
        if code in (_SSL_REQUEST, _GSSENC_REQUEST):
            writer.write(b"N")
            await writer.drain()
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
