"""How far off the estimate of a run's duration is, on real rebalances of different shape.

    uv run --extra lab python bench/estimate.py [--engine native] [--moves job] [--only tiny/auto ...]
    uv run --extra lab python bench/estimate.py --moves direct

For every shape of data and transfer mode a new cluster grows 2 -> 4 (estimated by defaults: the calibration run),
4 -> 8 with as many tenants again (estimated after one run), and 8 -> 10 after data of another shape was added. The
estimate is the one that the command itself prints before it starts; the error is |took - estimated| / took of the whole
run. Direct moves, which are what a run takes by itself where tenants are small, are measured with two shapes and
written beside the others. Writes bench/results/estimate.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "estimate.json"
KB, MB = 2**10, 2**20
SHAPES = ("tiny", "large", "whale", "mixed")
RUNS = {
    "job": [(shape, "auto") for shape in SHAPES] + [("tiny", "block_writes"), ("mixed", "block_writes")],
    "direct": [("tiny", "auto"), ("mixed", "auto")],
}


def sizes(shape: str, chance: random.Random) -> list[int]:
    """Bytes of each tenant."""
    match shape:
        case "tiny":
            return [chance.randint(8 * KB, 200 * KB) for _ in range(60)]
        case "large":
            return [chance.randint(100 * MB, 200 * MB) for _ in range(10)]
        case "whale":
            return [1000 * MB] + [chance.randint(8 * KB, MB) for _ in range(24)]
        case _:
            return [min(200 * MB, int(chance.lognormvariate(16.5, 1.5))) for _ in range(36)]


def add(connection: psycopg.Connection[Any], prefix: str, tenants: Sequence[int]) -> None:
    for number, size in enumerate(tenants):
        name = f"{prefix}{number}"
        connection.execute(f"CREATE SCHEMA {name}")
        connection.execute(f"SELECT citus_schema_distribute('{name}')")
        connection.execute(f"CREATE TABLE {name}.t (id bigint PRIMARY KEY, v text)")
        connection.execute(
            f"INSERT INTO {name}.t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, %s) i", [size // 1040 + 1]
        )


def measure(engine: str, shape: str, mode: str, moves: str) -> list[dict[str, Any]]:
    other = SHAPES[(SHAPES.index(shape) + 2) % len(SHAPES)]
    chance = random.Random(f"{shape}/{mode}")
    found = []
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as name:
        lab = Lab(Path(name), engine, nodes=2)
        try:
            for before, after, kind in ((2, 4, shape), (4, 8, shape), (8, 10, other)):
                with lab.connect() as connection:
                    add(connection, f"{kind}{after}_", sizes(kind, chance))
                wishes = ["--transfer-mode", mode, "--moves", moves]
                answer = lab.run("scale-out", "--nodes", str(after), "--yes", "--json", *wishes)
                with lab.connect() as connection:
                    timing = connection.execute(
                        "SELECT to_jsonb(latest) - 'finished_at' FROM orchestrator.run_timing latest"
                        " ORDER BY finished_at DESC LIMIT 1"
                    ).fetchone()
                report = json.loads(answer)
                row = {"shape": shape, "added": kind, "transfer_mode": mode, "nodes": f"{before} -> {after}"}
                found.append(row | report["estimate"] | {"timing": timing[0] if timing else None})
                print(json.dumps(found[-1]), flush=True)
        finally:
            lab.run("lab", "down", "--delete")
    return found


def median_error(runs: Sequence[dict[str, Any]]) -> float | None:
    errors = [abs(run["error"]) for run in runs if run["error"] is not None]
    return round(statistics.median(errors), 3) if errors else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--engine", default="native", choices=["native", "docker"])
    parser.add_argument("--moves", default="job", choices=["job", "direct"])
    parser.add_argument("--only", nargs="*", help="shape/mode, for example tiny/auto")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for shape, mode in RUNS[options.moves]:
        if not options.only or f"{shape}/{mode}" in options.only:
            runs += measure(options.engine, shape, mode, options.moves)
    calibrated = [run for run in runs if run["runs"] > 0]
    document = {
        "command": "uv run --extra lab python bench/estimate.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": round(os.getloadavg()[0], 1),
        "median_error": {
            "by defaults": median_error([run for run in runs if run["runs"] == 0]),
            "after one run": median_error([run for run in runs if run["runs"] == 1]),
            "after one run or more": median_error(calibrated),
        },
        "within_band": sum(run["low"] <= run["took"] <= run["high"] for run in calibrated),
        "calibrated_runs": len(calibrated),
        "runs": runs,
    }
    print(json.dumps(document["median_error"]))
    if not options.only:
        kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        direct = document if options.moves == "direct" else kept.pop("direct", None)
        whole = kept if options.moves == "direct" else document
        RESULTS.write_text(json.dumps(whole | ({"direct": direct} if direct else {}), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
