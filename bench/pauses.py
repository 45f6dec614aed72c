"""How long do writers wait for direct moves, and does `--max-write-pause` hold? Real Citus, writers on every schema.

    uv run --all-extras python bench/pauses.py [--schemas 120] [--writers 2] [--ceilings 500,250]

Schemas with one small table each on two nodes; two nodes are added; for each ceiling `rebalance --moves direct` moves
half of the schemas there, and its undo brings them back for the next. Writers insert into the schemas in turn, each
insert a transaction of its own, for some seconds before and then while they move. Compared are the pauses that the
command tells for its moves, by the server's clock, and the longest inserts. Writes bench/results/pauses.json.
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
from typing import Any

from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "pauses.json"


BASELINE_SECONDS = 8.0


class Writer(threading.Thread):
    """Inserts into every schema in turn. `seconds` is what each insert took."""

    def __init__(self, lab: Lab, schemas: int, first: int) -> None:
        super().__init__(daemon=True)
        self.lab, self.schemas, self.first = lab, schemas, first
        self.seconds: list[float] = []
        self.errors = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        with self.lab.connect() as connection:
            number = self.first
            while not self.stopping.is_set():
                number = (number + 1) % self.schemas
                began = time.perf_counter()
                try:
                    connection.execute(f"INSERT INTO s{number}.t (v) VALUES ('written')")
                except Exception as error:
                    self.errors += 1
                    print(f"insert: {error}", file=sys.stderr)
                self.seconds.append(time.perf_counter() - began)


def quantile(values: list[float], part: float) -> float | None:
    """In milliseconds; None of nothing."""
    ordered = sorted(values)
    return None if not ordered else round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 1)


def measure(lab: Lab, schemas: int, writers: int, ceiling: int) -> dict[str, Any]:
    threads = [Writer(lab, schemas, number * schemas // writers) for number in range(writers)]
    for thread in threads:
        thread.start()
    time.sleep(BASELINE_SECONDS)
    alone = [list(thread.seconds) for thread in threads]
    said = lab.run("rebalance", "--yes", "--events", "--moves", "direct", "--max-write-pause", str(ceiling))
    for thread in threads:
        thread.stopping.set()
        thread.join()
    events = [json.loads(line) for line in said.splitlines()]
    pauses = [event["write_pause_seconds"] for event in events if event.get("write_pause_seconds") is not None]
    waits = [seconds for thread, n in zip(threads, alone, strict=True) for seconds in thread.seconds[len(n) :]]
    quiet = [seconds for values in alone for seconds in values]
    step = next(event for event in events if event["type"] == "step_succeeded" and "direct move" in event["title"])
    return {
        "ceiling_ms": ceiling,
        "moves": sum(event["type"] == "move_ended" for event in events),
        "told_p50_ms": quantile(pauses, 0.5), "told_p99_ms": quantile(pauses, 0.99),
        "told_longest_ms": quantile(pauses, 1),
        "longer_than_ceiling": sum(pause * 1000 > ceiling for pause in pauses),
        "inserts": len(waits), "errors": sum(thread.errors for thread in threads),
        "insert_p50_ms": quantile(waits, 0.5), "insert_longest_ms": quantile(waits, 1),
        "insert_longest_before_ms": quantile(quiet, 1),
        "inserts_longer_than_ceiling": sum(wait * 1000 > ceiling for wait in waits),
        "note": step["note"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=int, default=120)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--ceilings", default="500,250")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        lab = Lab(Path(folder), "native", 2)
        try:
            with lab.connect() as connection:
                for number in range(options.schemas):
                    connection.execute(f"CREATE SCHEMA s{number}")
                    connection.execute(f"SELECT citus_schema_distribute('s{number}')")
                    connection.execute(f"CREATE TABLE s{number}.t (id bigserial PRIMARY KEY, v text)")
                    connection.execute(f"INSERT INTO s{number}.t (v) SELECT 'row' FROM generate_series(1, 100)")
            lab.run("scale-out", "--nodes", "4", "--yes", "--no-rebalance")
            for ceiling in map(int, options.ceilings.split(",")):
                found.append(measure(lab, options.schemas, options.writers, ceiling))
                print(json.dumps(found[-1]), flush=True)
                run = json.loads(lab.run("runs", "--json"))[0]["run"]
                lab.run("rebalance", "--undo", str(run), "--yes")
        finally:
            lab.run("lab", "down", "--delete")
    document = {
        "command": "uv run --all-extras python bench/pauses.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": round(os.getloadavg()[0], 1),
        "schemas": options.schemas, "writers": options.writers, "runs": found,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
