"""What every lab engine does, whatever runs behind it.

An engine keeps everything it needs below one folder, `LabSettings.directory`; a second object made from the same
settings continues with what is there. So a process that died leaves nothing that the next one cannot find and stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

EngineName = Literal["docker", "native", "embedded"]
Progress = Callable[[str], None]

# The two settings that decide how many shard moves run at once. Microsoft's scale-out how-to has the admin change
# them with ALTER SYSTEM, so the lab's admin may do that, and nothing else that needs a superuser.
ADMIN_SETTINGS = ("citus.max_background_task_executors", "citus.max_background_task_executors_per_node")


@dataclass(frozen=True)
class LabSettings:
    """One lab: where it lives and what the cluster is to look like. Passwords are random and made once per lab."""

    name: str
    directory: Path
    database: str
    admin_login: str
    admin_password: str
    superuser_password: str


@dataclass(frozen=True)
class Address:
    """A TCP address that reaches one node from this machine."""

    host: str
    port: int


@dataclass(frozen=True)
class Availability:
    """Whether an engine can run here: `version` when it can, else `reason` and how to get it."""

    engine: EngineName
    version: str | None
    reason: str = ""

    @property
    def available(self) -> bool:
        return self.version is not None


class Engine(Protocol):
    """Runs one elastic cluster. Every node, the coordinator included, may hold shards; there is one user database.

    Nodes are registered under host names that are meaningful between the nodes; `addresses` is how this machine
    reaches them. Every method can be repeated: it ensures an end state.
    """

    @property
    def name(self) -> EngineName: ...

    def start(self, nodes: int, progress: Progress) -> None:
        """Make the cluster with `nodes` nodes, or start the one that is there (never with fewer nodes than it had).

        Afterwards: the database exists with Citus (or its stand-in) in it, all nodes are active, metadata-synced and
        may hold shards, and the admin role can log in. Raises LabError with the server's own log when it cannot.
        """

    def resize(self, nodes: int, progress: Progress) -> None:
        """Add nodes until there are `nodes`; never removes one. What Azure does behind a clusterSize PATCH."""

    def addresses(self) -> tuple[Address, ...]:
        """One address per node, the coordinator first."""

    def parameters(self) -> Mapping[str, tuple[str, str]]:
        """Server parameters that may be changed at run time: name -> (value, default)."""

    def set_parameter(self, name: str, value: str) -> None:
        """Set one server parameter on every node and reload. Raises LabError with the server's text if it refuses."""

    def stop(self) -> None:
        """Stop every server, also those that an earlier process started and then died. Nothing running is no error."""

    def delete(self) -> None:
        """Stop, and remove the data."""
