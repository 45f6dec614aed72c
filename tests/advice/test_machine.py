"""Whether the server runs on this machine: by its process, also in a container, and never by its address."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.clients.advice import bench_machine
from orchestrator.clients.advice.bench_machine import server_here
from tests.fix_plain import Plain

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this machine")
Backend = Callable[[str, str], None]


@pytest.fixture
def backend(plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Makes the machine one on which there is a single process, with these numbers and this title."""
    monkeypatch.setattr(bench_machine, "_PROC", tmp_path)

    def make(numbers: str, title: str) -> None:
        folder = tmp_path / "4711"
        folder.mkdir()
        (folder / "status").write_text(f"Name:\tpostgres\nPPid:\t{os.getpid()}\nNSpid:\t{numbers}\n")
        (folder / "cmdline").write_bytes(title.encode() + b"\0")

    return make


def test_a_server_on_this_machine_is_found_and_what_it_takes_is_counted(plain: Plain) -> None:
    with plain.connect() as connection:
        host = server_here(connection)
        assert host is not None
        before = host.ticks()
        connection.execute("SELECT sum(sqrt(i)) FROM generate_series(1, 3000000) i")
        after = host.ticks()
    assert before is not None
    assert after is not None
    assert after.server > before.server
    assert after.busy > before.busy


@pytest.mark.parametrize("title", ["postgres: postgres {name} 172.17.0.1(4) idle", "postgres: main: postgres {name} x"])
def test_in_a_container_it_has_another_number(plain: Plain, backend: Backend, title: str) -> None:
    with plain.connect() as connection:
        backend(f"4711\t{connection.info.backend_pid}", title.format(name=plain.name))
        found = server_here(connection)
    assert found is not None
    assert found.postmaster == os.getpid()


@pytest.mark.parametrize("title", ["postgres: postgres other 127.0.0.1(4) idle", "bash -c postgres {name} "])
def test_behind_a_tunnel_the_number_is_somebody_elses(plain: Plain, backend: Backend, title: str) -> None:
    with plain.connect() as connection:
        backend(str(connection.info.backend_pid), title.format(name=plain.name))
        assert server_here(connection) is None


def test_without_such_a_process_the_server_is_elsewhere(plain: Plain, backend: Backend) -> None:
    backend("4711", f"postgres: postgres {plain.name} idle")
    with plain.connect() as connection:
        assert server_here(connection) is None
