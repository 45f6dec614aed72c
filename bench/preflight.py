"""How long does `orchestrator preflight` take? The whole process, on real Citus, with many distributed schemas.

    uv run --all-extras python bench/preflight.py [--schemas 1000] [--nodes 4] [--runs 3]

Writes bench/results/preflight.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "preflight.json"


def fill(lab: Lab, schemas: int, first: int, step: int) -> None:
    with lab.connect() as connection:
        for number in range(first, schemas, step):
            with connection.transaction():
                connection.execute(f"CREATE SCHEMA n{number}")
                connection.execute(f"SELECT citus_schema_distribute('n{number}')")
                connection.execute(f"CREATE TABLE n{number}.t (id bigint PRIMARY KEY)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        lab = Lab(Path(folder), "native", options.nodes)
        try:
            fillers = [threading.Thread(target=fill, args=(lab, options.schemas, first, 4)) for first in range(4)]
            for filler in fillers:
                filler.start()
            for filler in fillers:
                filler.join()
            seconds = []
            for _ in range(options.runs):
                began = time.perf_counter()
                found = json.loads(lab.run("preflight", "--json"))["findings"]
                seconds.append(round(time.perf_counter() - began, 2))
        finally:
            lab.run("lab", "down", "--delete")
    result = {
        "command": "uv run --all-extras python bench/preflight.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "schemas": options.schemas,
        "nodes": options.nodes,
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": seconds,
        "findings": len(found),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
