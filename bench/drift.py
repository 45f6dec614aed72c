"""Does `plan --check` cry wolf? A number of runs on a cluster that is as declared, then seeded drift, one at a time.

    uv run --all-extras python bench/drift.py [--engine native] [--runs 100]

Writes bench/results/drift.json: false alarms, the seeded differences that were found alone and those that were not, and
the median wall time of one check (the whole process). Each seeded difference is undone before the next.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from overhead import Lab

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "drift.json"
# By hand, how it is undone, and the object that has to be named.
SEEDED = (
    ("ALTER ROLE user_service CONNECTION LIMIT 3", "ALTER ROLE user_service CONNECTION LIMIT -1", "connection limit"),
    ("ALTER ROLE user_service SET search_path TO x", "ALTER ROLE user_service RESET search_path", "search_path"),
    ("ALTER ROLE ping_service NOLOGIN", "ALTER ROLE ping_service LOGIN", "role ping_service"),
    (
        "GRANT SELECT ON user_service.users TO ping_service",
        "REVOKE SELECT ON user_service.users FROM ping_service",
        "table user_service.users: ping_service",
    ),
    (
        "GRANT UPDATE ON user_service.users TO PUBLIC",
        "REVOKE UPDATE ON user_service.users FROM PUBLIC",
        "table user_service.users: public",
    ),
    (
        "GRANT USAGE ON SCHEMA time_service TO ping_service",
        "REVOKE USAGE ON SCHEMA time_service FROM ping_service",
        "schema time_service: ping_service",
    ),
    (
        "ALTER SCHEMA time_service OWNER TO user_service",
        "ALTER SCHEMA time_service OWNER TO time_service",
        "schema time_service: owner",
    ),
)


class Project(Lab):
    def check(self) -> tuple[list[str], float]:
        """The objects that drifted, and seconds."""
        command = [sys.executable, "-m", "orchestrator", "plan", "--check", "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode not in (0, 3):
            sys.exit(f"plan --check failed: {done.stderr}")
        return [drift["object"] for drift in json.loads(done.stdout)["drift"]], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        shutil.copytree(ROOT / "examples" / "microservices", Path(folder) / "examples" / "microservices")
        project = Project(Path(folder), options.engine)
        try:
            result = measure(project, options.runs)
        finally:
            project.run("lab", "down", "--delete")
    result = {"command": " ".join(sys.argv), "engine": options.engine, "date": datetime.now(UTC).isoformat()} | result
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


def measure(project: Project, runs: int) -> dict[str, object]:
    project.run("apply", "--yes")
    clean = [project.check() for _ in range(runs)]
    alone, missed = [], []
    with project.connect() as conn:
        for statement, undo, named in SEEDED:
            for text, run in ((statement, True), (undo, False)):
                owner = next((role for role in ("user_service", "time_service") if f"{role}" in text), None)
                as_owner = owner is not None and (" ON " in text)
                conn.execute(f"SET ROLE {owner}" if as_owner else "RESET ROLE")  # type: ignore[call-overload]
                conn.execute(text)  # type: ignore[call-overload]
                conn.execute("RESET ROLE")
                if run:
                    found, _ = project.check()
                    (alone if len(found) == 1 and named in found[0] else missed).append([statement, found])
    after, _ = project.check()
    return {
        "clean_runs": runs,
        "false_alarms": sum(bool(found) for found, _ in clean),
        "median_seconds": round(statistics.median(seconds for _, seconds in clean), 3),
        "seeded": len(SEEDED),
        "found_alone": len(alone),
        "not_found_alone": missed,
        "drift_after_undoing": after,
    }


if __name__ == "__main__":
    main()
