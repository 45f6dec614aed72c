"""Thousands of tenants: how long `apply` takes beside the tutorial's statements through psql, and how that grows.

    uv run --all-extras python bench/tenants.py --only beside [--blocks 4]          # 1,000 of either kind
    uv run --all-extras python bench/tenants.py --only growth [--steps 100,1000,2000,5000,10000]
    uv run --all-extras python bench/tenants.py --only planning --steps 1000,10000,50000

Each tenant is a role with a password, a distributed schema, one table and a grant to another role. Side by side: blocks
of 250 tenants made by `orchestrator apply` from a template, and as many made by the tutorial's statements piped through
psql, one by one, in sessions of a hundred (in one session for all the nodes run out of connections). Growth: the number
of tenants is raised step by step in a lab of its own; after each step a run that has nothing to do. Planning: so many
tenants that are not there are read and planned by an `apply` that is not told to go ahead. Times are of whole
processes; `peak_mb` is the largest memory of one, `server_cpu_ms_each` the time of all servers' processes on the CPU
(native engine), which other work on the machine disturbs less than the wall time. A collision that was tried again is
counted from the servers' logs. With --folder the lab is made there, or found there, and kept. Updates
bench/results/tenants.json.
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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "tenants.json"
TABLE = "CREATE TABLE items (id bigserial PRIMARY KEY, name text NOT NULL);\n"
SESSION = 100
BLOCK = 250


@dataclass(frozen=True, slots=True)
class Applied:
    """One `orchestrator apply`: seconds, megabytes of memory at the most, seconds of its own on the CPU."""

    seconds: float
    peak_mb: float
    cpu: float
    outcome: str


class Tenants(Lab):
    def __init__(self, folder: Path, engine: str, nodes: int) -> None:
        if (folder / "Pulumi.yaml").exists():
            self.folder = folder
        else:
            folder.mkdir(exist_ok=True)
            super().__init__(folder, engine, nodes)

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

    def apply(self, *, yes: bool = True) -> Applied:
        """Without `yes` it plans and is refused before it changes anything."""
        command = [sys.executable, "-m", "orchestrator", "apply", "--json", *(["--yes"] if yes else [])]
        began = time.perf_counter()
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            out, err = process.stdout, process.stderr
            assert out is not None
            text = out.read()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            if os.waitstatus_to_exitcode(status) != (0 if yes else 2):
                sys.exit(f"apply failed: {err.read() if err else ''}")
            process.returncode = 0
        cpu, outcome = usage.ru_utime + usage.ru_stime, json.loads(text)["outcome"] if yes else "planned"
        return Applied(seconds, usage.ru_maxrss / 1024, cpu, outcome)

    def environment(self) -> dict[str, str]:
        """With compiled modules kept from the first run on, as an installed command has them."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPYCACHEPREFIX": str(self.folder / "pycache")}

    def servers(self) -> Path:
        return Path(json.loads(self.run("lab", "status", "--json"))["log"]).parent / "native"

    def server_cpu(self) -> float:
        """Seconds that the native engine's servers and all their sessions have been on the CPU so far."""
        parents = [int(path.read_text().split()[0]) for path in self.servers().glob("node*/postmaster.pid")]
        spent = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(path.parent.name) in parents or int(fields[1]) in parents:
                spent += sum(map(int, fields[11:15]))
        return spent / os.sysconf("SC_CLK_TCK")

    def collisions(self) -> int:
        """How often a server said that two transactions met in a row of its catalogs."""
        logs = [path.read_text("utf-8", "replace") for path in self.servers().glob("node*/server.log")]
        return sum(log.count("tuple concurrently") for log in logs)

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
    ours, theirs, loads = [], [], []
    for block in range(blocks):
        loads.append(round(os.getloadavg()[0], 1))
        lab.declare(1 + (block + 1) * BLOCK)
        ours.append(round(lab.apply().seconds, 2))
        theirs.append(round(lab.psql(block * BLOCK, BLOCK), 2))
        print(f"block {block + 1}: apply {ours[-1]} s, psql {theirs[-1]} s, load {loads[-1]}", flush=True)
    return {
        "tenants_each": blocks * BLOCK, "apply": ours, "psql": theirs, "load_average": loads,
        "ratio": round(sum(theirs) / sum(ours), 2), "collisions": lab.collisions(),
    }  # fmt: skip


