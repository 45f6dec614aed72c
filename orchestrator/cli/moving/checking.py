"""What a run checks around its moves: chosen with --verify, and what a killed run's checks left is dropped first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from orchestrator.cli.session import Session
from orchestrator.clients.checks.checks import MoveChecks, sweep_leftovers
from orchestrator.clients.cluster.connection import connect
from orchestrator.core.planning.steps import Verify


@contextmanager
def checks(session: Session, verify: Verify) -> Iterator[None]:
    """Before anything is observed: the session has the cluster for itself by now."""
    sweep_leftovers(session.citus.connection)
    if verify != "off":
        made = MoveChecks(lambda: session.citus.connection, partial(connect, session.login))
        session.world = replace(session.world, oversight=replace(session.world.oversight, checks=made))
    yield
