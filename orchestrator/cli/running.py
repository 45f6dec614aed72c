"""How every verb that changes something runs: plan, show, confirm, drive, report. One path for people and for JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import click

from orchestrator.cli.report.files import write_wanted
from orchestrator.cli.session import Session
from orchestrator.cli.views import HumanView, JsonLines, plan_lines, report_lines, time_text
from orchestrator.core.account import fold_latency, fold_moves, fold_verified
from orchestrator.core.errors import OrchestratorError, Refused
from orchestrator.core.events import Event
from orchestrator.core.moves.calibration import run_timing
from orchestrator.core.moves.cost import defaults_for
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.outlook.estimate import Estimate, estimate
from orchestrator.core.planning.plan import Plan, Wanted
from orchestrator.core.report import (
    EstimateReport,
    Outcome,
    Report,
    fold_steps,
    notices,
    plan_json,
    report_json,
)
from orchestrator.driver import drive
from orchestrator.workflow.apply import converge


class NeedsYes(Refused):
    def __init__(self) -> None:
        super().__init__("Nobody can be asked here, so nothing was changed. Add --yes to go ahead without a question.")


class CutShort(OrchestratorError):
    """A refusal after the first step began: something may have changed, so it is a failure."""


@dataclass
class Output:
    """Where results go. People read stdout; with --json it holds one document, and progress goes to stderr."""

    as_json: bool
    as_events: bool
    seen: list[tuple[float, Event]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        people = sys.stderr if self.as_json or self.as_events else sys.stdout
        self.quiet = people is sys.stderr and not people.isatty()
        self.human = HumanView(people, terminal=people.isatty())
        self.lines = JsonLines(sys.stderr if self.as_json else sys.stdout)

    def show(self, event: Event) -> None:
        self.seen.append((time.monotonic() - self.start, event))
        if self.as_events:
            self.lines.show(event)
        elif not self.quiet:
            self.human.show(event)

    def plan(self, plan: Plan, expected: Estimate) -> None:
        if self.as_events:
            self.lines.write({"type": "plan"} | plan_json(plan) | {"estimated_seconds": round(expected.seconds, 1)})
        elif not self.quiet:
            self.human.lines(plan_lines(plan))
            if expected.parts:
                self.human.lines([f"Time: {time_text(expected)}"])

    def report(self, report: Report) -> None:
        document = report_json(report)
        if self.as_events:
            self.lines.write({"type": "report"} | document)
        elif not self.quiet:
            self.human.lines(report_lines(report))
        if self.as_json:
            print_json(document)
        write_wanted(document)


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))


def confirm(yes: bool, question: str) -> None:
    """Raises NeedsYes where nobody can be asked, click.Abort when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NeedsYes
    click.confirm(question, abort=True, err=True)


def execute(
    session: Session,
    command: str,
    wanted: Wanted,
    output: Output,
    *,
    yes: bool,
    commit: Callable[[], None] | None = None,
    preflight: Callable[[ClusterState], tuple[str, ...]] | None = None,
) -> int:
    """Plan, show, confirm, make it true. Returns 0; an error of the run is reported here, and raised.

    `commit` writes down the desired state, after the yes and before any step. `preflight` gives notes to show with the
    plan, and raises Refused where the run would fail.
    """
    plan, state = drive(session.replan(wanted), output.show)
    if plan.steps and preflight is not None:
        plan = replace(plan, notes=plan.notes + preflight(state))
    expected = estimate(plan, state, defaults_for(session.file.spec))
    output.plan(plan, expected)
    if not plan.steps:
        if commit is not None:
            commit()
        output.report(_report(session, command, "nothing to do", output, plan, state, state))
        return 0
    confirm(yes, "Go ahead?")
    if commit is not None:
        commit()
    begun = time.monotonic() - output.start
    try:
        after = drive(converge(session.world, plan, state, lambda: session.replan(wanted)), output.show)
    except OrchestratorError as error:
        output.report(_report(session, command, "failed", output, plan, state, None, str(error)))
        if isinstance(error, Refused):
            raise CutShort(str(error)) from error
        raise
    except KeyboardInterrupt:
        output.report(_report(session, command, "interrupted", output, plan, state, None, "interrupted"))
        raise
    done = _report(session, command, "done", output, plan, state, after)
    output.report(_beside_estimate(session, done, plan, state, expected, output, begun))
    return 0


def _beside_estimate(
    session: Session,
    report: Report,
    plan: Plan,
    before: ClusterState,
    expected: Estimate,
    output: Output,
    begun: float,
) -> Report:
    """The report with estimate and reality side by side; what was learnt is kept for the next estimate."""
    took = report.seconds - begun
    timing = run_timing(plan, before, report.steps, output.seen, expected, took)
    if timing is None:
        return report
    beside = EstimateReport(expected.seconds, expected.low, expected.high, took, expected.runs)
    try:
        session.citus.record_timing(timing)
    except OrchestratorError as error:
        lost = f"What this run took could not be recorded for later estimates: {error}"
        return replace(report, estimate=beside, notices=(*report.notices, lost))
    return replace(report, estimate=beside)


def _report(
    session: Session,
    command: str,
    outcome: Outcome,
    output: Output,
    plan: Plan,
    before: ClusterState,
    after: ClusterState | None,
    error: str | None = None,
) -> Report:
    end = time.monotonic() - output.start
    return Report(
        stack=session.file.stack,
        command=command,
        outcome=outcome,
        seconds=end,
        steps=fold_steps(output.seen, end),
        notices=(*plan.notes, *notices(output.seen)),
        moves_planned=len(plan.moves),
        before=before.loads,
        after=None if after is None else after.loads,
        simulated=before.simulated,
        error=error,
        began=output.began.isoformat(timespec="seconds"),
        planned=tuple(step.title for step in plan.steps),
        planned_after=plan.after,
        moves=fold_moves(output.seen, end),
        latency=fold_latency(output.seen),
        verified=fold_verified(output.seen),
    )
