"""Interrupted anywhere, does the same command converge? One fault per scale-out, then the same command again.

    uv run --all-extras python bench/resume.py [--engine embedded] [--most 1000] [--kills 1000] [--only kill,arm]
        [--moves auto]

Faults: SIGKILL after every event; Ctrl-C; every ARM request lost before and after its effect; SQL messages lost before
and after their effect (every one, or evenly chosen ones with --most); all SQL connections reset after every event; a
worker killed and started again; the coordinator killed and started again; the job stopped by hand; a second
orchestrator started after every event. After each the same command is run until it ends with 0, at most three times,
and the cluster is looked at: the asked number of nodes, all joined; exactly one resize that Azure carried out; every
row; no job, no cleanup record, replication slot, subscription or publication of a move; both executor settings and
everything else noted down put back; a further run has nothing to do. Prints the table, and writes it to
bench/results/resume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import yaml
from chaos import ArmProxy, Cut, SqlProxy, When

from orchestrator.lab import nodes as lab_nodes
from orchestrator.lab.engine import Address
from orchestrator.lab.home import LabHome
from orchestrator.lab.postgres import PostgresServer

RESULTS = Path(__file__).parent / "results" / "resume.json"
TENANTS = 24
ROWS = 200
MOST_NODES = 9
EXECUTORS = ("citus.max_background_task_executors", "citus.max_background_task_executors_per_node")
CLEAN_WITHIN = 60.0
WHEN: tuple[When, ...] = ("before", "after")


@dataclass
class Point:
    """One fault and what came of it. `first` is how the interrupted run ended, `runs` how many it took in all."""

    fault: str
    first: str
    runs: int
    resizes_asked: int
    seconds: float
    problems: list[str] = field(default_factory=list)


Fault = Callable[["Lab", subprocess.Popen[str], int, dict[str, Any]], None]


class Lab:
    """A project with a lab of two nodes behind both proxies; grown by one node for every point."""

    def __init__(self, engine: str, moves: str | None) -> None:
        self.engine, self.moves = engine, moves
        self._folder = tempfile.TemporaryDirectory(prefix="orchestrator-bench-")
        self.folder = Path(self._folder.name)
        (self.folder / "stacks").mkdir()
        (self.folder / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n", "utf-8")
        self.stack = self.folder / "stacks" / "Pulumi.local.yaml"
        self.run("lab", "up", "--engine", engine, "--nodes", "2")
        config = yaml.safe_load(self.stack.read_text("utf-8"))
        endpoint = config["config"]["elastic-cluster:endpoint"]
        self.direct = int(endpoint["ports"]["direct"])
        self.sql, self.arm = SqlProxy(self.direct), ArmProxy(endpoint["arm"])
        endpoint["ports"]["direct"], endpoint["arm"] = self.sql.port, self.arm.url
        self.stack.write_text(yaml.safe_dump(config), "utf-8")
        self.home = LabHome.of(self.folder, "local")
        self.settings = self.home.settings()
        self.nodes = 2
        self._tenants()
        with lab_nodes.connect(Address("127.0.0.1", self.direct), self.settings) as superuser:
            superuser.execute("ALTER SYSTEM SET citus.defer_shard_delete_interval = '1s'")
            superuser.execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        self.sql.close()
        self.arm.shutdown()
        self.arm.server_close()
        with suppress(AssertionError):
            self.run("lab", "down", "--delete")
        self._folder.cleanup()

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "orchestrator", *arguments]
        done = subprocess.run(command, cwd=self.folder, check=False, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def scale_out(self) -> list[str]:
        moves = ["--moves", self.moves] if self.moves else []
        nodes = str(self.nodes)
        return [sys.executable, "-m", "orchestrator", "scale-out", "--nodes", nodes, "--yes", "--events", *moves]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.scale_out(), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def connect(self) -> psycopg.Connection[Any]:
        """The administrator, past the proxy."""
        return psycopg.connect(
            host="127.0.0.1", port=self.direct, dbname=self.settings.database, user=self.settings.admin_login,
            password=self.settings.admin_password, sslmode="disable", autocommit=True,
        )  # fmt: skip

    def _tenants(self) -> None:
        with self.connect() as admin:
            for number in range(TENANTS):
                admin.execute(f"CREATE SCHEMA tenant{number}")
                admin.execute(f"SELECT citus_schema_distribute('tenant{number}')")
                admin.execute(f"CREATE TABLE tenant{number}.t (id bigint PRIMARY KEY, payload text)")
                rows = f"SELECT i, repeat('x', 100) FROM generate_series(1, {ROWS}) i"
                admin.execute(f"INSERT INTO tenant{number}.t {rows}")

    def resizes(self) -> tuple[int, int]:
        """Resizes that Azure was asked for, and those that it carried out, since the lab was made."""
        operations = json.loads(self.home.arm_state.read_text("utf-8"))["operations"]
        asked = [operation for operation in operations if operation["kind"] == "UpdateServer"]
        return len(asked), sum(operation["status"] == "Succeeded" for operation in asked)

    def server(self, worker: bool) -> PostgresServer:
        """The server of the coordinator or of a worker: on the embedded engine the one server is both."""
        folders = sorted(path.parent for path in self.home.folder.rglob("postmaster.pid"))
        folder = folders[1] if worker and len(folders) > 1 else folders[0]
        lines = (folder / "postmaster.pid").read_text("utf-8").splitlines()
        binaries = Path(f"/proc/{lines[0]}/exe").readlink().parent
        return PostgresServer(folder, binaries, int(lines[3]))

    def problems(self, resizes_before: int) -> list[str]:
        """What is not as it should be after a scale-out."""
        found = []
        status = json.loads(self.run("status", "--json"))
        if len(status["nodes"]) != self.nodes or not all(node["active"] for node in status["nodes"]):
            found.append(f"{len(status['nodes'])} nodes")
        if sum(node["shard_groups"] for node in status["nodes"]) != TENANTS:
            found.append("shard groups lost or doubled")
        if status["rebalance_job"] is not None:
            found.append("a job is still there")
        if (done := self.resizes()[1] - resizes_before) != 1:
            found.append(f"{done} effective resizes")
        found += self._database()
        again = json.loads(self.run("scale-out", "--nodes", str(self.nodes), "--yes", "--json"))
        if again["outcome"] != "nothing to do":
            found.append(f"one more run: {again['outcome']}")
        return found + self._leftovers()

    def _database(self) -> Iterator[str]:
        """Settings that were not put back, notes that were not cleared, rows that are missing."""
        with self.connect() as admin:
            for name in EXECUTORS:
                if admin.execute("SELECT current_setting(%s)", [name]).fetchone() != ("1",):
                    yield f"{name} was not put back"
            for table in ("kept_setting", "operation"):
                if admin.execute(f"SELECT count(*) FROM orchestrator.{table}").fetchone() != (0,):
                    yield f"orchestrator.{table} is not empty"
            for number in range(TENANTS):
                row = admin.execute(f"SELECT count(*), sum(id) FROM tenant{number}.t").fetchone()
                if row is None or (row[0], int(row[1])) != (ROWS, ROWS * (ROWS + 1) // 2):
                    yield f"tenant{number} has {row}"

    def _leftovers(self) -> list[str]:
        """Waits for Citus' own cleanup, which this lab does every second instead of every 15."""
        deadline = time.monotonic() + CLEAN_WITHIN
        while (found := list(self._left())) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def _left(self) -> Iterator[str]:
        queries = {
            "replication slots": "SELECT count(*) FROM pg_replication_slots",
            "subscriptions": "SELECT count(*) FROM pg_subscription",
            "publications": "SELECT count(*) FROM pg_publication WHERE pubname LIKE 'citus_shard%'",
            "roles of moves": "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'citus_shard%'",
        }
        with self.connect() as admin:
            row = admin.execute("SELECT count(*) FROM pg_dist_cleanup").fetchone()
            if row != (0,):
                yield f"cleanup records: {row}"
        for pid_file in self.home.folder.rglob("postmaster.pid"):
            port = int(pid_file.read_text("utf-8").splitlines()[3])
            with lab_nodes.connect(Address("127.0.0.1", port), self.settings) as node:
                for what, query in queries.items():
                    count = node.execute(query).fetchone()
                    if count != (0,):
                        yield f"{what} on port {port}: {count}"


