"""How much a scale-out takes beyond what Azure and Citus take themselves.

    uv run --extra lab python bench/overhead.py [--engine native] [--schemas 100] [--runs 3]

Overhead = wall time of `orchestrator scale-out` (the whole process) minus the time of the ARM operations (as the lab's
ARM endpoint logged them) minus the time of the rebalance job (from the moment that Citus is asked to plan it until its
finished_at, watched from outside). Everything in one run on one machine. Writes bench/results/overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import yaml

RESULTS = Path(__file__).parent / "results" / "overhead.json"
ARM_TIME = re.compile(r"operation \S+ Succeeded after ([\d.]+) s")


class Lab:
    """A project folder of its own with a lab in it."""

    def __init__(self, folder: Path, engine: str, nodes: int = 4) -> None:
        self.folder = folder
        (folder / "stacks").mkdir()
        (folder / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\n", "utf-8")
        self.run("lab", "up", "--engine", engine, "--nodes", str(nodes))

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "orchestrator", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    def connect(self) -> psycopg.Connection[Any]:
        config = yaml.safe_load((self.folder / "stacks" / "Pulumi.local.yaml").read_text("utf-8"))["config"]
        endpoint = config["elastic-cluster:endpoint"]
        password = Path(config["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8")
        return psycopg.connect(
            host=endpoint["host"],
            port=endpoint["ports"]["direct"],
            dbname="citus",
            user="clusteradmin",
            password=password,
            sslmode="disable",
            autocommit=True,
        )

    def arm_seconds(self) -> list[float]:
        log = json.loads(self.run("lab", "status", "--json"))["log"]
        return [float(found) for found in ARM_TIME.findall(Path(log).read_text("utf-8"))]


class JobWatch(threading.Thread):
    """Sees the job appear, from outside, and reads when Citus says that it finished."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self.seconds: float | None = None

    def run(self) -> None:
        """From the moment that Citus is asked (its planning is its own time), until the job's finished_at."""
        query = """
            SELECT coalesce((SELECT min(query_start) FROM pg_stat_activity
                             WHERE state = 'active' AND query LIKE '%citus_rebalance_start(rebalance_strategy%'
                               AND pid <> pg_backend_pid()),
                            (SELECT clock_timestamp() FROM pg_dist_background_job LIMIT 1)),
                   (SELECT max(finished_at) FROM pg_dist_background_job)
        """
        asked = None
        while True:
            seen, finished = self._connection.execute(query).fetchone() or (None, None)
            asked = asked or seen
            if asked and finished:
                self.seconds = (finished - asked).total_seconds()
                return
            time.sleep(0.005)


def measure(engine: str, schemas: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as name:
        lab = Lab(Path(name), engine)
        try:
            with lab.connect() as connection:
                version = str(connection.execute("SELECT citus_version()").fetchone()[0])  # type: ignore[index]
                for number in range(schemas):
                    connection.execute(f"CREATE SCHEMA s{number}")
                    connection.execute(f"SELECT citus_schema_distribute('s{number}')")
                    connection.execute(f"CREATE TABLE s{number}.t (id bigint PRIMARY KEY)")
                watch = JobWatch(connection)
                watch.start()
                before = len(lab.arm_seconds())
                started = time.monotonic()
                how = ("--moves", "job", "--transfer-mode", "block_writes")
                report = json.loads(lab.run("scale-out", "--nodes", "8", "--yes", "--json", *how))
                wall = time.monotonic() - started
                watch.join(60)
                arm = sum(lab.arm_seconds()[before:])
        finally:
            lab.run("lab", "down", "--delete")
    job = watch.seconds or 0.0
    return {
        "engine": engine,
        "citus": version,
        "schemas": schemas,
        "moves": report["moves_planned"],
        "wall_seconds": round(wall, 2),
        "arm_seconds": round(arm, 2),
        "job_seconds": round(job, 2),
        "overhead_seconds": round(wall - arm - job, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--engine", default="native", choices=["native", "embedded", "docker"])
    parser.add_argument("--schemas", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        runs.append(measure(options.engine, options.schemas))
        print(json.dumps(runs[-1]), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    document = {
        "command": "uv run --extra lab python bench/overhead.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "runs": runs,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
