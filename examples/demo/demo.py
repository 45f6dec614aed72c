"""The whole story on this machine: a cluster comes up, services move in, data arrives, and it grows from 2 to 8 nodes.

Works in a folder of its own and leaves nothing behind and nothing running. Every line after a `$` is a command that
you can type yourself. `--svg FILE` draws the scale-out as a picture of a terminal.
"""

from __future__ import annotations

import argparse
import io
import os
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
ROWS = {
    "user_service": [
        "INSERT INTO users (name, email) SELECT 'Jane ' || i, 'jane' || i || '@example.com'"
        " FROM generate_series(1, 40000) i",
    ],
    "time_service": [
        "INSERT INTO zones SELECT 'UTC+' || i FROM generate_series(0, 11) i",
        "INSERT INTO query_details (client_id, zone, ip_address, query_time)"
        " SELECT i % 5000, 'UTC+' || i % 12, '192.0.2.1', now() FROM generate_series(1, 100000) i",
    ],
    "ping_service": [
        "INSERT INTO ping_results (host, result) SELECT 'example.com', repeat('.', 64) FROM generate_series(1, 20000)",
    ],
}


def run(project: Path, *arguments: str) -> list[str]:
    """Run one command, show what it prints as it comes, and give its lines back."""
    lines = [f"$ orchestrator {' '.join(arguments)}"]
    print(f"\n{lines[0]}", flush=True)
    command = [sys.executable, "-u", "-m", "orchestrator", *arguments]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def load_data(project: Path) -> None:
    """What the services would write: each as its own role, with the password that `apply` made for it."""
    config = yaml.safe_load((project / "stacks" / f"Pulumi.{STACK}.yaml").read_text("utf-8"))["config"]
    port = config["elastic-cluster:endpoint"]["ports"]["direct"]
    print("\nData arrives: each service writes as its own role.", flush=True)
    for role, statements in ROWS.items():
        password = (project / ".secrets" / STACK / f"{role}.password").read_text("utf-8").strip()
        login = {"host": "127.0.0.1", "port": port, "dbname": "citus", "user": role, "sslmode": "disable"}
        with psycopg.connect(password=password, autocommit=True, **login) as connection:
            rows = sum(connection.execute(statement).rowcount for statement in statements)
        print(f"  {role}: {rows:,} rows", flush=True)


def prepare(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: elastic-cluster\nruntime: python\nstackConfigDir: stacks\n", "utf-8")
    (project / "stacks").mkdir()
    shutil.copy(HERE / f"Pulumi.{STACK}.yaml", project / "stacks")
    for service in ("user", "time", "ping"):
        shutil.copytree(HERE / service, project / service)


def draw(lines: list[str], path: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=112, file=io.StringIO(), legacy_windows=False)
    for line in lines:
        style = "bold" if line.startswith("$") else "green" if "done in" in line else ""
        console.print(Text(line, style=style))
    path.parent.mkdir(exist_ok=True)
    path.write_text(console.export_svg(title="orchestrator"), "utf-8")


def main(picture: Path | None) -> None:
    started = time.monotonic()
    engine = choose("auto")
    simulated = ". Placement is SIMULATED: one PostgreSQL server plays all nodes" if engine.engine == "embedded" else ""
    print(f"Engine: {engine.engine} ({engine.version}){simulated}.", flush=True)
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as folder:
        project = Path(folder)
        prepare(project)
        try:
            run(project, "lab", "up", "--name", STACK, "--nodes", "2", "--engine", engine.engine)
            run(project, "apply", "--stack", STACK, "--yes")
            load_data(project)
            run(project, "status", "--stack", STACK)
            grown = run(project, "scale-out", "--stack", STACK, "--nodes", "8", "--yes")
            run(project, "apply", "--stack", STACK, "--yes")
        finally:
            run(project, "lab", "down", "--name", STACK, "--delete")
    if picture is not None:
        draw(grown, picture)
    print(f"\nThat took {time.monotonic() - started:.0f} s. Nothing is left running.", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The whole story on this machine.")
    parser.add_argument("--svg", type=Path, help="draw the scale-out into this file")
    os.environ.pop("ORCHESTRATOR_STACK", None)
    try:
        main(parser.parse_args().svg)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
