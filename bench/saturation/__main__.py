"""Whether `orchestrator advise --benchmark` names what is used up, and whether that is what is used up.

    uv run --all-extras python -m bench.saturation [--seconds 3] [--runs 1] [--only NAME]

On real PostgreSQL: the installed one (pg_config, 15 here), and 18 from the lab's wheel for the names that waits have
there. Each load of `loads.py` goes to the benchmark; then to pgbench, on the installed server and three times in turns:
as it is, with more of what should be used up, and with less of something else. Writes bench/results/saturation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.saturation.disk import SlowServer, slow_server
from bench.saturation.loads import LOADS, Load
from bench.saturation.running import advised, driven
from orchestrator.lab.embedded import _wheel_binaries
from orchestrator.lab.native import find_installation
from orchestrator.lab.postgres import reachable_binaries

RESULTS = Path(__file__).parent.parent / "results" / "saturation.json"


def named(server: SlowServer, load: Load, seconds: float) -> dict[str, Any]:
    """What the benchmark said, with the figures of its last step."""
    found = advised(server, load, seconds)
    last, best = found["steps"][-1], max(found["steps"], key=lambda step: step["transactionsPerSecond"])
    ok = found["saturated"] == load.expected and load.says in " ".join(found["said"])
    return {
        "load": load.name, "expected": load.expected, "named": found["saturated"], "right": ok,
        "clients": last["clients"], "rate": round(best["transactionsPerSecond"], 1),
        "rates": [round(step["transactionsPerSecond"], 1) for step in found["steps"]],
        **{name: None if last[name] is None else round(last[name], 2) for name in ("cpu", "server", "own", "driver")},
        "waits": dict(sorted(last["waits"].items(), key=lambda one: -one[1])[:3]), "said": found["said"],
    }  # fmt: skip


def relief(server: SlowServer, load: Load, seconds: float) -> dict[str, Any]:
    """How many times as many transactions pgbench brings about with more of it, and with less of something else."""
    changes: dict[str, Callable[[Load], Load]] = {"as it is": lambda same: same}
    changes |= {"relieved": load.relieved} if load.relieved else {}
    changes |= {"other": load.other} if load.other else {}
    rates: dict[str, list[float]] = {name: [] for name in changes}
    for _ in range(3):
        for name, change in changes.items():
            rates[name].append(driven(server, change(load), seconds))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    times = {f"{name}_times": round(rate / middle["as it is"], 2) for name, rate in middle.items()}
    return {"pgbench": round(middle["as it is"], 1), **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of clients")
    parser.add_argument("--runs", type=int, default=1, help="of the benchmark with each load")
    parser.add_argument("--only", default="", help="loads with this in their name; nothing is written then")
    options = parser.parse_args()
    loads = [load for load in LOADS if options.only in load.name]
    installed, wheel = find_installation(), _wheel_binaries()
    assert not isinstance(installed, str), installed
    assert wheel is not None
    found: dict[str, Any] = {"seconds": options.seconds}
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        for name, binaries in (("installed", installed.binaries), ("wheel", wheel)):
            with slow_server(reachable_binaries(binaries, Path(folder))) as server:
                found[name] = run(server, loads, options.seconds, options.runs, name == "installed")
    if not options.only:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def run(server: SlowServer, loads: list[Load], seconds: float, runs: int, relieving: bool) -> list[dict[str, Any]]:
    found = []
    for load in loads:
        # The receiver of WAL and pgbench come with the installed server only.
        if load.standby is not None and not relieving:
            continue
        for _ in range(runs):
            one = named(server, load, seconds) | (relief(server, load, seconds) if relieving else {})
            print(json.dumps(one), flush=True)
            found.append(one)
    return found


if __name__ == "__main__":
    main()