def growth(lab: Tenants, steps: list[int]) -> Iterator[dict[str, Any]]:
    have = 0
    for count in steps:
        lab.declare(count)
        before, load = lab.server_cpu(), os.getloadavg()[0]
        done, made = lab.apply(), count - have
        cpu = lab.server_cpu() - before
        if done.outcome == "nothing to do":
            have = count
            continue
        row = {
            "from": have,
            "to": count,
            "seconds": round(done.seconds, 1),
            "ms_each": round(1000 * done.seconds / made),
        }
        row |= {"server_cpu_ms_each": round(1000 * cpu / made), "peak_mb": round(done.peak_mb)}
        before = lab.server_cpu()
        again = lab.apply()
        row |= {
            "again": again.outcome,
            "again_seconds": round(again.seconds, 1),
            "again_cpu_seconds": round(again.cpu, 1),
        }
        row |= {"again_server_cpu_seconds": round(lab.server_cpu() - before, 1), "again_peak_mb": round(again.peak_mb)}
        row |= {"load_average": round(load, 1)}
        row |= catalogs(lab)
        print(row, flush=True)
        yield row
        have = count


def planning(lab: Tenants, steps: list[int]) -> Iterator[dict[str, Any]]:
    lab.declare(1)
    lab.apply(yes=False)  # the program is compiled once, which takes memory too
    for count in steps:
        lab.declare(count)
        done = lab.apply(yes=False)
        row = {"tenants": count, "seconds": round(done.seconds, 1), "cpu_seconds": round(done.cpu, 1)}
        row |= {"peak_mb": round(done.peak_mb, 1), "load_average": round(os.getloadavg()[0], 1)}
        print(row, flush=True)
        yield row


def catalogs(lab: Tenants) -> dict[str, float]:
    """The coordinator's catalogs, and how long the list of all shards with their sizes takes."""
    with lab.connect() as connection:
        size = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
            " AND (relnamespace = 'pg_catalog'::regnamespace)"
        ).fetchone()
        began = time.perf_counter()
        connection.execute("SELECT count(shard_size) FROM citus_shards").fetchone()
        return {
            "catalog_mb": round(int(size[0]) / 2**20) if size else 0,
            "sizes_seconds": round(time.perf_counter() - began, 2),
            "collisions": lab.collisions(),
        }


def keep(part: str, command: str, engine: str, nodes: int, found: object) -> None:
    """Each part is replaced by itself, with the command and the date that it is from."""
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    about = {"command": command, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    known[part] = about | {"engine": engine, "nodes": nodes, "cores": os.cpu_count(), "found": found}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--only", choices=["beside", "growth", "planning"], required=True)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", default="100,1000,2000,5000,10000")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if shutil.which("psql") is None:
        sys.exit("psql is not on PATH")
    sizes = f"--blocks {options.blocks}" if options.only == "beside" else f"--steps {options.steps}"
    command = f"uv run --all-extras python bench/tenants.py --only {options.only} {sizes}"
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as folder:
        lab = Tenants(options.folder or Path(folder) / "project", options.engine, options.nodes)
        try:
            if options.only == "beside":
                beside = side_by_side(lab, options.blocks)
                keep("side_by_side", command, options.engine, options.nodes, beside)
                print(json.dumps(beside))
            else:
                rows, measure = [], growth if options.only == "growth" else planning
                for row in measure(lab, [int(step) for step in options.steps.split(",")]):
                    rows.append(row)
                    keep(options.only, command, options.engine, options.nodes, rows)
        finally:
            if options.folder is None:
                lab.run("lab", "down", "--delete")


if __name__ == "__main__":
    main()
