"""How much faster are direct moves than Citus' own job, on real Citus, with clients at work meanwhile?

    uv run --all-extras python bench/moves.py [--schemas 1000] [--only tiny mixed]

`tiny`: many small schemas, 2 -> 4 nodes. Citus' job with its defaults and with the best setting of both executors is
cut short after some moves (what it moved is moved back), then `orchestrator rebalance --moves direct` makes all.
`mixed`: small schemas and three of about 1 GB; here the whole of the large moves and some tiny ones are measured and
the rest of the baseline is extrapolated from the tiny ones. The lab sets wal_retrieve_retry_interval to 100 ms, which
PostgreSQL and Azure leave at 5 s: a baseline is measured with each. Writes bench/results/moves.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "moves.json"
MB = 2**20
RETRY, AT_ONCE, PER_NODE = (
    "wal_retrieve_retry_interval",
    "citus.max_background_task_executors",
    "citus.max_background_task_executors_per_node",
)


def load(lab: Lab, prefix: str, sizes: Sequence[int]) -> None:
    """One transaction for each schema, from three connections."""

    def some(first: int) -> None:
        with lab.connect() as connection:
            for number in range(first, len(sizes), 3):
                name = f"{prefix}{number}"
                with connection.transaction():
                    connection.execute(f"CREATE SCHEMA {name}")
                    connection.execute(f"SELECT citus_schema_distribute('{name}')")
                    connection.execute(f"CREATE TABLE {name}.t (id bigint PRIMARY KEY, v text)")
                    connection.execute(
                        f"INSERT INTO {name}.t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, %s) i",
                        [sizes[number] // 1040 + 10],
                    )

    threads = [threading.Thread(target=some, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def configure(folder: Path, values: dict[str, str]) -> None:
    """Change the lab's settings on every node, as only a superuser can."""
    for conf in folder.glob("**/native/node*/**/lab.conf"):
        text = conf.read_text("utf-8")
        for name, value in values.items():
            line = f"{name} = '{value}'"
            text, found = re.subn(rf"(?m)^{re.escape(name)} = .*$", line, text)
            text += "" if found else line + "\n"
        conf.write_text(text, "utf-8")
        os.kill(int((conf.parent / "postmaster.pid").read_text("utf-8").split()[0]), signal.SIGHUP)
    time.sleep(0.5)


