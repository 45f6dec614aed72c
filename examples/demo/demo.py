"""The whole story on this machine: a cluster comes up, services move in, data arrives, and it grows from 2 to 8 nodes.

Works in a folder of its own and leaves nothing behind and nothing running. Every line after a `$` is a command that
you can type yourself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import yaml

from orchestrator.lab.discover import choose

HERE = Path(__file__).parent
STACK = "demo"


def run(project: Path, *arguments: str) -> None:
    print(f"\n$ orchestrator {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "orchestrator", *arguments], cwd=project, check=True)


def load_data(project: Path) -> None:
    """What the services would write: each as its own role, with the password that `apply` made for it."""
    config = yaml.safe_load((project / "stacks" / f"Pulumi.{STACK}.yaml").read_text("utf-8"))["config"]
    port = config["elastic-cluster:endpoint"]["ports"]["direct"]
    print("\nData arrives: each service writes as its own role.", flush=True)
    statements = {
        "user_service": [
            "INSERT INTO users (name, email) SELECT 'Jane ' || i, 'jane' || i || '@example.com'"
            " FROM generate_series(1, 40000) i"
        ],
        "time_service": [
            "INSERT INTO zones SELECT 'UTC+' || i FROM generate_series(0, 11) i",
            "INSERT INTO query_details (client_id, zone, ip_address, query_time)"
            " SELECT i % 5000, 'UTC+' || i % 12, '192.0.2.1', now() FROM generate_series(1, 100000) i",
        ],
        "ping_service": [
            "INSERT INTO ping_results (host, result) SELECT 'example.com', repeat('.', 64) FROM generate_series(1, 20000)"
        ],
    }
    for role, texts in statements.items():
        password = (project / ".secrets" / STACK / f"{role}.password").read_text("utf-8").strip()
        with psycopg.connect(
            host="127.0.0.1", port=port, dbname="citus", user=role, password=password, sslmode="disable", autocommit=True
        ) as connection:
            rows = sum(connection.execute(text).rowcount for text in texts)
        print(f"  {role}: {rows:,} rows", flush=True)


def main() -> None:
    started = time.monotonic()
    engine = choose("auto")
    simulated = ". Placement is SIMULATED: one PostgreSQL server plays all nodes" if engine.engine == "embedded" else ""
    print(f"Engine: {engine.engine} ({engine.version}){simulated}.", flush=True)
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as folder:
        project = Path(folder)
        (project / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\nstackConfigDir: stacks\n", "utf-8")
        (project / "stacks").mkdir()
        shutil.copy(HERE / f"Pulumi.{STACK}.yaml", project / "stacks")
        for service in ("user", "time", "ping"):
            shutil.copytree(HERE / service, project / service)
        try:
            run(project, "lab", "up", "--name", STACK, "--nodes", "2")
            run(project, "apply", "--stack", STACK, "--yes")
            load_data(project)
            run(project, "status", "--stack", STACK)
            run(project, "scale-out", "--stack", STACK, "--nodes", "8", "--yes")
            run(project, "apply", "--stack", STACK, "--yes")
        finally:
            run(project, "lab", "down", "--name", STACK, "--delete")
    print(f"\nThat took {time.monotonic() - started:.0f} s. Nothing is left running.", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
