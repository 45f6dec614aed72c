"""The load guard of a run: from its options to a gauge that watches while the run lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from orchestrator.cli.session import Session
from orchestrator.clients.azure.metrics import read_cpu_percent
from orchestrator.clients.cluster.connection import connect
from orchestrator.clients.moves.probe import LoadGauge
from orchestrator.core.errors import Refused
from orchestrator.core.moves.guard import Limits


def guarded(options: dict[str, Any]) -> tuple[dict[str, Any], Limits]:
    """The options without the guard's, and the guard's limits. Raises Refused where the two contradict each other."""
    names = ("max_p99", "max_cpu", "window")
    limits = Limits(max_cpu=options["max_cpu"], window=options["window"], **(options["max_p99"] or {}))
    if limits.any and options["moves"] == "job":
        given = ", ".join("--" + name.replace("_", "-") for name in names if options[name] is not None)
        raise Refused(
            f"{given} cannot slow down Citus' background job, which --moves job asks for. Nothing was changed. "
            "Leave out --moves job, or the limits."
        )
    return {name: value for name, value in options.items() if name not in names}, limits


@contextmanager
def guard(session: Session, limits: Limits) -> Iterator[None]:
    """Watches from now on, so that a baseline is there when the first move starts. Nothing without limits."""
    if not limits.any:
        yield
        return
    cpu = _cpu(session) if limits.max_cpu is not None else None
    gauge = LoadGauge(partial(connect, session.login) if limits.probed else None, cpu)
    gauge.start()
    oversight = replace(session.world.oversight, limits=limits, gauge=gauge)
    session.world = replace(session.world, oversight=oversight)
    try:
        yield
    finally:
        gauge.close()


def _cpu(session: Session) -> Callable[[], float | None] | None:
    """Read once now: a limit on something that nobody measures would only seem to guard."""
    if session.control is None:
        raise Refused("--max-cpu needs Azure's control plane, which this command does not use.")
    read = partial(read_cpu_percent, session.control)
    read()
    return read