class Clients(threading.Thread):
    """One client that reads and writes schemas at random, about 30 statements a second, and counts what fails."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._lab, self._names, self._over = lab, names, threading.Event()
        self.milliseconds: list[float] = []
        self.errors: list[str] = []

    def run(self) -> None:
        chance = random.Random(1)
        with self._lab.connect() as connection:
            while not self._over.wait(0.03):
                name, began = chance.choice(self._names), time.perf_counter()
                try:
                    connection.execute(f"UPDATE {name}.t SET v = v WHERE id = 1")
                    connection.execute(f"SELECT v FROM {name}.t WHERE id = 1")
                except psycopg.Error as error:
                    self.errors.append(f"{error.sqlstate} {str(error)[:100]}")
                self.milliseconds.append((time.perf_counter() - began) * 1000)

    def stop(self) -> dict[str, Any]:
        self._over.set()
        self.join()
        ordered = sorted(self.milliseconds)
        return {
            "statements": 2 * len(ordered),
            "failed": len(self.errors),
            "errors": self.errors[:3],
            "pair_ms_p50": round(statistics.median(ordered), 1),
            "pair_ms_max": round(ordered[-1], 1),
        }


@contextmanager
def clients(lab: Lab, names: Sequence[str], into: dict[str, Any]) -> Iterator[None]:
    thread = Clients(lab, names)
    thread.start()
    try:
        yield
    finally:
        into["clients"] = thread.stop()


def job(lab: Lab, names: Sequence[str], moves: int, seconds: float, mode: str = "auto") -> dict[str, Any]:
    """Citus' job, stopped after so many moves or seconds; what it moved is moved back."""
    found: dict[str, Any] = {"mode": mode}
    with lab.connect() as connection, clients(lab, names, found):
        sizes = dict(connection.execute("SELECT shard_id::bigint, size FROM citus_shard_sizes()").fetchall())
        (job_id,) = connection.execute(
            "SELECT citus_rebalance_start(shard_transfer_mode := %s)", [mode]
        ).fetchone() or (0,)
        began = time.perf_counter()
        first = last = None
        ended: list[tuple[float, int]] = []
        query = "SELECT task_id, status::text, command FROM pg_dist_background_task WHERE job_id = %s ORDER BY 1"
        while True:
            now, tasks = time.perf_counter(), connection.execute(query, [job_id]).fetchall()
            first = first or (now if any(status == "running" for _, status, _ in tasks) else None)
            done = [int(re.findall(r"\((\d+),", command)[0]) for _, status, command in tasks if status == "done"]
            if len(done) > len(ended):
                known = {shard for _, shard in ended}
                ended += [(now, shard) for shard in done if shard not in known]
                last = now
            if len(done) >= min(moves, len(tasks)) or now - began > seconds:
                break
            time.sleep(0.02)
        if len(done) < len(tasks):
            connection.execute("SELECT citus_rebalance_stop()")
        wait_for_end(connection, job_id)
        move_back(connection, job_id)
    if first is None or last is None:
        raise SystemExit("the job made no move in the time that it was given")
    each, before = [], first
    for at, shard in ended:
        each.append({"seconds": round(at - before, 2), "mb": round(sizes.get(shard, 0) / MB, 1)})
        before = at
    return found | {
        "planned": len(tasks),
        "made": len(ended),
        "seconds": round(last - first, 2),
        "seconds_per_move": round((last - first) / len(ended), 3),
        "each": each,
    }


def wait_for_end(connection: psycopg.Connection[Any], job_id: int) -> None:
    """A job that is being stopped can wait for itself for ever: then its workers are ended."""
    began = time.perf_counter()
    state = "SELECT state IN ('scheduled', 'running', 'cancelling') FROM pg_dist_background_job WHERE job_id = %s"
    while connection.execute(state, [job_id]).fetchone() == (True,):
        if time.perf_counter() - began > 10:
            began = time.perf_counter()
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type LIKE 'Citus Background Task Queue Executor%'"
            )
        time.sleep(0.05)


def move_back(connection: psycopg.Connection[Any], job_id: int) -> None:
    rows = connection.execute("SELECT command, status::text FROM pg_dist_background_task WHERE job_id = %s", [job_id])
    for command, _ in rows.fetchall():
        shard, source, target = map(int, re.findall(r"\((\d+),(\d+),(\d+)", command)[0])
        there = connection.execute(
            "SELECT nodeid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = %s", [shard]
        ).fetchone()
        if there == (target,):
            clean(connection)
            connection.execute(
                "SELECT citus_move_shard_placement(%s, %s::int, %s::int, 'block_writes')", [shard, target, source]
            )
    clean(connection)


