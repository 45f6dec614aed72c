"""Azure's metric of the processors for `advise --benchmark`: whether it can be read, and a load that is held for it.

Azure has one value a minute, and it arrives minutes late. So the load is held for three minutes, two of which are whole
ones, and its values are waited for when it is over.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from orchestrator.cli.session import open_control
from orchestrator.cli.stack.stackfile import load
from orchestrator.clients.advice.bench import Bench
from orchestrator.clients.azure.arm import ArmClient
from orchestrator.clients.azure.metrics import read_cpu_minutes
from orchestrator.clients.azure.resource_id import server_of
from orchestrator.core.errors import ArmBusy, OrchestratorError, Refused
from orchestrator.core.observed.metrics import LATE, MINUTE, Span, whole_minutes
from orchestrator.driver import drive
from orchestrator.workflow.metered import LONGEST, arrived
from orchestrator.workflow.waiting import waited

HELD = 180.0  # seconds


@dataclass(frozen=True, slots=True)
class Metric:
    """`control` is None where it cannot be read; `reason` says why, and is empty where nobody asked for it."""

    control: ArmClient | None = None
    reason: str = ""


@contextmanager
def metric_of(root: Path, stack: str | None, azure_id: str | None) -> Iterator[Metric]:
    """Read once, so that what will not work is known before the load. Raises Refused where it was asked for by name."""
    if stack is not None and azure_id is not None:
        raise Refused("--azure-id goes with --url: with --stack the stack file names the server.")
    with ExitStack() as opened:
        yield _tried(root, stack, azure_id, opened)


def _tried(root: Path, stack: str | None, azure_id: str | None, opened: ExitStack) -> Metric:
    try:
        if azure_id is not None:
            control = opened.enter_context(server_of(azure_id))
        elif stack is not None:
            control = opened.enter_context(open_control(load(root, stack).spec))
        else:
            return Metric()
        now = utc_now()
        # Who is asked for patience is let in.
        with suppress(ArmBusy):
            read_cpu_minutes(control, Span(now - 2 * LATE, now))
    except OrchestratorError as error:
        if azure_id is not None:
            raise
        return Metric(reason=str(error))
    return Metric(control)


def held_cpu(control: ArmClient, bench: Callable[[], Bench], clients: int) -> float | None:
    """The mean share of the busiest node's vCores while so many clients ran; None where Azure does not tell.

    What goes wrong here is told and no more: the steps before it have been measured.
    """
    click.echo(f"Holding {clients} clients for {HELD:.0f} s: Azure measures CPU by the minute.", err=True)
    try:
        with bench() as running:
            running.grow(clients)
            began = utc_now()
            drive(waited(HELD, "the benchmark runs"), lambda _: None)
            span = Span(began, utc_now())
        whole = whole_minutes(span)
        click.echo(f"Waiting for Azure's values of these minutes, {LONGEST / 60:.0f} minutes at most.", err=True)
        minutes = (whole.end - whole.start) // MINUTE
        values = drive(arrived(lambda: read_cpu_minutes(control, span), minutes), lambda _: None)
    except OrchestratorError as error:
        click.echo(f"CPU stays unknown: {error}", err=True)
        return None
    if not values:
        click.echo("CPU stays unknown: Azure has no value of these minutes yet.", err=True)
        return None
    return statistics.mean(values) / 100


def utc_now() -> datetime:
    return datetime.now(UTC)