def is_progress_of_moves(event: dict[str, Any]) -> bool:
    return event.get("type") == "move_started" or (event.get("type") == "step_progress" and "bytes_total" in event)


# --- faults: called after every event of the run, numbered from 1 ---


def kill_after(number: int, how: signal.Signals = signal.SIGKILL) -> Fault:
    def fault(_lab: Lab, process: subprocess.Popen[str], seen: int, _event: dict[str, Any]) -> None:
        if seen == number:
            process.send_signal(how)

    return fault


def reset_sql_after(number: int) -> Fault:
    def fault(lab: Lab, _process: subprocess.Popen[str], seen: int, _event: dict[str, Any]) -> None:
        if seen == number:
            lab.sql.reset_all()

    return fault


def second_after(number: int) -> Fault:
    """Another orchestrator has to refuse with 2, and change nothing. The first one is held until it has."""

    def fault(lab: Lab, process: subprocess.Popen[str], seen: int, _event: dict[str, Any]) -> None:
        if seen == number and process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            done = subprocess.run(lab.scale_out(), cwd=lab.folder, capture_output=True, text=True, check=False)
            process.send_signal(signal.SIGCONT)
            if done.returncode != 2:
                raise AssertionError(f"the second orchestrator ended with {done.returncode}: {done.stderr}")

    return fault


