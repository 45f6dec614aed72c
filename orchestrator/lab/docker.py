"""The `docker` engine: one container of the Citus image per node on a private network, through the `docker` command.

Containers are disposable: a node is its volume and its line in `nodes.json`. Everything is named and labelled after
the lab's folder, so labs never meet and what a dead process left is found again. Images are never pulled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.core.errors import LabError
from orchestrator.lab import nodes as cluster
from orchestrator.lab.certificates import make_identity
from orchestrator.lab.engine import Address, Availability, EngineName, LabSettings, Progress
from orchestrator.lab.nodes import Member
from orchestrator.lab.postgres import HOST, free_ports
from orchestrator.lab.processes import private_folder, write_private

DEFAULT_IMAGE = "citusdata/citus:13.2"
LABEL = "elastic-cluster-orchestrator.lab"
PORT = 5432
# Paths of our own inside the container: the image's data path differs between PostgreSQL versions.
_DATA, _SHARED = "/lab/node", "/lab/shared"
_READY_DEADLINE = 120.0
# Inside a container only: the image's entrypoint sets the database up through the socket.
_SOCKET_HBA = "local all all trust"


@dataclass(frozen=True, slots=True)
class Node:
    """One line of nodes.json. A node that was not made completely has nothing to lose and is made anew."""

    number: int
    port: int
    made: bool = False
    joined: bool = False


def image() -> str:
    return os.environ.get("ORCHESTRATOR_LAB_IMAGE") or DEFAULT_IMAGE


def availability() -> Availability:
    """Asks the engine and looks for the image; pulls nothing."""
    if shutil.which("docker") is None:
        return Availability("docker", None, "no `docker` command on PATH")
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=5)
    except LabError as error:
        return Availability("docker", None, f"no Docker engine answers ({error})")
    try:
        found: dict[str, Any] = json.loads(docker("image", "inspect", image(), timeout=5))[0]["Config"]
    except LabError:
        missing = f"the image {image()} is not on this machine; `docker pull {image()}` gets it"
        return Availability("docker", None, missing)
    variables = {name: value for name, _, value in (entry.partition("=") for entry in found.get("Env") or ())}
    postgres = (variables.get("PG_VERSION") or variables.get("PG_MAJOR") or "?").split("-")[0]
    citus = variables.get("CITUS_VERSION", "?").split(".citus")[0]
    return Availability("docker", f"PostgreSQL {postgres} + Citus {citus} ({image()})")


def docker(*args: str, stdin: bytes | None = None, timeout: float = 120) -> str:
    """Run the docker command; its complaint becomes a LabError."""
    try:
        done = subprocess.run(["docker", *args], input=stdin or b"", capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"`docker {args[0]}` did not answer within {timeout:.0f} s; is the Docker engine well?"
        ) from error
    except OSError as error:
        raise LabError(f"`docker` could not be run: {error}. Install Docker or choose another engine.") from error
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise LabError(f"`docker {args[0]}` failed: {complaint[0]}")
    return done.stdout.decode(errors="replace").strip()


class DockerEngine:
    """See `orchestrator.lab.engine.Engine`."""

    def __init__(self, settings: LabSettings) -> None:
        self._settings = settings
        folder = settings.directory.resolve()
        self._home = folder / "docker"
        self._lab = f"orchestrator-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"

    @property
    def name(self) -> EngineName:
        return "docker"

    def start(self, nodes: int, progress: Progress) -> None:
        found = availability()
        if not found.available:
            raise LabError(f"The docker engine cannot run here: {found.reason}.")
        private_folder(self._home)
        planned = self._plan(nodes)
        running = self._containers("running")
        self._ensure_network()
        if not running:
            self._share_files()

        def up(node: Node) -> Node:
            if not (node.made and self._container(node) in running):
                node = self._run(node, {other.port for other in planned})
                progress(f"node {node.number} has its container")
            self._await_ready(node)
            cluster.prepare(_member(node), self._settings)
            return replace(node, made=True)

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(up, planned))
        self._remember(made)
        cluster.ensure_cluster([_member(node) for node in made], self._settings, progress)
        self._remember([replace(node, joined=True) for node in made])

    def resize(self, nodes: int, progress: Progress) -> None:
        self.start(nodes, progress)

    def addresses(self) -> tuple[Address, ...]:
        return tuple(Address(HOST, node.port) for node in self._nodes() if node.joined)

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        return cluster.parameters(self._members()[0].address, self._settings)

    def set_parameter(self, name: str, value: str) -> None:
        cluster.set_parameter(self._members(), self._settings, name, value)

    def stop(self) -> None:
        if shutil.which("docker") is None and not self._home.exists():
            return
        containers = self._containers()
        if containers:
            docker("stop", "--time", "15", *containers)
            docker("rm", "--force", "--volumes", *containers)
        for network in docker("network", "ls", "--quiet", *self._mine()).split():
            docker("network", "rm", network)

    def delete(self) -> None:
        self.stop()
        if self._home.exists() or shutil.which("docker"):
            volumes = docker("volume", "ls", "--quiet", *self._mine()).split()
            if volumes:
                docker("volume", "rm", *volumes)
        shutil.rmtree(self._home, ignore_errors=True)

    def _mine(self) -> tuple[str, str]:
        return "--filter", f"label={LABEL}={self._lab}"

    def _label(self) -> tuple[str, str]:
        return "--label", f"{LABEL}={self._lab}"

    def _container(self, node: Node) -> str:
        return f"{self._lab}-node{node.number}"

    def _containers(self, state: str | None = None) -> list[str]:
        only = ("--filter", f"status={state}") if state else ()
        return docker("ps", "--all", "--format", "{{.Names}}", *self._mine(), *only).split()

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
        write_private(self._home / "nodes.json", json.dumps([asdict(node) for node in nodes], indent=1))

    def _plan(self, wanted: int) -> list[Node]:
        known = self._nodes()
        count = max(wanted, sum(node.made for node in known))
        ports = free_ports(count, avoid={node.port for node in known})
        planned = (known + [Node(number, ports[number]) for number in range(len(known), count)])[:count]
        self._remember(planned)
        return planned

    def _ensure_network(self) -> None:
        if not docker("network", "ls", "--quiet", *self._mine()):
            docker("network", "create", *self._label(), self._lab)

    def _share_files(self) -> None:
        """Certificates, pg_hba.conf and the superuser's password, in one volume that every node reads."""
        kept = self._home / "identity.json"
        if not kept.exists():
            write_private(kept, json.dumps(asdict(make_identity(self._settings.name))))
        identity = json.loads(kept.read_text("utf-8"))
        files = {
            "authority.crt": identity["authority"],
            "node.crt": identity["certificate"],
            "node.key": identity["key"],
            "pg_hba.conf": "\n".join((_SOCKET_HBA, *cluster.HBA)) + "\n",
            "password": self._settings.superuser_password,
        }
        docker("volume", "create", *self._label(), f"{self._lab}-shared")
        docker(
            "run", "--rm", "--interactive", "--pull", "never", *self._label(), "--network", "none",
            "--volume", f"{self._lab}-shared:{_SHARED}", "--entrypoint", "sh", image(),
            "-c", f"umask 077; tar -xf - -C {_SHARED} && chown -R postgres {_SHARED} && chmod 700 {_SHARED}",
            stdin=_tar(files),
        )  # fmt: skip

    def _run(self, node: Node, avoid: set[int]) -> Node:
        """A fresh container on the node's volume; on another port where the remembered one is taken by now."""
        name = self._container(node)
        if name in self._containers():
            docker("rm", "--force", "--volumes", name)
        if not node.made:
            docker("volume", "rm", "--force", name)
        docker("volume", "create", *self._label(), name)
        try:
            self._run_container(name, node)
        except LabError as error:
            docker("rm", "--force", "--volumes", name)
            if "port is already allocated" not in str(error) and "address already in use" not in str(error):
                raise
            node = replace(node, port=free_ports(1, avoid)[0])
            self._run_container(name, node)
        return node

    def _run_container(self, name: str, node: Node) -> None:
        settings = {
            **cluster.node_settings(_SHARED),
            "listen_addresses": "*",
            "hba_file": f"{_SHARED}/pg_hba.conf",
        }
        docker(
            "run", "--detach", "--pull", "never", "--name", name, *self._label(),
            "--network", self._lab, "--network-alias", _host(node), "--publish", f"{HOST}:{node.port}:{PORT}",
            "--volume", f"{name}:{_DATA}", "--volume", f"{self._lab}-shared:{_SHARED}:ro",
            "--stop-signal", "SIGINT", "--shm-size", "256m",
            "--env", f"PGDATA={_DATA}/data", "--env", f"POSTGRES_USER={cluster.SUPERUSER}",
            "--env", f"POSTGRES_DB={self._settings.database}", "--env", f"POSTGRES_PASSWORD_FILE={_SHARED}/password",
            "--env", "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C --no-sync",
            image(), "postgres", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        )  # fmt: skip

    def _await_ready(self, node: Node) -> None:
        """The engine's proxy takes connections before the server does, so only a login proves anything."""
        name, deadline = self._container(node), time.monotonic() + _READY_DEADLINE
        while True:
            try:
                cluster.connect(_member(node).address, self._settings, cluster.CONTROL_DATABASE).close()
            except LabError as error:
                if name not in self._containers("running") or time.monotonic() > deadline:
                    raise LabError(f"Node {node.number} does not start: {_log_tail(name)}") from error
                time.sleep(0.2)
            else:
                return


def _host(node: Node) -> str:
    return f"node{node.number}"


def _member(node: Node) -> Member:
    return Member(_host(node), PORT, Address(HOST, node.port))


def _log_tail(container: str) -> str:
    command = ["docker", "logs", "--tail", "20", container]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
    return done.stdout.decode(errors="replace").strip()


def _tar(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o600
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
