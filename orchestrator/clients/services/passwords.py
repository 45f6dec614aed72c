"""Passwords of the services: read from where the stack file says, or generated once into a private file.

A password leaves this module only as a return value. It is never part of a message.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from orchestrator.core.desired.services import Password, ServiceSpec
from orchestrator.core.errors import Problem, SpecError
from orchestrator.core.observed.state import ServicesState

_RANDOM_BYTES = 24  # 32 characters, 192 bits
# By role: the password, why it cannot be read, or None where it would have to be generated first.
Known: TypeAlias = Mapping[str, str | Problem | None]


@dataclass(frozen=True, slots=True)
class Passwords:
    """Of one stack. `root` is the project's folder: files are relative to it, generated passwords kept below it."""

    root: Path
    stack: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def read(self, role: str, source: Password) -> str | Problem | None:
        """The password, or why it cannot be read; None where it would have to be generated first."""
        where = f"password of {role}"
        if source.env is not None:
            value = self.environment.get(source.env)
            if value is None:
                return Problem(where, f"the environment variable {source.env} is not set", "set it")
            return _usable(value, where, f"the environment variable {source.env}")
        if source.file is not None:
            return _from_file(where, self.root / source.file)
        kept = self._kept(role)
        return _from_file(where, kept) if kept.exists() else None

    def read_all(self, services: Sequence[ServiceSpec]) -> Known:
        return {service.role_name: self.read(service.role_name, service.password) for service in services}

    def ensure(self, role: str, source: Password) -> str:
        """The password, generated and kept if need be. Raises SpecError where its source cannot be read."""
        found = self.read(role, source)
        if found is None:
            found = _generate(f"password of {role}", self._kept(role))
        if isinstance(found, Problem):
            raise SpecError(f"The password of role {role}", [found])
        return found

    def _kept(self, role: str) -> Path:
        return self.root / ".secrets" / self.stack / f"{quote(role, safe=' ')}.password"


def password_problems(services: Sequence[ServiceSpec], known: Known, state: ServicesState) -> tuple[Problem, ...]:
    """Sources that must work before the first change: those of roles to be made, and files that others can read."""
    problems = []
    for service in services:
        found = known[service.role_name]
        if isinstance(found, Problem) and (service.role_name not in state.roles or service.password.env is None):
            problems.append(found)
    return tuple(problems)


def _from_file(where: str, path: Path) -> str | Problem:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(4096)
    except OSError as error:
        return Problem(where, f"{path} cannot be read: {error.strerror}", "make the file, with mode 0600")
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        shown = stat.S_IMODE(mode)
        return Problem(where, f"{path} has mode {shown:04o}, so that others may read it", f"chmod 600 {path}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return Problem(where, f"{path} is not UTF-8", "save it as UTF-8")
    return _usable(text.removesuffix("\n").removesuffix("\r"), where, str(path))


def _usable(value: str, where: str, source: str) -> str | Problem:
    if not value:
        return Problem(where, f"{source} is empty", "put the password there")
    if any(character in value for character in "\0\r\n"):
        return Problem(where, f"the password in {source} has more than one line", "keep nothing else there")
    return value


def _generate(where: str, path: Path) -> str | Problem:
    """Make a password and keep it. Whole or not at all, and never over one that another run has just kept."""
    password = secrets.token_urlsafe(_RANDOM_BYTES)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(password + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)
        finally:
            part.unlink()
    except FileExistsError:
        return _from_file(where, path)
    except OSError as error:
        return Problem(where, f"it cannot be kept in {path}: {error.strerror}", "allow writing there")
    return password
