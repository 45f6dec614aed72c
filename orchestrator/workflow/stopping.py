"""Stop a rebalance from another terminal, and leave a clean cluster: whoever moves, and whether it still lives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from orchestrator.core.errors import DatabaseError
from orchestrator.core.events import Waiting
from orchestrator.workflow.protocols import Database, Mover, StopRequests
from orchestrator.workflow.rebalance import until_stopped
from orchestrator.workflow.waiting import NO_TIMEOUT, Pause, Run, when_connected

# A move in its last phase is let finish, and the run puts its settings back: on Azure a minute for each.
END_TIMEOUT = 600.0


def stop(database: Database, mover: Mover, requests: StopRequests, alone: Callable[[], bool]) -> Run[str]:
    """`alone` takes the lock of runs, and says whether it could: then no other orchestrator is at work any more."""
    began = yield Waiting(0, "look for a rebalance", NO_TIMEOUT)
    job = (yield from when_connected(database.observe, "read the cluster")).job
    running = job if job is not None and job.in_flight else None
    others = not alone()
    run_id = requests.request_stop() if others else None
    if others and run_id is None and running is None:
        return "Another orchestrator is at work on this cluster, but moves nothing now: nothing was stopped."
    if running is not None:
        # It may just have ended by itself.
        with suppress(DatabaseError):
            database.stop_rebalance()
        yield from until_stopped(running.job_id, database)
    pause = Pause(0.1, 1.0)
    while others and not alone():
        yield Waiting(pause.next(), "the run comes to its end", END_TIMEOUT, began)
    strays = mover.cancel_strays()
    while mover.under_way():
        yield Waiting(pause.next(), "the moves come to their end", END_TIMEOUT, began)
    while left := mover.clean_up():
        yield Waiting(pause.next(), f"{left} leftovers are dropped", END_TIMEOUT, began)
    if others:
        return f"Stopped run {run_id}." if run_id is not None else "Stopped the rebalance."
    if running is not None or strays:
        what = f"job {running.job_id}" if running is not None else f"{strays} moves of a run that was killed"
        return f"Stopped {what}."
    return "No rebalance is running; nothing was stopped."
