"""How busy the processors of this machine are, and the server's part of that, where the server runs here (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Ticks:
    """Since the machine started: of all processors those busy, and all; those that the server's processes took."""

    busy: int
    whole: int
    server: int


@dataclass(frozen=True, slots=True)
class Host:
    """The server's first process on this machine, and how many vCores it may use of how many."""

    postmaster: int
    allowed: int
    cores: int

    def ticks(self) -> Ticks | None:
        """None when it can no longer be read."""
        try:
            numbers = [int(word) for word in (_PROC / "stat").read_text("utf-8").splitlines()[0].split()[1:9]]
        except (OSError, ValueError, IndexError):
            return None
        # user nice system idle iowait irq softirq steal (proc(5)): what another machine took was not idle here.
        mine = sum(spent for parent, spent in _processes() if parent == self.postmaster)
        return Ticks(sum(numbers) - numbers[3] - numbers[4], sum(numbers), mine)


def server_here(connection: psycopg.Connection[Any]) -> Host | None:
    """None where the server runs elsewhere, be it behind a tunnel that begins here.

    Its process is looked for by number, in a container by the number that it has in there, and by its title.
    """
    info = connection.info
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    found = next((pid for pid in _numbered(row[0] if row else 0) if _title(pid, info.user, info.dbname)), None)
    if found is None:
        return None
    with suppress(OSError, ValueError):
        parent = int(_status(found)["PPid"])
        return Host(parent, len(os.sched_getaffinity(parent)), os.cpu_count() or 1)
    return None


def _numbered(number: int) -> Iterator[int]:
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if _status(int(folder.name)).get("NSpid", "").split()[-1:] == [str(number)]:
                yield int(folder.name)


def _status(pid: int) -> dict[str, str]:
    lines = (_PROC / str(pid) / "status").read_text("utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _title(pid: int, user: str, database: str) -> bool:
    """`postgres: user database address(port) state`, with the cluster's name after the first word where it has one."""
    with suppress(OSError):
        title = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
        return title.startswith("postgres") and f" {user} {database} " in title
    return False


def _processes() -> Iterator[tuple[int, int]]:
    """Of each process its parent and the ticks that it took (proc(5): fields 4, 14 and 15 of stat)."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold blanks and parentheses itself.
            words = (folder / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
            yield int(words[1]), int(words[11]) + int(words[12])