def kill_server(*, worker: bool) -> Fault:
    """Once, in the middle of the moves; it is started again at once, as Azure does."""
    done: list[bool] = []

    def fault(lab: Lab, _process: subprocess.Popen[str], _seen: int, event: dict[str, Any]) -> None:
        if is_progress_of_moves(event) and not done:
            done.append(True)
            server = lab.server(worker)
            pid = int((server.data / "postmaster.pid").read_text("utf-8").splitlines()[0])
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.01)
            server.start()

    return fault


def stop_job(lab: Lab, _process: subprocess.Popen[str], _seen: int, event: dict[str, Any]) -> None:
    if is_progress_of_moves(event):
        with lab.connect() as admin, suppress(psycopg.Error):
            admin.execute("SELECT citus_rebalance_stop()")


def nothing(_lab: Lab, _process: subprocess.Popen[str], _seen: int, _event: dict[str, Any]) -> None:
    """For faults of the proxies."""


# --- points ---


@dataclass
class Drill:
    """Runs points, each on a cluster that is one node larger; a lab that is full is replaced."""

    engine: str
    moves: str | None
    lab: Lab | None = None
    points: list[Point] = field(default_factory=list)

    def fresh(self) -> Lab:
        if self.lab is not None and self.lab.nodes >= MOST_NODES:
            self.lab.close()
            self.lab = None
        if self.lab is None:
            self.lab = Lab(self.engine, self.moves)
        self.lab.nodes += 1
        return self.lab

    def point(
        self, name: str, fault: Fault = nothing, *, sql: Cut | None = None, arm: Cut | None = None
    ) -> tuple[int, int, int]:
        """Events, SQL messages and ARM requests of the interrupted run."""
        lab, began = self.fresh(), time.monotonic()
        asked, done = lab.resizes()
        lab.sql.arm(sql)
        lab.arm.arm(arm)
        events, first, problems = watch(lab, fault)
        counted = lab.sql.seen, lab.arm.seen
        lab.sql.arm(None)
        lab.arm.arm(None)
        runs = 1
        while first != "0" or runs > 1:
            again = subprocess.run(lab.scale_out(), cwd=lab.folder, capture_output=True, text=True, check=False)
            runs += 1
            if again.returncode == 0:
                break
            if runs == 4:
                problems.append(f"does not converge: {again.stderr.strip().splitlines()[-1:]}")
                break
        try:
            problems += lab.problems(done)
        except AssertionError as error:
            problems.append(str(error))
        point = Point(name, first, runs, lab.resizes()[0] - asked, round(time.monotonic() - began, 1), problems)
        self.points.append(point)
        print(f"{name:<46} {first:>4} {runs:>2} {point.seconds:>6} {'; '.join(problems) or 'ok'}", flush=True)
        if problems:
            lab.nodes = MOST_NODES  # a cluster that is not as it should be is not used again
        return events, *counted


