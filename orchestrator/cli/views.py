"""What people see. Renders plans, states, reports and the stream of events; decides nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from orchestrator.core.events import Event, Notice, StepFailed, StepProgress, StepStarted, StepSucceeded, to_json
from orchestrator.core.observed.state import NodeLoad, skew
from orchestrator.core.outlook.estimate import Estimate
from orchestrator.core.planning.plan import Plan
from orchestrator.core.report import EstimateReport, Report
from orchestrator.core.size import count, duration, size

BAR = 24
# A log file gets a line of progress this often, in seconds; a terminal has one line that is redrawn.
QUIET = 2.0


def placement_lines(loads: tuple[NodeLoad, ...]) -> list[str]:
    """One line per node: address, shard groups, bytes, and a bar of the bytes."""
    if not loads:
        return ["  no nodes"]
    most = max((load.bytes or 0 for load in loads), default=0)
    names = [f"{load.node.host}:{load.node.port}" if load.node.port else "(new)" for load in loads]
    width = max(len(name) for name in names)
    lines = []
    for load, name in zip(loads, names, strict=True):
        groups = f"{load.shard_groups:>5} group{'s' if load.shard_groups != 1 else ' '}"
        bar = "█" * (round(BAR * (load.bytes or 0) / most) if most else 0)
        state = "" if load.node.joined else "  not ready"
        held = f"{groups} {size(load.bytes):>10}  {bar}{state}"
        lines.append(f"  node {load.node.node_id:<3} {name:<{width}} {held}".rstrip())
    even = skew(loads)
    lines.append(f"  fullest node over average: {'no data' if even is None else format(even, '.2f')}")
    return lines


def plan_lines(plan: Plan) -> list[str]:
    if not plan.steps:
        return ["Nothing to do.", *(f"  {note}" for note in plan.notes)]
    lines = ["This will:"]
    lines += [f"  {number}. {step.title}" for number, step in enumerate(plan.steps, 1)]
    if plan.moves:
        known = [move.bytes for move in plan.moves if move.bytes is not None]
        total = size(sum(known)) if len(known) == len(plan.moves) else "an unknown amount"
        move = "moves" if len(plan.moves) == 1 else "move"
        lines += [f"{count(len(plan.moves), 'shard group')} {move}, {total} in all. Placement now:"]
        lines += placement_lines(plan.before)
        lines += ["Placement afterwards, as predicted:"]
        lines += placement_lines(plan.after)
    lines += [f"Note: {note}" for note in plan.notes]
    return lines


def report_lines(report: Report) -> list[str]:
    if report.outcome == "nothing to do":
        return []
    lines = [f"{report.command} {report.outcome} in {duration(report.seconds)}."]
    if report.estimate is not None:
        lines.append(estimate_line(report.estimate))
    if report.after is not None and report.after != report.before:
        if report.moves_planned or len(report.after) != len(report.before):
            lines += ["Placement before:", *placement_lines(report.before)]
        lines += ["Placement after" + (" (simulated):" if report.simulated else ":"), *placement_lines(report.after)]
    return lines


def time_text(time: Estimate) -> str:
    if not time.parts:
        return "none, nothing is to be done"
    earlier = f"by {count(time.runs, 'earlier run')} of this cluster"
    by = earlier if time.runs else "by defaults; the first run of this cluster calibrates it"
    return f"about {duration(time.seconds)} ({duration(time.low)} to {duration(time.high)}), {by}"


def estimate_line(found: EstimateReport) -> str:
    off = "" if found.error is None else f", {abs(found.error):.0%} {'more' if found.error > 0 else 'less'}"
    band = f"{duration(found.low)} to {duration(found.high)}"
    return f"Estimated {duration(found.seconds)} ({band}); it took {duration(found.took)}{off}."


def job_line(job: dict[str, Any] | None) -> str:
    if job is None:
        return "no rebalance is running"
    counts = ", ".join(f"{count} {state}" for state, count in job["tasks"].items())
    return f"rebalance job {job['job_id']} is {job['state']}: {counts}"


class HumanView:
    """Events as text. On a terminal the line of progress is redrawn; elsewhere it is written now and then."""

    def __init__(self, stream: IO[str], *, terminal: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._terminal, self._now = stream, terminal, now
        self._started = self._last = now()
        self._drawn = False

    def show(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._started = self._last = self._now()
                self._line(f"[{event.number}/{event.of}] {event.title}")
            case StepProgress():
                self._progress(event)
            case StepSucceeded():
                note = f": {event.note}" if event.note else ""
                self._line(f"      done in {duration(self._now() - self._started)}{note}")
            case StepFailed():
                self._line(f"      failed after {duration(self._now() - self._started)}")
            case Notice():
                self._line(f"      note: {event.text}")

    def lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._line(line)

    def _progress(self, event: StepProgress) -> None:
        if self._terminal:
            # A line that wraps could not be erased.
            room = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\x1b[K" + f"      {progress_text(event)}"[:room])
            self._stream.flush()
            self._drawn = True
        elif self._now() - self._last >= QUIET:
            self._last = self._now()
            self._line(f"      {progress_text(event)}")

    def _line(self, text: str) -> None:
        erase = "\r\x1b[K" if self._drawn else ""
        self._drawn = False
        self._stream.write(f"{erase}{text}\n")
        self._stream.flush()


def progress_text(event: StepProgress) -> str:
    parts = []
    if event.total:
        parts.append(f"{event.done} of {event.total}")
    if event.bytes_total:
        parts.append(f"{size(event.bytes_done)} of {size(event.bytes_total)}")
    if event.seconds_left is not None:
        parts.append(f"about {duration(event.seconds_left)} left")
    parts.append(event.text)
    return ", ".join(parts)


class JsonLines:
    """Events as JSON lines, each with the seconds since the start of the run."""

    def __init__(self, stream: IO[str], now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._start = now()

    def show(self, event: Event) -> None:
        self.write(to_json(event))

    def write(self, document: dict[str, Any]) -> None:
        self._stream.write(json.dumps({"at": round(self._now() - self._start, 3)} | document) + "\n")
        self._stream.flush()
