"""The `native` engine: real PostgreSQL servers with the real Citus extension, found through `pg_config`.

Each node is a data folder and a loopback port. `nodes.json` remembers the ports; which node of the cluster a folder
is, the folder's own database knows. Whatever a process that died left behind, the next `start` completes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from orchestrator.core.errors import LabError
from orchestrator.lab import nodes as cluster
from orchestrator.lab.certificates import make_identity
from orchestrator.lab.engine import Address, Availability, EngineName, LabSettings, Progress
from orchestrator.lab.nodes import Member
from orchestrator.lab.postgres import HOST, PortTaken, PostgresServer, becomes_free, free_ports, reachable_binaries
from orchestrator.lab.processes import private_folder, run_as_server, write_private

# The name under which the nodes know each other, as in Citus' own single-machine guides.
NODE_HOST = "localhost"
_AT_ONCE = 4
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Installation:
    binaries: Path
    version: str


@dataclass(frozen=True, slots=True)
class Node:
    """One line of nodes.json. Clients are sent to a node only once it has joined."""

    number: int
    port: int
    joined: bool = False


def find_installation() -> Installation | str:
    """PostgreSQL with Citus on this machine, or the reason why there is none."""
    program = os.environ.get("PG_CONFIG") or shutil.which("pg_config")
    named = "named by PG_CONFIG" if os.environ.get("PG_CONFIG") else "on PATH"
    if program is None:
        return "no pg_config on PATH; install PostgreSQL with Citus, or name its pg_config in PG_CONFIG"
    try:
        asked = [program, "--version", "--bindir", "--sharedir"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
        version, binaries, control = answer[0], Path(answer[1]), Path(answer[2]) / "extension" / "citus.control"
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        return f"{program} ({named}) cannot be asked about its installation: {error}"
    number = version.removeprefix("PostgreSQL ").split(" ")[0]
    if not control.is_file():
        return (
            f"PostgreSQL {number}, found through {program} ({named}), has no Citus: {control} does not exist; "
            "install Citus for it, or name another installation's pg_config in PG_CONFIG"
        )
    if not (binaries / "initdb").is_file():
        return f"PostgreSQL {number}, found through {program} ({named}), has no server: no initdb in {binaries}"
    lines = control.read_text("utf-8", errors="replace").splitlines()
    citus = next((line.split("=", 1)[1].strip(" '") for line in lines if line.startswith("default_version")), "unknown")
    return Installation(binaries, f"PostgreSQL {number} + Citus {citus}")


def availability() -> Availability:
    found = find_installation()
    if isinstance(found, str):
        return Availability("native", None, found)
    return Availability("native", found.version)


class NativeEngine:
    """See `orchestrator.lab.engine.Engine`."""

    def __init__(self, settings: LabSettings) -> None:
        self._settings = settings
        self._home = settings.directory.resolve() / "native"

    @property
    def name(self) -> EngineName:
        return "native"

    def start(self, nodes: int, progress: Progress) -> None:
        found = find_installation()
        if isinstance(found, str):
            raise LabError(f"The native engine cannot run here: {found}.")
        private_folder(self._home)
        self._ensure_identity()
        binaries = reachable_binaries(found.binaries, self._home / "binaries")
        wanted = self._plan(max(nodes, self._made()))
        template = PostgresServer(self._home / "template", binaries, 0)
        template.initdb(cluster.SUPERUSER, self._settings.superuser_password)
        for node in wanted:
            self._ensure_folder(template, node, progress)

        def up(node: Node) -> Node:
            started = self._start_server(binaries, node, {other.port for other in wanted})
            cluster.prepare(_member(started), self._settings)
            return started

        running = _at_once(up, wanted)
        self._remember(running)
        progress(f"{len(running)} servers run")
        cluster.ensure_cluster([_member(node) for node in running], self._settings, progress)
        self._remember([replace(node, joined=True) for node in running])

    def resize(self, nodes: int, progress: Progress) -> None:
        self.start(nodes, progress)

    def addresses(self) -> tuple[Address, ...]:
        return tuple(Address(HOST, node.port) for node in self._nodes() if node.joined)

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        return cluster.parameters(self._members()[0].address, self._settings)

    def set_parameter(self, name: str, value: str) -> None:
        cluster.set_parameter(self._members(), self._settings, name, value)

    def stop(self) -> None:
        folders = [path for path in self._home.glob("node*") if path.is_dir()] if self._home.is_dir() else []
        _at_once(lambda folder: PostgresServer(folder, folder, 0).stop(), folders)

    def delete(self) -> None:
        self.stop()
        if self._home.exists():
            shutil.rmtree(self._home)

    def _members(self) -> list[Member]:
        members = [_member(node) for node in self._nodes() if node.joined]
        if not members:
            raise LabError(f"The lab {self._settings.name!r} has no nodes yet. `orchestrator lab up` makes them.")
        return members

    def _nodes(self) -> list[Node]:
        try:
            return [Node(**line) for line in json.loads((self._home / "nodes.json").read_text("utf-8"))]
        except FileNotFoundError:
            return []

    def _remember(self, nodes: Iterable[Node]) -> None:
        lines = [{"number": node.number, "port": node.port, "joined": node.joined} for node in nodes]
        write_private(self._home / "nodes.json", json.dumps(lines, indent=1))

    def _folder(self, number: int) -> Path:
        return self._home / f"node{number}"

    def _made(self) -> int:
        """How many nodes have data, joined or not."""
        return sum(1 for path in self._home.glob("node*") if (path / "PG_VERSION").exists() and path.suffix != ".part")

    def _plan(self, count: int) -> list[Node]:
        """The nodes that are to run, on the ports they had unless somebody else has taken those meanwhile."""
        known = self._nodes()
        taken = {node.port for node in known}
        fresh = iter(free_ports(count, avoid=taken))
        nodes = (known + [Node(number, 0) for number in range(len(known), count)])[:count]
        ports = _at_once(self._usable_port, nodes)
        planned = [replace(node, port=port or next(fresh)) for node, port in zip(nodes, ports, strict=True)]
        self._remember(planned)
        return planned

    def _usable_port(self, node: Node) -> int | None:
        """The port on which the node runs, or the one it had if that is still free."""
        running = PostgresServer(self._folder(node.number), self._home, node.port).running_port()
        return running or (node.port if node.port and becomes_free(node.port) else None)

    def _ensure_identity(self) -> None:
        tls = self._home / "tls"
        if not (tls / "node.key").exists():
            private_folder(tls)
            identity = make_identity(self._settings.name)
            write_private(tls / "authority.crt", identity.authority)
            write_private(tls / "node.crt", identity.certificate)
            write_private(tls / "node.key", identity.key)

    def _ensure_folder(self, template: PostgresServer, node: Node, progress: Progress) -> None:
        folder = self._folder(node.number)
        if (folder / "PG_VERSION").exists():
            return
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        copied = run_as_server(["cp", "-Rp", template.data, part])
        if copied.returncode != 0:
            raise LabError(f"The data folder of node {node.number} could not be made: {copied.stdout.strip()}")
        part.rename(folder)
        progress(f"node {node.number} has its data folder")

    def _start_server(self, binaries: Path, node: Node, avoid: set[int]) -> Node:
        for _ in range(5):
            server = PostgresServer(self._folder(node.number), binaries, node.port)
            server.configure(cluster.node_settings(str(self._home / "tls")))
            server.write_hba(cluster.HBA)
            try:
                server.start()
            except PortTaken:
                node = replace(node, port=free_ports(1, avoid)[0])
            else:
                return node
        raise LabError(f"No free port was found for node {node.number}. Run `orchestrator lab up` again.")


def _member(node: Node) -> Member:
    return Member(NODE_HOST, node.port, Address(HOST, node.port))


def _at_once(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))
