"""Interrupted anywhere, does the same command converge? One fault per scale-out, then the same command again.

    uv run --all-extras python bench/resume.py [--engine standin] [--moves direct] [--most 1000] [--kills 1000]
        [--only kill,arm,sql,reset,server,job,second]

Faults: SIGKILL after every event; Ctrl-C; every ARM request lost before and after its effect; every SQL message lost
before and after its effect; all SQL connections reset after every event; a second orchestrator started after every
event; a worker killed and started again; the coordinator killed and started again; the job stopped by hand. --most and
--kills choose fewer of them, evenly spread. After each the same command is run until it ends with 0, at most three
times more, and the cluster is looked at: the asked number of nodes, all joined; exactly one resize that Azure carried
out; every row; no job, no cleanup record, replication slot, subscription or publication of a move; both executor
settings and everything else noted down put back; a further run has nothing to do.

`standin` is the embedded engine with the ARM endpoint in one process, as fast as can be; `native`, `docker` and
`embedded` are labs as users have them. A fault that was meant for an event or message that did not come this time is
listed apart and not counted. Prints the table, and writes it to bench/results/resume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import processes
import psycopg
from chaos import Cut, When
from rig import StandinLab, VerbLab

RESULTS = Path(__file__).parent / "results" / "resume.json"
KINDS = "kill,arm,sql,reset,server,job,second"
WHEN: tuple[When, ...] = ("before", "after")
MOST_RUNS = 4


@dataclass
class Point:
    """One fault and what came of it. `first` is how the interrupted run ended, `runs` how many it took in all."""

    fault: str
    first: str
    runs: int
    resizes_asked: int
    seconds: float
    fired: bool = True
    problems: list[str] = field(default_factory=list)


Lab = StandinLab | VerbLab
# Called after every event of the run, numbered from 1; true once it has done what it is for.
Fault = Callable[[Lab, processes.Command, int, dict[str, Any]], bool]


def is_progress_of_moves(event: dict[str, Any]) -> bool:
    return event.get("type") == "move_started" or (event.get("type") == "step_progress" and "bytes_total" in event)


def kill_after(number: int, how: signal.Signals = signal.SIGKILL) -> Fault:
    def fault(_lab: Lab, command: processes.Command, seen: int, _event: dict[str, Any]) -> bool:
        if seen == number:
            command.signal(how)
        return seen == number

    return fault


def reset_sql_after(number: int) -> Fault:
    def fault(lab: Lab, _command: processes.Command, seen: int, _event: dict[str, Any]) -> bool:
        if seen == number:
            lab.sql.reset_all()
        return seen == number

    return fault


def second_after(number: int) -> Fault:
    """Another orchestrator has to refuse with 2, and change nothing. The first one is held until it has."""

    def fault(lab: Lab, command: processes.Command, seen: int, _event: dict[str, Any]) -> bool:
        if seen != number or not command.process.is_alive():
            return False
        command.signal(signal.SIGSTOP)
        code, _, errors = processes.run(lab.scale_out(), lab.folder, os.environ)
        command.signal(signal.SIGCONT)
        if code != 2:
            raise AssertionError(f"the second orchestrator ended with {code}: {errors}")
        return True

    return fault


def kill_server(*, worker: bool, move: int = 1) -> Fault:
    """Once, when so many moves have begun; it is started again at once, as Azure does."""
    begun: list[int] = []

    def fault(lab: Lab, _command: processes.Command, _seen: int, event: dict[str, Any]) -> bool:
        begun.extend([1] * is_progress_of_moves(event))
        if len(begun) != move or not is_progress_of_moves(event):
            return False
        server = lab.server(worker)
        pid = int((server.data / "postmaster.pid").read_text("utf-8").splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        server.start()
        return True

    return fault


def stop_job(lab: Lab, _command: processes.Command, _seen: int, event: dict[str, Any]) -> bool:
    """Behind our back, whenever there is a job to stop."""
    if is_progress_of_moves(event):
        with lab.connect() as admin, suppress(psycopg.Error):
            admin.execute("SELECT citus_rebalance_stop()")
            return True
    return False


def nothing(_lab: Lab, _command: processes.Command, _seen: int, _event: dict[str, Any]) -> bool:
    """For faults of the proxies."""
    return False


@dataclass
class Drill:
    """Runs points, each on a cluster that is as it should be; a lab that is full or spoilt is replaced."""

    engine: str
    moves: str | None
    lab: Lab | None = None
    points: list[Point] = field(default_factory=list)

    def __enter__(self) -> Drill:
        return self

    def __exit__(self, *_: object) -> None:
        if self.lab is not None:
            self.lab.close()
            self.lab = None

    def _lab(self) -> Lab:
        if self.lab is not None and self.lab.used_up:
            self.__exit__()
        if self.lab is None:
            self.lab = StandinLab(self.moves) if self.engine == "standin" else VerbLab(self.engine, self.moves)
        return self.lab

    def point(
        self, name: str, fault: Fault = nothing, *, sql: Cut | None = None, arm: Cut | None = None
    ) -> tuple[int, int, int]:
        """Events, SQL messages and ARM requests of the interrupted run."""
        lab, began = self._lab(), time.monotonic()
        lab.fresh(sql, arm)
        events, fired, first, problems = watch(lab, fault)
        messages, requests, cut = lab.over()
        runs, more = until_done(lab, first)
        problems += more
        try:
            problems += lab.problems()
        except (AssertionError, psycopg.Error) as error:
            problems.append(str(error))
        asked, done = lab.resizes()
        if done != 1:
            problems.append(f"{done} effective resizes")
        fired = fired or cut or (fault is nothing and sql is None and arm is None)
        point = Point(name, first, runs, asked, round(time.monotonic() - began, 2), fired, problems)
        self.points.append(point)
        said = "; ".join(problems) or ("ok" if fired else "ok, but there was no such moment this time")
        print(f"{name:<50} {first:>7} {runs:>2} {point.seconds:>6} {said}", flush=True)
        if problems:
            self.__exit__()  # a cluster that is not as it should be is not used again
        return events, messages, requests


def until_done(lab: Lab, first: str) -> tuple[int, list[str]]:
    """The same command until it ends with 0. How many runs it took with the interrupted one, and what is wrong."""
    runs, code, errors = 1, first, ""
    while code != "0" and runs < MOST_RUNS:
        ended, _, errors = processes.run(lab.scale_out(), lab.folder, os.environ)
        code, runs = str(ended), runs + 1
    return runs, [] if code == "0" else [f"does not converge: {errors.strip().splitlines()[-1:]}"]


def watch(lab: Lab, fault: Fault) -> tuple[int, bool, str, list[str]]:
    """One run with a fault. Events, whether it took place, the exit code or signal, problems of the fault itself."""
    problems, seen, fired = [], 0, False
    command = lab.start()
    for line in command.lines():
        event = json.loads(line)
        if event["type"] in {"plan", "report"}:
            continue
        seen += 1
        try:
            fired = fault(lab, command, seen, event) or fired
        except AssertionError as error:
            problems.append(str(error))
    code, errors = command.wait()
    if "Traceback" in errors:
        where = [line.strip() for line in errors.splitlines() if 'File "' in line and "orchestrator" in line]
        problems.append(f"traceback: {errors.strip().splitlines()[-1]} ({where[-1:]})")
    return seen, fired, signal.Signals(-code).name if code < 0 else str(code), problems


def chosen(count: int, most: int) -> list[int]:
    """At most `most` numbers from 1 to `count`, evenly spread, both ends included."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({round(1 + number * (count - 1) / max(1, most - 1)) for number in range(most)})


