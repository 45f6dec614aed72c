"""The balanced port: spreads connections, passes over dead nodes, keeps both directions apart, forgets nothing open."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from orchestrator.core.errors import LabError
from orchestrator.lab.balancer import Balancer
from orchestrator.lab.engine import Address
from orchestrator.lab.postgres import HOST, free_port


class Node:
    """Answers every connection with its name, then echoes until the client's end, then says goodbye."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self.address = Address(HOST, self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                session, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(session,), daemon=True).start()

    def _talk(self, session: socket.socket) -> None:
        try:
            with session:
                session.sendall(self.name)
                while block := session.recv(65536):
                    session.sendall(block)
                session.sendall(b"bye")
        except OSError:
            pass

    def close(self) -> None:
        # shutdown wakes the thread in accept(), which would otherwise keep the port alive.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    made = [Node(name) for name in "abc"]
    yield made
    for node in made:
        if node._listener.fileno() != -1:
            node.close()


Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Balancer] = []

    def make(targets: Callable[[], Sequence[Address]], startup_options: str | None = None) -> int:
        port = free_port()
        balancer = Balancer(port, targets, startup_options=startup_options)
        balancer.start()
        running.append(balancer)
        return port

    yield make
    for balancer in running:
        balancer.stop()


def call(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=10)


def greeting(port: int) -> bytes:
    with call(port) as session:
        return session.recv(1)


def read_all(session: socket.socket) -> bytes:
    return b"".join(iter(lambda: session.recv(65536), b""))


def test_connections_are_spread_evenly(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [node.address for node in nodes])
    assert sorted(greeting(port) for _ in range(9)) == [b"a"] * 3 + [b"b"] * 3 + [b"c"] * 3


def test_a_node_that_joins_gets_connections_without_a_restart(nodes: list[Node], start: Start) -> None:
    serving = [nodes[0].address]
    port = start(lambda: serving)
    assert {greeting(port) for _ in range(4)} == {b"a"}
    serving.append(nodes[1].address)
    assert {greeting(port) for _ in range(4)} == {b"a", b"b"}


def test_a_dead_node_is_passed_over(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [node.address for node in nodes])
    nodes[1].close()
    assert {greeting(port) for _ in range(6)} == {b"a", b"c"}


def test_with_no_node_alive_the_client_is_told_so_in_the_protocol(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [nodes[0].address])
    nodes[0].close()
    with pytest.raises(psycopg.OperationalError, match="no node of the cluster answers"):
        psycopg.connect(host=HOST, port=port, user="svc", dbname="app", sslmode="disable")


def test_what_comes_after_the_clients_end_still_arrives(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [nodes[0].address])
    sent = os.urandom(1_000_000)
    with call(port) as session:
        writer = threading.Thread(target=lambda: (session.sendall(sent), session.shutdown(socket.SHUT_WR)))
        writer.start()
        received = read_all(session)
        writer.join()
    assert received == b"a" + sent + b"bye"


def test_thousands_of_connections_leave_no_descriptor_open(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [node.address for node in nodes])
    greeting(port)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(2_000):
        with call(port) as session:
            if number % 3 == 0:  # ends of all kinds: at once, after an answer, in the middle of a request
                session.recv(1)
            elif number % 3 == 1:
                session.sendall(b"x" * 100)
    deadline = time.monotonic() + 20
    while len(list(Path("/proc/self/fd").iterdir())) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_stopping_ends_the_connections_and_frees_the_port(nodes: list[Node]) -> None:
    port = free_port()
    balancer = Balancer(port, lambda: [nodes[0].address])
    balancer.start()
    with call(port) as session:
        assert session.recv(1) == b"a"
        balancer.stop()
        assert session.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        call(port)
    balancer.stop()
    balancer.start()
    assert greeting(port) == b"a"
    balancer.stop()


def test_a_taken_port_is_named(nodes: list[Node]) -> None:
    with pytest.raises(LabError, match=f"Port {nodes[0].address.port} on 127.0.0.1 is used by another program"):
        Balancer(nodes[0].address.port, list).start()


def startup(protocol: int, **parameters: str) -> bytes:
    fields = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return struct.pack("!II", len(fields) + 8, protocol) + fields


def parsed(message: bytes) -> dict[str, str]:
    length, _ = struct.unpack("!II", message[:8])
    assert length == len(message)
    fields = message[8:-2].decode().split("\0")
    return dict(zip(fields[::2], fields[1::2], strict=True))


def through(port: int, *messages: bytes) -> bytes:
    """What arrives at a node: it echoes. An encryption request is answered with N before anything else is sent."""
    with call(port) as session:
        for message in messages:
            session.sendall(message)
            if message == ENCRYPTION_REQUEST:
                assert session.recv(1) == b"N"
        session.shutdown(socket.SHUT_WR)
        return read_all(session).removeprefix(b"a").removesuffix(b"bye")


ENCRYPTION_REQUEST = struct.pack("!II", 8, 80877103)
PROTOCOL_3 = 196608


def test_options_are_added_to_a_session(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [nodes[0].address], "-c lab.node=3")
    seen = parsed(through(port, startup(PROTOCOL_3, user="svc", database="")))
    assert seen == {"user": "svc", "database": "", "options": "-c lab.node=3"}


def test_the_clients_own_options_stay_and_ours_win(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [nodes[0].address], "-c lab.node=3")
    seen = parsed(through(port, ENCRYPTION_REQUEST, startup(PROTOCOL_3, user="svc", options="-c lab.node=9")))
    assert seen["options"] == "-c lab.node=9 -c lab.node=3"


def test_a_request_to_cancel_passes_unchanged(nodes: list[Node], start: Start) -> None:
    port = start(lambda: [nodes[0].address], "-c lab.node=3")
    cancel = struct.pack("!IIII", 16, 80877102, 4711, 42)
    assert through(port, cancel) == cancel


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 3, PROTOCOL_3)])
def test_a_client_that_does_not_speak_postgresql_is_let_go(nodes: list[Node], start: Start, noise: bytes) -> None:
    port = start(lambda: [nodes[0].address], "-c lab.node=3")
    with call(port) as session:
        session.sendall(noise)
        with contextlib.suppress(ConnectionResetError):
            assert session.recv(1) == b""
