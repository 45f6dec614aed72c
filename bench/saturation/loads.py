"""Loads of which it is known what they use up: it is what makes them faster when there is more of it, and nothing else.

Each is a script of pgbench with a server as it needs it; `relieved` is the same with more of what it uses up, `other`
the same with less of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench.saturation.disk import FAST, Disk

ROLE = "loader"


@dataclass(frozen=True)
class Load:
    """`expected`: what is used up, in the words of the benchmark; `says` has to be among what it tells people.

    `cores` are those that the server may use, `standby` is the disk of a synchronous one, `limit` the number of the
    role's connections. `clients` is how many pgbench has.
    """

    name: str
    expected: str
    script: str
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--commit",)
    says: str = ""
    disk: Disk = FAST
    settings: Mapping[str, str] = field(default_factory=dict)
    cores: int | None = None
    standby: Disk | None = None
    limit: int | None = None
    clients: int = 8
    relieved: Callable[[Load], Load] | None = None
    other: Callable[[Load], Load] | None = None

    @property
    def commits(self) -> bool:
        return "--commit" in self.options


def one_core(load: Load) -> Load:
    return replace(load, cores=1)


def on_disk(disk: Disk) -> Callable[[Load], Load]:
    return lambda load: replace(load, disk=disk)


def with_script(old: str, new: str) -> Callable[[Load], Load]:
    return lambda load: replace(load, script=load.script.replace(old, new))


def _table(rows: int) -> tuple[str, ...]:
    return (
        "CREATE TABLE work (id bigint PRIMARY KEY, n double precision NOT NULL)",
        f"INSERT INTO work SELECT i, 0 FROM generate_series(1, {rows}) i",
        "VACUUM ANALYZE work",
    )


# 100 kB of WAL, and nothing else that is written.
_MESSAGE = "SELECT pg_logical_emit_message(true, 'load', repeat('x', 100000));\n"
_COMPUTED = (
    "\\set id random(1, 20000)\n"
    "UPDATE work SET n = (SELECT sum(sqrt(i)) FROM generate_series(1, 20000) i) WHERE id = :id;\n"
)
_ADD = "\\set id random(1, 20000)\nUPDATE work SET n = n + 1 WHERE id = :id;\n"
_READ = "\\set id random(1, 100000)\nSELECT n FROM work WHERE id = :id;\n"
_SLEEP = "SELECT pg_sleep(0.02);\n"

LOADS = (
    Load(
        "computing", "cpu", _COMPUTED, _table(20000), (), "processor saturates",
        relieved=with_script("(1, 20000) i", "(1, 10000) i"), other=on_disk(Disk(flush=0.02)),
    ),
    Load(
        "computing on one core", "cpu", _COMPUTED, _table(20000), (), "processor saturates", cores=1,
        relieved=lambda load: replace(load, cores=2), other=on_disk(Disk(flush=0.02)),
    ),
    Load(
        "much WAL on a disk of 10 MB/s", "wal", _MESSAGE, says="Writing the WAL saturates",
        disk=Disk(write=0.0008), relieved=on_disk(Disk(write=0.0002)), other=one_core,
    ),
    Load(
        "much WAL to a standby with such a disk", "wal", _MESSAGE, says="the standby",
        standby=Disk(write=0.0008), relieved=lambda load: replace(load, standby=Disk(write=0.0002)), other=one_core,
    ),
    Load(
        "commits on a disk that flushes in 10 ms", "none", _ADD, _table(20000), ("--commit", "--max-clients", "8"),
        "wait mostly for", Disk(flush=0.01), relieved=on_disk(Disk(flush=0.0025)), other=one_core,
    ),
    Load(
        "one hot row", "locks", "UPDATE work SET n = n + 1 WHERE id = 1;\n", _table(20000), says="the same rows",
        disk=Disk(flush=0.005), relieved=lambda load: replace(load, script=_ADD), other=one_core,
    ),
    Load(
        "a locked table", "locks", "BEGIN;\nLOCK TABLE work IN EXCLUSIVE MODE;\n" + _ADD + "END;\n", _table(20000),
        says="whole tables", disk=Disk(flush=0.005), relieved=with_script("LOCK TABLE work IN EXCLUSIVE MODE;\n", ""),
        other=one_core,
    ),
    Load(
        "reading from a disk of 500 operations/s", "disk", _READ, _table(100000), says="The disk's reads",
        disk=Disk(read=0.002), settings={"shared_buffers": "1MB"},
        relieved=on_disk(Disk(read=0.0005)), other=one_core,
    ),
    Load(
        "a role with 10 connections", "connections", _SLEEP, says="no more connections", limit=10,
        relieved=lambda load: replace(load, limit=40, clients=32), other=one_core,
    ),
    Load(
        "a server with 40 connections", "connections", _SLEEP, says="no more connections",
        settings={"max_connections": "40"},
        relieved=lambda load: replace(load, settings={}, clients=32), other=one_core,
    ),
    Load("next to nothing", "client", "SELECT 1;\n", says="This command", other=on_disk(Disk(flush=0.02))),
)  # fmt: skip
