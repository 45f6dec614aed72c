"""Locks on a stack's state in a backend of files: who holds one, and whether whoever held it is gone.

An update that is killed leaves its lock behind, and no later one can begin. A lock is dead when it was taken on this
machine by a process that does not run any more: that one alone is removed. Locks in other backends (Pulumi Cloud,
object stores) are not looked at: an update that meets one there is told so by Pulumi.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class Lock:
    """`since` is in the words of Pulumi: a time in UTC."""

    file: Path
    pid: int
    user: str
    host: str
    since: str

    @property
    def dead(self) -> bool:
        return self.host == socket.gethostname() and not _runs(self.pid)

    @property
    def holder(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, since {self.since}"


def read_locks(root: Path, stack: str, environment: Mapping[str, str] = os.environ) -> tuple[Lock, ...]:
    """None at all where the backend is not one of files."""
    folder = _files(root, environment)
    if folder is None:
        return ()
    project = str(yaml.safe_load((root / "Pulumi.yaml").read_text("utf-8"))["name"])
    locks = folder / ".pulumi" / "locks"
    # Before Pulumi 3.61 stacks of a backend of files belonged to no project.
    places = (locks / "organization" / project / stack, locks / stack)
    found = [_read(file) for place in places if place.is_dir() for file in sorted(place.glob("*.json"))]
    return tuple(lock for lock in found if lock is not None)


def backend(root: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Where the state is, in the order in which Pulumi looks; empty where nobody has logged in."""
    if environment.get("PULUMI_BACKEND_URL"):
        return environment["PULUMI_BACKEND_URL"]
    declared = (yaml.safe_load((root / "Pulumi.yaml").read_text("utf-8")) or {}).get("backend") or {}
    if declared.get("url"):
        return str(declared["url"])
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    try:
        return str(json.loads((home / "credentials.json").read_text("utf-8")).get("current") or "")
    except (OSError, ValueError):
        return ""


def _files(root: Path, environment: Mapping[str, str]) -> Path | None:
    url = backend(root, environment)
    if not url.startswith("file://"):
        return None
    return root / Path(url.removeprefix("file://").partition("?")[0]).expanduser()


def _read(file: Path) -> Lock | None:
    """None for a lock that was released meanwhile, or is being written."""
    try:
        found = json.loads(file.read_text("utf-8"))
        since = re.sub(r"\.\d+", "", str(found["timestamp"]))
        return Lock(file, int(found["pid"]), str(found["username"]), str(found["hostname"]), since)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs(pid: int) -> bool:
    """Pulumi runs under this number, or it cannot be told: then nothing is removed."""
    try:
        if pid > 0:
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state, program = _state(pid)
    except (OSError, subprocess.SubprocessError, ValueError):
        return True
    # One that has ended and was not waited for yet (Z) holds nothing any more.
    return not state.startswith("Z") and "pulumi" in program


def _state(pid: int) -> tuple[str, str]:
    """The state of the process and the name of its program. Where there is no /proc, `ps` knows."""
    stat = Path("/proc") / str(pid) / "stat"
    if Path("/proc/self/stat").exists():
        program, _, rest = stat.read_text("utf-8", "replace").partition("(")[2].rpartition(")")
        return rest.split()[0], program
    asked = ["ps", "-o", "stat=,comm=", "-p", str(pid)]
    state, program = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10).stdout.split(
        None, 1
    )
    return state, program
