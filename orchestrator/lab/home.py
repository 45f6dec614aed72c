"""Where a lab lives on disk, and who is running it.

Every lab has one folder: outside the project, because servers must be able to reach it when root starts them for an
unprivileged user, and named after project and lab, so that labs do not meet. Its `lock` is held by the process that
runs the lab: a free lock means that nobody does, whatever process ids say.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.core.errors import LabError
from orchestrator.lab.engine import EngineName, LabSettings

HOME_VARIABLE = "ORCHESTRATOR_LAB_HOME"


@dataclass(frozen=True, slots=True)
class LabRecord:
    """What a lab is, written once when it is made; only `nodes` and the ports of its listeners change later."""

    name: str
    engine: EngineName
    nodes: int
    database: str
    admin_login: str
    admin_password: str
    superuser_password: str
    server: Mapping[str, Any]
    arm_port: int = 0
    balanced_port: int = 0
    pooled_port: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """What a running lab offers. Ports are on 127.0.0.1; `pooled` is None where no pgbouncer was found."""

    pid: int
    engine: EngineName
    version: str
    arm: str
    direct: int
    balanced: int
    pooled: int | None
    nodes: int


def base_folder(environment: Mapping[str, str] = os.environ) -> Path:
    if environment.get(HOME_VARIABLE):
        return Path(environment[HOME_VARIABLE]).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/tmp/orchestrator-lab-root")  # noqa: S108  # made 0711 and checked to be ours
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "orchestrator-lab"


class LabHome:
    """One lab's folder. Nothing is made until `create`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        self.progress_file = self.folder / "progress.log"
        self.log_file = self.folder / "lab.log"
        self.password_file = self.folder / "admin.password"
        self.arm_state = self.folder / "arm.json"
        self.pooler = self.folder / "pgbouncer"
        self._record = self.folder / "lab.json"
        self._running = self.folder / "running.json"

    @classmethod
    def of(cls, project: Path, name: str, base: Path | None = None) -> LabHome:
        """The lab of that name of one project: two checkouts do not share labs."""
        identity = hashlib.sha256(str(project.resolve()).encode()).hexdigest()[:8]
        return cls((base or base_folder()) / f"{project.resolve().name or 'lab'}-{identity}-{name}", name)

    @classmethod
    def at(cls, folder: Path) -> LabHome:
        """The lab in a folder that exists."""
        return cls(folder, cls(folder, "").read().name)

    def exists(self) -> bool:
        return self._record.is_file()

    def create(
        self, engine: EngineName, nodes: int, database: str, admin_login: str, server: Mapping[str, Any]
    ) -> LabRecord:
        """Make the folder and the lab's passwords. Raises LabError when the folder belongs to somebody else."""
        _own_folder(self.folder.parent, 0o711)
        _own_folder(self.folder, 0o711)
        record = LabRecord(
            self.name,
            engine,
            nodes,
            database,
            admin_login,
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            dict(server),
        )
        write_secret(self.password_file, record.admin_password)
        self.write(record)
        return record

    def write(self, record: LabRecord) -> None:
        write_secret(self._record, json.dumps(asdict(record), indent=1))

    def read(self) -> LabRecord:
        try:
            return LabRecord(**json.loads(self._record.read_text("utf-8")))
        except FileNotFoundError:
            raise LabError(f"There is no lab {self.name!r}. `orchestrator lab up` makes one.") from None
        except (OSError, ValueError, TypeError) as error:
            raise LabError(
                f"The lab {self.name!r} cannot be read ({error}). `orchestrator lab down --delete` removes it."
            ) from error

    def settings(self) -> LabSettings:
        record = self.read()
        return LabSettings(
            record.name,
            self.folder,
            record.database,
            record.admin_login,
            record.admin_password,
            record.superuser_password,
        )

    def grow(self, nodes: int) -> None:
        self.write(replace(self.read(), nodes=nodes))

    def announce(self, running: Running) -> None:
        write_secret(self._running, json.dumps(asdict(running), indent=1))

    def withdraw(self) -> None:
        self._running.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """None when no process runs the lab, also when one died and left its announcement behind."""
        if not self.locked():
            return None
        try:
            return Running(**json.loads(self._running.read_text("utf-8")))
        except (OSError, ValueError):
            return None

    def locked(self) -> bool:
        try:
            with (self.folder / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def take_lock(self) -> int:
        """The descriptor that holds the lock; it goes with the process. Raises LabError when another has it."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for last in (False,) * 20 + (True,):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if last:
                    os.close(descriptor)
                    raise LabError(f"Another process runs the lab {self.name!r}.") from None
                # Somebody asking whether the lab runs holds it for an instant.
                time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    def lock_holder(self) -> int | None:
        """The process that holds the lock. Only meaningful while it is held."""
        try:
            return int((self.folder / "lock").read_text("utf-8"))
        except (OSError, ValueError):
            return None


def write_secret(path: Path, text: str) -> None:
    """A 0600 file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def _own_folder(path: Path, mode: int) -> None:
    """A well-known name in a shared folder could have been made by somebody else to read our data."""
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise LabError(f"{path} belongs to another user. Set {HOME_VARIABLE} to a folder of your own.")
    path.chmod(mode)
