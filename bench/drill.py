"""How long are services away when the cluster restarts, and do retries spare them? `doctor --drill` on real Citus.

    uv run --all-extras python bench/drill.py [--nodes 4] [--runs 5]

A restart of the lab (all nodes and PgBouncer, no standbys) is quicker than a server's on Azure: what carries over is
which errors clients see, and that retries lose nothing. Writes bench/results/drill.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from overhead import Lab

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "drill.json"


def summary(drills: list[dict[str, Any]], port: str) -> dict[str, Any]:
    mine = [one for drill in drills for one in drill["ports"] if one["port"] == port]
    told: Counter[str] = Counter()
    for one in mine:
        for failure in one["plain"]["told"]:
            told[f"{failure['sqlstate'] or 'no SQLSTATE'}: {failure['text']}"] += failure["count"]
    away = [one["plain"]["seconds"] for one in mine]
    longest = [one["retrying"]["longest"] for one in mine]
    return {
        "clients": len(mine),
        "away_seconds_median": round(statistics.median(away), 2),
        "away_seconds_most": round(max(away), 2),
        "requests_failed_without_retries": sum(one["plain"]["failed"] for one in mine),
        "requests_failed_with_retries": sum(one["retrying"]["failed"] for one in mine),
        "longest_request_with_retries_seconds": round(max(longest), 2),
        "failures": dict(told.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        shutil.copytree(ROOT / "examples" / "microservices", Path(folder) / "examples" / "microservices")
        lab = Lab(Path(folder), "native", options.nodes)
        try:
            lab.run("apply", "--yes")
            drills = [json.loads(lab.run("doctor", "--drill", "--yes", "--json")) for _ in range(options.runs)]
        finally:
            lab.run("lab", "down", "--delete")
    result = {
        "command": "uv run --all-extras python bench/drill.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "nodes": options.nodes,
        "drills": options.runs,
        "recovered": sum(drill["recovered"] for drill in drills),
        "load_average": round(os.getloadavg()[0], 1),
        "ports": {port: summary(drills, port) for port in ("direct", "pooled", "balanced")},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
