"""What the lab needs of the operating system: an unprivileged user for servers, their files, their processes.

PostgreSQL and PgBouncer refuse to run as root, so root's servers run as another user, to whom their files belong.
No shell is used, and no password is ever an argument of a process.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.core.errors import LabError

_USERS = ("postgres", "nobody", "daemon")
# Nothing else of the caller's environment reaches a server: PG* variables would change it, others may be secrets.
_ENVIRONMENT = ("PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ServerUser:
    name: str
    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """The user that servers run as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return ServerUser(name, entry.pw_uid, entry.pw_gid)
    raise LabError(
        f"PostgreSQL refuses to run as root, and none of the users {', '.join(_USERS)} exists to run it instead. "
        "Make one (`useradd --system postgres`) or run as an ordinary user."
    )


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", "HOME": "/"}


def run_as_server(args: Sequence[str | Path], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's user and give back its output, whatever its exit code."""
    user = server_user()
    uid, gid, groups = (None, None, None) if user is None else (user.uid, user.gid, ())
    try:
        return subprocess.run(
            [str(arg) for arg in args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            cwd="/", env=environment(), timeout=timeout, check=False,
            user=uid, group=gid, extra_groups=groups,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{args[0]} could not be run: {error}. Check that the installation is complete.") from error


def give_to_server(path: Path, mode: int) -> None:
    user = server_user()
    if user is not None:
        os.chown(path, user.uid, user.gid)
    path.chmod(mode)


def private_folder(path: Path) -> Path:
    """A 0700 folder of the server's user; parents that are missing are made passable for it."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
    give_to_server(path, 0o700)
    require_reachable(path)
    return path


def write_private(path: Path, text: str) -> Path:
    """Write a 0600 file of the server's user, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600, exist_ok=False)
    part.write_text(text, "utf-8")
    give_to_server(part, 0o600)
    part.replace(path)
    return path


def blocked_at(path: Path) -> Path | None:
    """The first folder on the way into the folder `path` that the server's user may not enter."""
    user = server_user()
    if user is None:
        return None
    path = path.resolve()
    for folder in (*reversed(path.parents), path):
        info = folder.stat()
        bit = stat.S_IXUSR if info.st_uid == user.uid else stat.S_IXGRP if info.st_gid == user.gid else stat.S_IXOTH
        if not info.st_mode & bit:
            return folder
    return None


def require_reachable(path: Path) -> None:
    blocked = blocked_at(path)
    user = server_user()
    if blocked and user:
        raise LabError(
            f"PostgreSQL runs as user {user.name!r} because it refuses root, and that user may not enter {blocked}, "
            f"on the way to {path}. Keep the lab elsewhere (below /var/tmp, for example), or run as an ordinary user."
        )


def command_line(pid: int) -> str:
    """How a process was started; empty when there is none (or only its unreaped remains)."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
