"""Runs the three services against a stack, by default the lab's, until Ctrl-C.

    uv run python examples/microservices/run.py [--stack local] [--port balanced] [--listen 8080]

user on the first port, time on the second, ping on the third. Needs `orchestrator apply` to have made the services.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stack", default="local")
    options.add_argument("--port", default="direct", help="direct, pooled, balanced or balanced-pooled")
    options.add_argument("--listen", type=int, default=8080)
    chosen = options.parse_args()
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number, service in enumerate(("user", "time", "ping")):
                config = Path(folder) / f"{service}.json"
                config.write_text(_connection(service, chosen.port, chosen.stack), "utf-8")
                port = str(chosen.listen + number)
                command = [sys.executable, "-m", "app", service, str(config), port]
                paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
                running.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}))
                print(f"{service}: http://127.0.0.1:{port}", flush=True)
            return next(process.wait() for process in running)
        except KeyboardInterrupt:
            return 0
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def _connection(service: str, port: str, stack: str) -> str:
    command = [sys.executable, "-m", "orchestrator", "connection", service, "--port", port, "--stack", stack]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
