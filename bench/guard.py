"""Does the load guard keep the foreground quick while shards move? The same moves without it and with it, real Citus.

    uv run --all-extras python bench/guard.py [--small]

A lab of two nodes becomes one of four; then the same shard groups are moved to the new nodes without a guard, and back
(`rebalance --undo`) with `--max-p99`. Foreground clients, in a process of their own, change and read rows of tenants
at a fixed pace all the while; some time after the first move begins their number is tripled: that is the load step.
Before the moves both loads are measured without any moves: a p99 is compared with that of the same load. The guard's
limit is `--max-p99 2x`: it measures its probe's usual latency itself, under the small load. Without a guard the moves
are over within half a minute; with it they are watched for fifty seconds under each load and, where some are left,
stopped. Writes bench/results/guard.json. Cleans up after itself; five minutes (`--small`: about one and a half).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from moves import load
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "guard.json"
MB = 2**20
context = multiprocessing.get_context("fork")
# Pairs of statements that one client makes in a second.
PACE = 15.0


@dataclass(frozen=True, slots=True)
class Size:
    """`before` is in seconds, `without` and `guarded` are seconds from the first move to the step, of the step, and
    after it; `clients` are those of the small load."""

    schemas: int
    megabytes: int
    before: float
    without: tuple[float, float, float]
    guarded: tuple[float, float, float]
    clients: int = 3
    times: int = 3


FULL = Size(schemas=64, megabytes=48, before=20, without=(12, 16, 30), guarded=(50, 50, 15))
SMALL = Size(schemas=10, megabytes=12, before=3, without=(3, 5, 4), guarded=(3, 5, 4))


class Foreground:
    """Clients at a fixed pace, in a process of their own; `clients` of them are at work."""

    def __init__(self, lab: Lab, names: Sequence[str], most: int) -> None:
        self._lab, self._names, self._most = lab, names, most
        self._wanted = context.Value("i", 0, lock=False)
        self._over = context.Event()
        self._answers: multiprocessing.Queue[Any] = context.Queue()
        self._process = context.Process(target=self._work, daemon=True)
        self._process.start()

    def clients(self, count: int) -> None:
        self._wanted.value = count

    def finish(self) -> tuple[list[tuple[float, float]], list[str]]:
        """(when, milliseconds) of each pair of statements, and what failed."""
        self._over.set()
        seen, errors = self._answers.get(timeout=60)
        self._process.join()
        return seen, errors

    def _work(self) -> None:
        seen: list[tuple[float, float]] = []
        errors: list[str] = []
        threads = [threading.Thread(target=self._client, args=(n, seen, errors)) for n in range(self._most)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._answers.put((seen, errors))

    def _client(self, number: int, seen: list[tuple[float, float]], errors: list[str]) -> None:
        chance = random.Random(number)
        with self._lab.connect() as connection:
            while not self._over.wait(chance.uniform(0.5, 1.5) / PACE):
                if number >= self._wanted.value:
                    continue
                name, row, began = chance.choice(self._names), chance.randint(1, 10), time.monotonic()
                try:
                    connection.execute(f"UPDATE {name}.t SET v = v WHERE id = {row}")
                    connection.execute(f"SELECT v FROM {name}.t WHERE id = {row}")
                except psycopg.Error as error:
                    errors.append(f"{error.sqlstate} {str(error)[:100]}")
                seen.append((began, (time.monotonic() - began) * 1000))


def p99(values: Sequence[float]) -> float | None:
    """None where there are too few to tell."""
    ordered = sorted(values)
    return round(ordered[int(len(ordered) * 0.99)], 1) if len(ordered) >= 20 else None


@dataclass
class Running:
    """The command, and its events with the time at which each came."""

    lab: Lab
    arguments: tuple[str, ...]

    def __post_init__(self) -> None:
        self.events: list[tuple[float, dict[str, Any]]] = []
        command = [sys.executable, "-m", "orchestrator", *self.arguments, "--yes", "--events"]
        self.process = subprocess.Popen(command, cwd=self.lab.folder, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, event) for at, event in list(self.events) if event["type"] == kind]

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def finish(self, seconds: float) -> int:
        """Wait, then ask it to stop from another terminal."""
        try:
            code = self.process.wait(timeout=max(0.1, seconds))
        except subprocess.TimeoutExpired:
            self.lab.run("rebalance", "--stop")
            code = self.process.wait(timeout=60)
        self._reader.join()
        return code


def leg(
    lab: Lab, names: Sequence[str], size: Size, times: tuple[float, float, float], *arguments: str
) -> dict[str, Any]:
    """Both loads without moves, then the command with a load step in the middle."""
    until_step, step, after = times
    foreground = Foreground(lab, names, size.clients * size.times)
    foreground.clients(size.clients * size.times)
    time.sleep(size.before + 1)
    low = time.monotonic()
    foreground.clients(size.clients)
    time.sleep(size.before + 1)
    running = Running(lab, arguments)
    while not running.of("move_started") and not running.over:
        time.sleep(0.02)
    began = time.monotonic()
    time.sleep(until_step)
    stepped = time.monotonic()
    foreground.clients(size.clients * size.times)
    time.sleep(step)
    ended = time.monotonic()
    foreground.clients(size.clients)
    code = running.finish(after)
    seen, errors = foreground.finish()
    moves = running.of("move_ended")
    # A run that had to be stopped was under way until then, also while it was paused.
    last = moves[-1][0] if moves and code == 0 else time.monotonic()

    def between(since: float, until: float) -> dict[str, Any]:
        """The first second is left out: clients are just beginning or still in what was before."""
        found = [ms for at, ms in seen if since + 1 <= at < until]
        return {"pairs": len(found), "p50_ms": p50(found), "p99_ms": p99(found)}

    phases = {
        "step load, no moves": between(low - size.before - 1, low),
        "small load, no moves": between(low, began - 1),
        "small load, moves": between(began - 1, min(stepped, last)),
        "step load, moves": between(stepped, min(ended, last)),
    }
    return {
        "command": " ".join(("orchestrator", *arguments)),
        "ended_with": code,
        "seconds": round(last - began, 1),
        "moves_done": sum(event["outcome"] == "done" for _, event in moves),
        "foreground_errors": len(errors),
        "errors": errors[:3],
        "phases": phases,
        "p99_times_baseline": {
            "small load": ratio(phases["small load, moves"], phases["small load, no moves"]),
            "step load": ratio(phases["step load, moves"], phases["step load, no moves"]),
            "step load, beside the small load without moves": ratio(
                phases["step load, moves"], phases["small load, no moves"]
            ),
        },
        "guard": reaction(running, began, stepped, ended),
    }


def p50(values: Sequence[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 1) if values else None


def ratio(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    first, second = one["p99_ms"], other["p99_ms"]
    return round(first / second, 2) if first and second else None


def reaction(running: Running, began: float, stepped: float, ended: float) -> dict[str, Any] | None:
    """What the guard said and when, beside the load step; None where nobody guarded."""
    looks = running.of("latency_seen")
    if not looks:
        return None
    at_step = next((event["state"] for at, event in reversed(looks) if at < stepped), "going")
    lower = {"going": 0, "slowed": 1, "paused": 2}
    later = [at for at, event in looks if stepped <= at < ended and lower[event["state"]] > lower[at_step]]
    if at_step == "paused":
        later = [stepped]
    states = [event["state"] for at, event in looks if stepped <= at < ended]
    paused = [at for at, event in looks if at >= began and event["state"] == "paused"]
    return {
        "seconds_from_the_first_move_until_paused": round(paused[0] - began, 1) if paused else None,
        "state_at_the_step": at_step,
        "seconds_until_it_slowed_down_further": round(later[0] - stepped, 1) if later else None,
        "share_of_the_step_paused": round(states.count("paused") / len(states), 2) if states else None,
        "share_of_the_step_slowed": round(states.count("slowed") / len(states), 2) if states else None,
        "moves_begun_during_the_step": sum(stepped <= at < ended for at, _ in running.of("move_started")),
        "said": [
            [round(at - stepped, 1), event["text"]]
            for at, event in running.of("notice")
            if "moves " in event["text"].lower()
        ],
    }


def measure(folder: Path, size: Size) -> dict[str, Any]:
    os.environ["ORCHESTRATOR_LAB_HOME"] = str(folder / "labs")
    lab = Lab(folder, "native", 2)
    try:
        load(lab, "s", [size.megabytes * MB] * size.schemas)
        names = [f"s{number}" for number in range(size.schemas)]
        lab.run("scale-out", "--nodes", "4", "--no-rebalance", "--yes")
        without = leg(lab, names, size, size.without, "rebalance", "--moves", "direct")
        run = json.loads(lab.run("runs", "--json"))[0]["run"]
        guarded = leg(lab, names, size, size.guarded, "rebalance", "--undo", str(run), "--max-p99", "2x")
        return {"without guard": without, "with guard": guarded}
    finally:
        lab.run("lab", "down", "--delete")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a try of the script itself; writes no result")
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    with tempfile.TemporaryDirectory(prefix="orchestrator-guard-", dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o711)
        found = measure(path, size)
    found = {
        "command": "uv run --all-extras python bench/guard.py",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {sys.version.split()[0]}",
        "load_average": round(os.getloadavg()[1], 1),
        "schemas": size.schemas,
        "megabytes_each": size.megabytes,
        "clients": [size.clients, size.clients * size.times],
    } | found
    print(json.dumps(found, indent=1))
    if not options.small:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
