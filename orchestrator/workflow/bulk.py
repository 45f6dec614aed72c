"""The step that makes many services: several at once, told by their number."""

from __future__ import annotations

from orchestrator.core.events import StepProgress, Waiting
from orchestrator.core.planning.steps_services import MakeServices
from orchestrator.workflow.protocols import Services
from orchestrator.workflow.waiting import NO_TIMEOUT, Pause, Run


def make_services(number: int, step: MakeServices, services: Services) -> Run[str]:
    """Raises what the first service that failed has failed with; those that have begun are brought to their end."""
    run, total, pause = services.start(step.bundles), len(step.bundles), Pause(longest=1.0)
    began: float | None = None
    now = 0.0
    try:
        while not run.ended():
            done = run.done
            left = None if not done or began is None or now <= began else (now - began) / done * (total - done)
            yield StepProgress(number, "services are being made", done, total, seconds_left=left)
            now = yield Waiting(pause.next(), "services are being made", NO_TIMEOUT)
            began = now if began is None else began
    finally:
        run.stop()
    return f"{total} services"
