"""Steps on one tenant: pin it, release it, give its rows a shard of their own."""

from __future__ import annotations

from orchestrator.core.errors import DatabaseError
from orchestrator.core.events import Notice, StepProgress, Waiting
from orchestrator.core.planning.steps import PinTenant, ReleaseTenant, SplitTenant, TenantStep
from orchestrator.workflow.moving import clean_up, wait_for_stragglers
from orchestrator.workflow.protocols import Mover, Tenants
from orchestrator.workflow.waiting import NO_TIMEOUT, Pause, Run

# Somebody holds a lock on the table: about a minute in all, with pauses that double.
TRIES = 6
PROGRESS_EVERY = 1.0


def on_tenant(number: int, step: TenantStep, tenants: Tenants, mover: Mover) -> Run[str]:
    match step:
        case PinTenant():
            tenants.keep(step.pin)
        case ReleaseTenant():
            tenants.release(step.tenant)
        case SplitTenant():
            return (yield from _split(number, step, tenants, mover))
    return ""


def _split(number: int, step: SplitTenant, tenants: Tenants, mover: Mover) -> Run[str]:
    """A split of a run that was killed may still be under way, and may have been made: then nothing is left to do."""
    yield from wait_for_stragglers(mover)
    for tries in range(1, TRIES + 1):
        try:
            made = yield from _until_made(number, step, tenants)
            break
        except DatabaseError as error:
            if not error.blocked or tries == TRIES:
                raise
            yield Notice(f"The split has to wait and is tried again: {error.text.rstrip('.')}.")
            yield Waiting(2.0 ** (tries - 1), "the split is tried again", NO_TIMEOUT)
    yield from clean_up(mover)
    return "" if made else "it had one already"


def _until_made(number: int, step: SplitTenant, tenants: Tenants) -> Run[bool]:
    """Whether there was anything to split."""
    if not tenants.start_split(step):
        return False
    pause, told = Pause(0.02, 0.5), -PROGRESS_EVERY
    try:
        while not tenants.split_ended():
            now = yield Waiting(pause.next(), step.title, NO_TIMEOUT)
            if now - told >= PROGRESS_EVERY:
                told = now
                yield StepProgress(number, "Citus copies the shard into its parts")
    finally:
        tenants.stop_split()
    return True
