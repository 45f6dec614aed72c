"""The verbs on moves: rebalance, undo a run, stop one, list them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.moving.checking import checks
from orchestrator.cli.moving.guarding import guard, guarded
from orchestrator.cli.moving.options import wishes
from orchestrator.cli.moving.preflight import warnings
from orchestrator.cli.running import Output, execute, print_json
from orchestrator.cli.session import open_session
from orchestrator.cli.stack import stackfile
from orchestrator.clients.cluster.connection import connect
from orchestrator.clients.cluster.runs import RunRecord
from orchestrator.clients.moves.moving import MovingClient
from orchestrator.core.errors import AlreadyRunning
from orchestrator.core.moves.runs import RecordedRun, UndoOf
from orchestrator.core.planning.plan import Wanted
from orchestrator.driver import drive
from orchestrator.workflow.stopping import stop


def rebalance_cluster(
    root: Path, undo: int | None, stack: str, as_json: bool, as_events: bool, yes: bool, **moving: Any
) -> int:
    """Returns the exit code."""
    file = stackfile.load(root, stack)
    moving, limits = guarded(moving)
    with (
        open_session(root, file, services=False, control=True, lock=True) as session,
        guard(session, limits),
        checks(session, moving["verify"]),
    ):
        run = None
        if undo is not None:
            record = RunRecord(lambda: session.citus.connection)
            run = UndoOf(undo, record.moves(undo))
        wanted = Wanted(False, False, True, **wishes(**moving), guarded=limits.any, undo=run)
        command, output = "undo" if run else "rebalance", Output(as_json, as_events)
        return execute(session, command, wanted, output, yes=yes, preflight=partial(warnings, session))


def stop_rebalance(root: Path, stack: str, as_json: bool) -> int:
    """Returns 0 also when nothing was running: then it is as asked for."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=False) as session:

        def alone() -> bool:
            try:
                session.citus.lock()
            except AlreadyRunning:
                return False
            return True

        record = RunRecord(lambda: session.citus.connection)
        mover = MovingClient(partial(connect, session.login), session.citus)
        said = drive(stop(session.citus, mover, record, alone), lambda _: None)
    if as_json:
        print_json({"result": said})
    else:
        click.echo(said)
    return 0


def show_runs(root: Path, stack: str, as_json: bool) -> None:
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=False) as session:
        runs = RunRecord(lambda: session.citus.connection).runs()
    if as_json:
        print_json([_run_json(run) for run in runs])
        return
    if not runs:
        click.echo("No run has moved data yet.")
    for run in runs:
        ended = f"{run.outcome}" if run.finished_at else "not over"
        click.echo(f"  run {run.run_id:<4} {run.started_at:%Y-%m-%d %H:%M}  {run.moves:>5} moves, {run.way}: {ended}")


def _run_json(run: RecordedRun) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "outcome": run.outcome,
        "way": run.way,
        "moves": run.moves,
    }