def watch(lab: Lab, fault: Fault) -> tuple[int, str, list[str]]:
    """One run with a fault. Events, how it ended (exit code, or the signal's name), problems of the fault itself."""
    problems, seen = [], 0
    with lab.start() as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] in {"plan", "report"}:
                continue
            seen += 1
            try:
                fault(lab, process, seen, event)
            except AssertionError as error:
                problems.append(str(error))
        stderr = process.stderr.read() if process.stderr else ""
        code = process.wait()
    if "Traceback" in stderr:
        problems.append("traceback: " + stderr.strip().splitlines()[-1])
    return seen, signal.Signals(-code).name if code < 0 else str(code), problems


def chosen(count: int, most: int) -> list[int]:
    """At most `most` numbers from 1 to `count`, evenly spread, both ends included."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({round(1 + number * (count - 1) / max(1, most - 1)) for number in range(most)})


def lost_messages(what: str, wire: str, numbers: list[int], of: int) -> Iterator[Mapping[str, Any]]:
    for number in numbers:
        for when in WHEN:
            yield {"name": f"{what} {number} of {of} lost {when} effect", wire: Cut(number, when)}


def plan_points(
    kinds: set[str], kills: int, most: int, events: int, messages: int, requests: int
) -> Iterator[Mapping[str, Any]]:
    """What to call `Drill.point` with, after a run without a fault had so many events, messages and requests."""
    for number in chosen(events, kills if "kill" in kinds else 0):
        yield {"name": f"SIGKILL after event {number} of {events}", "fault": kill_after(number)}
    for number in chosen(events, most):
        if "sql" in kinds:
            yield {"name": f"all SQL connections reset after event {number}", "fault": reset_sql_after(number)}
        if "second" in kinds:
            yield {"name": f"a second orchestrator after event {number}", "fault": second_after(number)}
    if "kill" in kinds:
        yield {"name": "Ctrl-C in the middle", "fault": kill_after(max(1, events // 2), signal.SIGINT)}
    yield from lost_messages("ARM request", "arm", chosen(requests, most if "arm" in kinds else 0), requests)
    yield from lost_messages("SQL message", "sql", chosen(messages, most if "sql" in kinds else 0), messages)
    if "server" in kinds:
        yield {"name": "a worker killed while shards move", "fault": kill_server(worker=True)}
        yield {"name": "the coordinator killed while shards move", "fault": kill_server(worker=False)}
    if "job" in kinds:
        yield {"name": "job stopped by somebody else", "fault": stop_job}


def drill(
    engine: str, kills: int, most: int, kinds: set[str], moves: str | None, tell: Callable[[list[Point]], None]
) -> list[Point]:
    run = Drill(engine, moves)
    try:
        counted = run.point("nothing")
        for arguments in plan_points(kinds, kills, most, *counted):
            run.point(**arguments)
            tell(run.points)
    finally:
        if run.lab is not None:
            run.lab.close()
    return run.points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="embedded")
    parser.add_argument("--most", type=int, default=1000, help="points of one kind at most, but for kills")
    parser.add_argument("--kills", type=int, default=1000, help="events after which the process is killed, at most")
    parser.add_argument("--only", default="kill,arm,sql,server,job,second")
    parser.add_argument("--moves", choices=["direct", "job", "auto"])
    options = parser.parse_args()
    began = time.monotonic()

    def record(points: list[Point]) -> None:
        """After every point, so that what a long run has shown is not lost with it."""
        key = f"{options.engine} {options.moves or 'default'}"
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        results[key] = {
            "command": " ".join(sys.argv),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began),
            "points": len(points),
            "converged": sum(not point.problems for point in points),
            "most_runs": max(point.runs for point in points),
            "table": [asdict(point) for point in points],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")

    kinds = set(options.only.split(","))
    points = drill(options.engine, options.kills, options.most, kinds, options.moves, record)
    bad = [point for point in points if point.problems]
    print(f"{len(points)} points, {len(points) - len(bad)} converged")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
