"""Restart the server and wait until every client of the drill is answered again."""

from __future__ import annotations

from orchestrator.core.checks.drill import Failover
from orchestrator.core.errors import ArmBusy, ClusterUnreachable
from orchestrator.core.events import Notice, Waiting
from orchestrator.workflow.protocols import Clients, Restarts
from orchestrator.workflow.waiting import NO_TIMEOUT, Patience, Run, finished

RECOVERY_TIMEOUT = 180.0  # seconds after the restart has ended
SETTLED = 1.0  # seconds for which the clients work before the restart, so that there is something to compare with


def drill(control: Restarts, failover: Failover | None, clients: Clients) -> Run[None]:
    """A client that is never answered again is no error here: the report names it."""
    doing = f"{failover} failover" if failover else "restart"
    yield Waiting(SETTLED, "the clients work", NO_TIMEOUT)
    patience = Patience(doing)
    while True:
        try:
            operation = control.start_restart(failover)
            break
        except (ArmBusy, ClusterUnreachable) as busy:
            yield from patience.wait(busy)
    yield Notice(f"The {doing} has been asked for.")
    yield from finished(control, operation, doing)
    yield Notice(f"The {doing} is done, says the control plane; waiting until every client is answered.")
    clients.mark()
    now = yield Waiting(0.1, "waiting for the clients", NO_TIMEOUT)
    deadline = now + RECOVERY_TIMEOUT
    while not clients.answered() and now < deadline:
        now = yield Waiting(0.1, "waiting for the clients", NO_TIMEOUT)
