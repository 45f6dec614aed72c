"""Thousands of tenants: how long `apply` takes beside the tutorial's statements through psql, and how that grows.

    uv run --all-extras python bench/tenants.py [--engine native] [--nodes 5] [--blocks 4] [--steps 2000,5000]

Each tenant is a role with a password, a distributed schema, one table and a grant to another role. Side by side: blocks
of tenants made by `orchestrator apply` from a template, and as many made by the tutorial's statements piped through
psql, one by one, in sessions of a hundred (in one session for all the nodes run out of connections). Then the number of
tenants grows step by step; after the last step a run that has nothing to do is timed. Times are of whole processes;
`peak_mb` is the largest memory of one. Writes bench/results/tenants.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "tenants.json"
TABLE = "CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL);\n"
SESSION = 100
BLOCK = 250


class Tenants(Lab):
    def declare(self, count: int) -> None:
        (self.folder / "stacks" / "tenant").mkdir(exist_ok=True)
        (self.folder / "stacks" / "tenant" / "001.sql").write_text(TABLE, "utf-8")
        path = self.folder / "stacks" / "Pulumi.local.yaml"
        document = yaml.safe_load(path.read_text("utf-8"))
        document["config"]["elastic-cluster:services"] = [{"name": "reader"}]
        grants = [{"role": "reader", "privileges": ["SELECT"]}]
        service = {"name": "tenant_{key}", "migrations": ["tenant"], "grants": grants}
        keys = {"range": {"from": 1, "to": count}}
        document["config"]["elastic-cluster:serviceTemplates"] = [{"keys": keys, "service": service}]
        path.write_text(yaml.safe_dump(document), "utf-8")

    def apply(self) -> tuple[float, float, str]:
        """Seconds, megabytes of memory at the most, and the outcome."""
        command = [sys.executable, "-m", "orchestrator", "apply", "--yes", "--json"]
        began = time.perf_counter()
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            out, err = process.stdout, process.stderr
            assert out is not None
            text = out.read()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            if status:
                sys.exit(f"apply failed: {err.read() if err else ''}")
            process.returncode = 0
        return seconds, usage.ru_maxrss / 1024, json.loads(text)["outcome"]

    def psql(self, first: int, count: int) -> float:
        """The tutorial's statements, one by one; seconds of psql itself."""
        config = yaml.safe_load((self.folder / "stacks" / "Pulumi.local.yaml").read_text("utf-8"))["config"]
        password = Path(config["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8")
        port = config["elastic-cluster:endpoint"]["ports"]["direct"]
        dsn = f"host=127.0.0.1 port={port} dbname=citus user=clusteradmin sslmode=disable"
        environment = os.environ | {"PGPASSWORD": password}
        spent = 0.0
        for start in range(first, first + count, SESSION):
            script = "".join(map(statements, range(start, min(start + SESSION, first + count))))
            began = time.perf_counter()
            done = subprocess.run(
                ["psql", dsn, "-q", "-v", "ON_ERROR_STOP=1"], input=script, env=environment, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            spent += time.perf_counter() - began
            if done.returncode:
                sys.exit(f"psql failed: {done.stderr[-500:]}")
        return spent


def statements(number: int) -> str:
    """As in Microsoft's tutorial; the password and the grant as the other leg has them."""
    name = f"psql_{number}"
    return (
        f"CREATE USER {name} PASSWORD 'correct horse battery {number}';\n"
        f"GRANT {name} TO clusteradmin;\n"
        f"CREATE SCHEMA AUTHORIZATION {name};\n"
        f"SELECT citus_schema_distribute('{name}');\n"
        f"SET ROLE {name};\n"
        f"SET search_path TO {name};\n"
        f"{TABLE}"
        f"GRANT USAGE ON SCHEMA {name} TO reader;\n"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO reader;\n"
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT SELECT ON TABLES TO reader;\n"
        "RESET ROLE;\nRESET search_path;\n"
    )


def side_by_side(lab: Tenants, blocks: int) -> dict[str, Any]:
    """Blocks of either kind in turn, so that both meet the same catalogs and the same noise."""
    lab.declare(1)
    lab.apply()
    ours, theirs = [], []
    for block in range(blocks):
        lab.declare(1 + (block + 1) * BLOCK)
        ours.append(round(lab.apply()[0], 2))
        theirs.append(round(lab.psql(block * BLOCK, BLOCK), 2))
        print(f"block {block + 1}: apply {ours[-1]} s, psql {theirs[-1]} s", flush=True)
    return {"tenants_each": blocks * BLOCK, "apply": ours, "psql": theirs, "ratio": round(sum(theirs) / sum(ours), 2)}


def growth(lab: Tenants, have: int, steps: list[int]) -> list[dict[str, Any]]:
    table = []
    for count in (step for step in steps if step > have):
        lab.declare(count)
        seconds, peak, _ = lab.apply()
        row = {"from": have, "to": count, "seconds": round(seconds, 1), "peak_mb": round(peak)}
        row["ms_each"] = round(1000 * seconds / (count - have), 1)
        seconds, peak, outcome = lab.apply()
        row |= {"again": outcome, "again_seconds": round(seconds, 1), "again_peak_mb": round(peak)}
        print(row, flush=True)
        table.append(row)
        have = count
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", default="2000,5000")
    options = parser.parse_args()
    if shutil.which("psql") is None:
        sys.exit("psql is not on PATH")
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        lab = Tenants(Path(folder), options.engine, options.nodes)
        try:
            beside = side_by_side(lab, options.blocks)
            grown = growth(lab, 1 + options.blocks * BLOCK, [int(step) for step in options.steps.split(",")])
        finally:
            lab.run("lab", "down", "--delete")
    result = {
        "command": " ".join(sys.argv), "engine": options.engine, "nodes": options.nodes,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "side_by_side": beside, "growth": grown,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(beside))


if __name__ == "__main__":
    main()
