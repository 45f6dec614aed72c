"""How long `orchestrator --help` takes, beside a Python that does nothing. Writes bench/results/startup.json.

uv run --extra lab python bench/startup.py [--runs 20]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "orchestrator --help": [str(Path(sys.executable).parent / "orchestrator"), "--help"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Start-up time of the command line.")
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():
        seconds(command)
    # In turn, so that both see the same moods of the machine.
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    document = {
        "command": "uv run --extra lab python bench/startup.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "runs": runs,
        "median_seconds": medians,
        "ratio": round(medians["orchestrator --help"] / medians["python -c pass"], 1),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