def lost_messages(what: str, wire: str, numbers: list[int]) -> Iterator[Mapping[str, Any]]:
    for number in numbers:
        for when in WHEN:
            yield {"name": f"{what} {number} lost {when} effect", wire: Cut(number, when)}


def plan_points(
    kinds: set[str], kills: int, most: int, events: int, messages: int, requests: int
) -> Iterator[Mapping[str, Any]]:
    """What to call `Drill.point` with, after a run without a fault had so many events, messages and requests."""
    for number in chosen(events, kills if "kill" in kinds else 0):
        yield {"name": f"SIGKILL after event {number}", "fault": kill_after(number)}
    if "kill" in kinds:
        yield {"name": "Ctrl-C in the middle", "fault": kill_after(max(1, events // 2), signal.SIGINT)}
    for number in chosen(events, most):
        if "reset" in kinds:
            yield {"name": f"all SQL connections reset after event {number}", "fault": reset_sql_after(number)}
        if "second" in kinds:
            yield {"name": f"a second orchestrator after event {number}", "fault": second_after(number)}
    yield from lost_messages("ARM request", "arm", chosen(requests, most if "arm" in kinds else 0))
    yield from lost_messages("SQL message", "sql", chosen(messages, most if "sql" in kinds else 0))
    if "server" in kinds:
        yield {"name": "a worker killed while shards move", "fault": kill_server(worker=True)}
        yield {"name": "the coordinator killed while shards move", "fault": kill_server(worker=False)}
        yield {"name": "a worker killed later", "fault": kill_server(worker=True, move=3)}
        yield {"name": "the coordinator killed later", "fault": kill_server(worker=False, move=3)}
    if "job" in kinds:
        yield {"name": "job stopped by somebody else", "fault": stop_job}


def kind(point: Point) -> str:
    """The row of the summary that a point belongs to."""
    words = point.fault.split()
    return " ".join(word for word in words if not word.isdigit())


def summary(points: list[Point]) -> dict[str, str]:
    """For each kind of fault, how many converged of how many that took place."""
    took_place = [point for point in points if point.fired]
    good = Counter(kind(point) for point in took_place if not point.problems)
    return {name: f"{good[name]} of {count}" for name, count in Counter(map(kind, took_place)).items()}


def record(options: argparse.Namespace, began: float, points: list[Point]) -> None:
    """After every few points, so that what a long run has shown is not lost with it."""
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    took_place = [point for point in points if point.fired]
    only = "" if options.only == KINDS else f", {options.only}"
    results[f"{options.engine} {options.moves or 'default'}{only}"] = {
        "command": " ".join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began),
        "points": len(took_place),
        "converged": sum(not point.problems for point in took_place),
        "no_such_moment": len(points) - len(took_place),
        "most_runs": max(point.runs for point in points),
        "resizes_asked": dict(Counter(str(point.resizes_asked) for point in took_place)),
        "by_kind": summary(points),
        "table": [asdict(point) for point in points],
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="standin", choices=["standin", "embedded", "native", "docker"])
    parser.add_argument("--most", type=int, default=1000, help="points of one kind at most, but for kills")
    parser.add_argument("--kills", type=int, default=1000, help="events after which the process is killed, at most")
    parser.add_argument("--only", default=KINDS)
    parser.add_argument("--moves", choices=["direct", "job", "auto"])
    options = parser.parse_args()
    began = time.monotonic()
    kinds = set(options.only.split(","))
    with Drill(options.engine, options.moves) as drill:
        counted = drill.point("nothing")
        for number, arguments in enumerate(plan_points(kinds, options.kills, options.most, *counted)):
            drill.point(**arguments)
            if number % 10 == 0:
                record(options, began, drill.points)
    record(options, began, drill.points)
    for name, converged in summary(drill.points).items():
        print(f"{name:<50} {converged}")
    bad = [point for point in drill.points if point.problems]
    print(f"{len(drill.points)} points, {len(drill.points) - len(bad)} converged")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