def clean(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CALL citus_cleanup_orphaned_resources()")
    while connection.execute("SELECT count(*) FROM pg_dist_cleanup").fetchone() != (0,):
        time.sleep(0.2)
        connection.execute("CALL citus_cleanup_orphaned_resources()")


def direct(lab: Lab, names: Sequence[str]) -> dict[str, Any]:
    """All moves, by the command itself; times are those of its own events."""
    found: dict[str, Any] = {}
    began = time.perf_counter()
    with clients(lab, names, found):
        lines = lab.run("rebalance", "--yes", "--events", "--moves", "direct").splitlines()
    wall = time.perf_counter() - began
    events = [json.loads(line) for line in lines]
    started = [event for event in events if event["type"] == "move_started"]
    ended = [event for event in events if event["type"] == "move_ended"]
    seconds = ended[-1]["at"] - started[0]["at"]
    modes = {event["shard_id"]: event["mode"] for event in started}
    each = sorted(event["seconds"] for event in ended if modes[event["shard_id"]] == "block_writes")
    report = events[-1]
    return found | {
        "moves": len(ended),
        "block_writes": len(each),
        "seconds": round(seconds, 2),
        "seconds_per_move": round(seconds / len(ended), 4),
        "wall_seconds": round(wall, 2),
        "one_move_p50": each[len(each) // 2],
        "one_move_max": each[-1],
        "note": next(step["note"] for step in report["steps"] if "direct move" in step["title"]),
        "skew_after": report["skew_after"],
    }


def grown(folder: Path, sizes: Sequence[int]) -> tuple[Lab, list[str]]:
    lab = Lab(folder, "native", 2)
    load(lab, "s", sizes)
    lab.run("scale-out", "--nodes", "4", "--no-rebalance", "--yes")
    return lab, [f"s{number}" for number in range(len(sizes))]


def tiny(folder: Path, schemas: int) -> dict[str, Any]:
    lab, names = grown(folder, [0] * schemas)
    legs: dict[str, Any] = {}
    configure(folder, {RETRY: "5s", AT_ONCE: "1", PER_NODE: "1"})
    legs["job, defaults of Citus and PostgreSQL"] = job(lab, names, 6, 60)
    configure(folder, {RETRY: "100ms"})
    legs["job, defaults, wal_retrieve_retry_interval = 100ms"] = job(lab, names, 4, 30)
    configure(folder, {RETRY: "5s", AT_ONCE: "8", PER_NODE: "4"})
    legs["job, 8 executors, 4 per node"] = job(lab, names, 16, 45)
    configure(folder, {RETRY: "100ms"})
    legs["job, 8 executors, 4 per node, wal_retrieve_retry_interval = 100ms"] = job(lab, names, 24, 30)
    configure(folder, {RETRY: "5s", AT_ONCE: "1", PER_NODE: "1"})
    legs["direct"] = direct(lab, names)
    best = min(leg["seconds_per_move"] for name, leg in legs.items() if "8 exec" in name and leg["mode"] == "auto")
    per_move = legs["direct"]["seconds_per_move"]
    first = legs["job, defaults of Citus and PostgreSQL"]["seconds_per_move"]
    lab.run("lab", "down", "--delete")
    for name in list(legs):
        legs[name].pop("each", None)
    return {
        "schemas": schemas,
        "legs": legs,
        "times_defaults": round(first / per_move, 1),
        "times_best_setting": round(best / per_move, 1),
    }


def mixed(folder: Path) -> dict[str, Any]:
    sizes = [1000 * MB] * 3 + [0] * 117
    lab, names = grown(folder, sizes)
    configure(folder, {RETRY: "5s", AT_ONCE: "1", PER_NODE: "1"})
    baseline = job(lab, names, 8, 300)
    small = [move["seconds"] for move in baseline["each"] if move["mb"] < 10]
    whole = baseline["seconds"] + (baseline["planned"] - baseline["made"]) * statistics.mean(small)
    found = direct(lab, names)
    lab.run("lab", "down", "--delete")
    return {
        "schemas": {"of 1000 MB": 3, "tiny": 117},
        "job, defaults of Citus and PostgreSQL": baseline | {"extrapolated_seconds": round(whole, 1)},
        "direct": found,
        "times_defaults": round(whole / found["seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=["tiny", "mixed"], default=["tiny", "mixed"])
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for kind in options.only:
        name = f"tiny, {options.schemas} schemas" if kind == "tiny" else kind
        with tempfile.TemporaryDirectory(prefix="orchestrator-bench-", dir="/var/tmp") as folder:
            path = Path(folder)
            path.chmod(0o711)
            os.environ["ORCHESTRATOR_LAB_HOME"] = str(path / "labs")
            known[name] = tiny(path, options.schemas) if kind == "tiny" else mixed(path)
        known[name]["load_average"] = round(os.getloadavg()[1], 1)
        known[name]["measured"] = datetime.now(UTC).isoformat(timespec="seconds")
        known["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {sys.version.split()[0]}"
        RESULTS.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        print(json.dumps(known[name], indent=1), flush=True)


if __name__ == "__main__":
    main()
