"""doctor's look at Azure's side: server, parameters, high availability, and metrics, also before and after a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from orchestrator.cli.running import print_json
from orchestrator.cli.session import open_control, open_session
from orchestrator.cli.stack.stackfile import StackFile, load
from orchestrator.clients.azure.metrics import MetricsUnreadable, read_metrics
from orchestrator.clients.cluster.runs import RunRecord, UnknownRun
from orchestrator.core.checks.examination import PARAMETERS, Finding, judge_metrics, judge_server
from orchestrator.core.errors import OrchestratorError, Refused
from orchestrator.core.observed.metrics import (
    METRICS,
    SPAN,
    Change,
    Reading,
    Span,
    changes,
    changes_json,
    remarks,
    spans,
)


class NotComparable(Refused):
    """What is to be compared is not there."""


def examine_azure(file: StackFile) -> list[Finding]:
    """The control plane that cannot be asked is no illness of the cluster: who runs this may have no login there."""
    spec = file.spec
    try:
        with open_control(spec) as control:
            server, parameters = control.read_server(), control.read_parameters(PARAMETERS)
            found = list(judge_server(spec, server, parameters))
            now = datetime.now(UTC)
            try:
                found += judge_metrics(read_metrics(control, Span(now - SPAN, now)))
            except MetricsUnreadable as error:
                found.append(Finding("metrics", True, f"not read: {error}"))
    except OrchestratorError as error:
        return [Finding("control plane", True, f"not asked: {error}")]
    return found


def compare_metrics(
    root: Path, stack: str, run: int | None, before: datetime | None, after: datetime | None, as_json: bool
) -> int:
    """Returns the exit code."""
    file = load(root, stack)
    first, last = _times(root, file, run, before, after)
    now = datetime.now(UTC)
    earlier, later = spans(first, last, now)
    with open_control(file.spec) as control:
        found = changes(read_metrics(control, earlier), read_metrics(control, later))
    said = remarks(found, later, now)
    if as_json:
        print_json({"stack": stack, "run": run} | changes_json(found, earlier, later, said))
        return 0
    click.echo(f"before: {_span_text(earlier)}; after: {_span_text(later)} (UTC)")
    for one in found:
        where = f" of {one.node}" if one.node else ""
        click.echo(f"  {one.metric + where:<32} {_text(one, one.before):<28} -> {_text(one, one.after)}")
    for line in said:
        click.echo(f"  {line}")
    return 0


def _times(
    root: Path, file: StackFile, run: int | None, before: datetime | None, after: datetime | None
) -> tuple[datetime, datetime]:
    """When the change began and ended: as given, else as the run's record says."""
    if run is not None and (before is None or after is None):
        with open_session(root, file, services=False, control=False, lock=False) as session:
            known = {one.run_id: one for one in RunRecord(lambda: session.citus.connection).runs()}
        if run not in known:
            raise UnknownRun(run)
        before, after = before or known[run].started_at, after or known[run].finished_at
        if after is None:
            raise NotComparable(f"Run {run} has not ended, or was killed: say with --after when the change was over.")
    if before is None or after is None:
        raise NotComparable(
            "Give --since RUN (see `orchestrator runs`), or --before and --after: when the change began and was over."
        )
    return _aware(before), _aware(after)


def _aware(moment: datetime) -> datetime:
    """A time without a zone is UTC, as Azure's portal can show it."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _span_text(span: Span) -> str:
    same = span.start.date() == span.end.date()
    return f"{span.start:%Y-%m-%d %H:%M} to {span.end:{'%H:%M' if same else '%Y-%m-%d %H:%M'}}"


def _text(change: Change, reading: Reading | None) -> str:
    if reading is None:
        return "nothing"
    unit = METRICS[change.metric]
    return f"{reading.average:.1f}{unit} (at most {reading.maximum:.1f}{unit})"
