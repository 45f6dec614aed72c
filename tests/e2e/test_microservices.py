"""The example services: they go on while nodes are added and schemas move; ping refuses what is not public."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.lab.postgres import free_port
from tests.e2e.test_scale_out import connect
from tests.fix_lab import ROOT, Project

sys.path.insert(0, str(ROOT / "examples" / "microservices"))

from app.reach import Refused, is_public, public_address


def call(url: str, body: dict[str, str] | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data=data, timeout=60) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


@pytest.fixture
def services(lab_project: tuple[Project, str]) -> Iterator[tuple[Project, int]]:
    project, _ = lab_project
    applied = project.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    first = free_port()
    run = subprocess.Popen(
        [sys.executable, str(project.folder / "examples/microservices/run.py"), "--listen", str(first)],
        cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for number in range(3):
            wait_for(first + number)
        yield project, first
    finally:
        run.send_signal(2)
        run.wait(timeout=30)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def move_to_new_nodes(project: Project) -> None:
    """The rebalance leaves three small schemas where they are, so they are moved by hand."""
    with connect(project) as admin:
        newest = "SELECT nodename, nodeport FROM pg_dist_node ORDER BY nodeid DESC LIMIT 2"
        places = admin.execute(newest).fetchall()
        for number, service in enumerate(("user_service", "time_service", "ping_service")):
            admin.execute("SELECT citus_schema_move(%s::regnamespace, %s, %s)", (service, *places[number % 2]))


def test_no_request_fails_while_the_cluster_grows(services: tuple[Project, int]) -> None:
    project, first = services
    stop = threading.Event()
    answers: Counter[tuple[str, int]] = Counter()

    def ask(name: str, url: str, body: dict[str, str] | None) -> None:
        while not stop.is_set():
            answers[name, call(url, body)[0]] += 1

    asked = [
        ("user", f"http://127.0.0.1:{first}/users", {"name": "A", "email": "a@example.com"}),
        ("time", f"http://127.0.0.1:{first + 1}/time", None),
        ("pings", f"http://127.0.0.1:{first + 2}/pings", None),
    ]
    threads = [threading.Thread(target=ask, args=item) for item in asked]
    for thread in threads:
        thread.start()
    try:
        grown = project.run("scale-out", "--nodes", "6", "--yes", "--json")
        move_to_new_nodes(project)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert grown.returncode == 0, grown.stderr
    assert set(answers) == {("user", 201), ("time", 200), ("pings", 200)}
    assert call(asked[0][1])[1] == {"users": answers["user", 201]}
    status, said = call(f"http://127.0.0.1:{first + 2}/ping?host=169.254.169.254")
    assert (status, said["error"]) == (403, "'169.254.169.254' is not a public address")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "168.63.129.16",
        "0.0.0.0",  # noqa: S104
        "[::1]", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "224.0.0.1", "255.255.255.255", "100.64.0.1", "", "a" * 300,
    ],
)  # fmt: skip
def test_ping_refuses_what_is_not_public(host: str) -> None:
    with pytest.raises(Refused):
        public_address(host)


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def resolve(host: str, *_: object, **__: object) -> list[Any]:
        looked_up.append(host)
        return [(0, 0, 0, "", (address, 0)) for address in ("8.8.8.8", "10.0.0.1")[: len(looked_up)]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert public_address("rebinds.example") == ipaddress.ip_address("8.8.8.8")
    assert looked_up == ["rebinds.example"]
    with pytest.raises(Refused):
        public_address("rebinds.example")


def test_public_addresses_are_public() -> None:
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert is_public(ipaddress.ip_address("2606:4700:4700::1111"))
