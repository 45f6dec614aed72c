"""Grows a cluster from 4 to 8 nodes under load, and says what the clients noticed.

    uv run --all-extras python -m bench.load [--moves job direct] [--operations 2000000] [--engine native]

For each way of moving: a fresh lab with distributed schemas and a row-sharded pair of tables; eight client processes,
two on each of the ports that the lab offers (the coordinator and all nodes, directly and through PgBouncer in
transaction mode); some seconds of load, then `orchestrator scale-out --nodes 8`, then load until the share of the
operations is reached. An operation is a statement whose answer was received and whose transaction was answered too;
BEGIN and COMMIT do not count. At the end every row and every counter is compared with the ledgers. Ends with 1 when an
acknowledged write is lost or doubled, or a statement failed. Writes bench/results/load.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench.load.client import Account, Client
from bench.load.cluster import Cluster
from bench.load.ledger import Account as Sums
from bench.load.ledger import Move, account_counters, account_inserts, longest_wait, quantiles

RESULTS = Path(__file__).parent.parent / "results" / "load.json"
CLIENTS_PER_PORT = 2
PHASES = ("before", "during", "after")
context = multiprocessing.get_context("fork")


class Clients:
    """The client processes; `operations` is what all of them have had answered so far."""

    def __init__(self, cluster: Cluster) -> None:
        self._stop = context.Event()
        self._counts: list[Any] = []
        self._answers: multiprocessing.Queue[Account] = context.Queue()
        self._processes: list[BaseProcess] = []
        for port, dsn in cluster.dsns().items():
            for _ in range(CLIENTS_PER_PORT):
                count = context.Value("q", 0, lock=False)
                client = Client(len(self._counts), port, dsn, cluster.tenants, "pooled" not in port)
                self._counts.append(count)
                self._processes.append(context.Process(target=self._work, args=(client, count), daemon=True))
        for process in self._processes:
            process.start()

    def _work(self, client: Client, count: Any) -> None:
        def tell(answered: int) -> None:
            count.value += answered

        self._answers.put(client.run(lambda: not self._stop.is_set(), tell))

    @property
    def operations(self) -> int:
        return sum(count.value for count in self._counts)

    def load_until(self, over: Callable[[], bool]) -> None:
        while not over():
            time.sleep(0.1)
            if not all(process.is_alive() for process in self._processes):
                raise AssertionError("a client process died")

    def finish(self) -> list[Account]:
        self._stop.set()
        accounts = [self._answers.get(timeout=120) for _ in self._processes]
        for process in self._processes:
            process.join()
        return sorted(accounts, key=lambda account: account.ledger.writer)


def grow(cluster: Cluster, moves: str) -> tuple[float, float, list[Move], dict[str, Any]]:
    """When the scale-out began and ended, what it moved, and its report."""
    command = [sys.executable, "-m", "orchestrator", "scale-out", "--nodes", "8", "--yes", "--events"]
    began, started, found = time.monotonic(), {}, []
    report: dict[str, Any] = {}
    with subprocess.Popen(
        [*command, "--moves", moves], cwd=cluster.folder, stdout=subprocess.PIPE, text=True, env=cluster.environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now, event = time.monotonic(), json.loads(line)
            if event["type"] == "move_started":
                started[event["shard_id"]] = event, now
            elif event["type"] == "move_ended" and event["outcome"] == "done":
                first, at = started[event["shard_id"]]
                # Looks at a job are up to 2 s apart, so the event can be that late: the duration is Citus' own.
                found.append(
                    Move(event["shard_id"], first["name"], first["mode"], min(at, now - event["seconds"]), now)
                )
            elif event["type"] == "report":
                report = event
    if process.returncode:
        raise AssertionError(f"scale-out ended with {process.returncode}: {report.get('error')}")
    return began, time.monotonic(), found, report


def phase_of(sent: float, answered: float, began: float, ended: float) -> str:
    return "before" if answered < began else "after" if sent > ended else "during"


def latencies(accounts: list[Account], began: float, ended: float) -> dict[str, Any]:
    """Of single statements and of whole transactions of 16 statements, in each phase, and of each port during it."""
    seen: dict[tuple[str, str], list[float]] = {}
    for account in accounts:
        for sent, answered, size in zip(account.sent, account.answered, account.size, strict=True):
            phase = phase_of(sent, answered, began, ended)
            keys = [("statement" if size == 1 else "transaction", phase)]
            if size == 1 and phase == "during":
                keys.append(("statement", f"during, {account.port} port"))
            for key in keys:
                seen.setdefault(key, []).append(answered - sent)
    found: dict[str, Any] = {"statement": {}, "transaction": {}}
    for (what, phase), seconds in seen.items():
        found[what][phase] = quantiles(seconds)
    return found


def waits_of_moves(cluster: Cluster, accounts: list[Account], moves: list[Move]) -> dict[str, Any]:
    """For each move the longest wait of a write to what it moved; the largest of them, and which it was."""
    writes: dict[int, list[tuple[float, float]]] = {}
    for account in accounts:
        for sent, answered, tenant in zip(account.sent, account.answered, account.tenant, strict=True):
            writes.setdefault(tenant, []).append((sent, answered))
    waits = []
    for move in moves:
        tenants = cluster.tenants_of(move.shard_id, move.name)
        wait = max((longest_wait(move, writes.get(tenant, [])) for tenant in tenants), default=0.0)
        if tenants:
            waits.append((wait, move))
    longest = max(waits, key=lambda pair: pair[0], default=None)
    seconds = [move.ended - move.began for _, move in waits]
    return {
        "moves": len(moves),
        "moves_with_load": len(waits),
        "modes": dict(Counter(move.mode for _, move in waits)),
        "longest_pause_of_writes": quantiles([wait for wait, _ in waits]),
        "longest_was": longest and {"name": longest[1].name, "mode": longest[1].mode},
        "move": quantiles(seconds),
    }


def compare(cluster: Cluster, accounts: list[Account]) -> Sums:
    total = Sums()
    for account in accounts:
        found, counters = cluster.read_back(account.ledger.writer)
        total += account_inserts(account.ledger, found) + account_counters(account.ledger, counters)
    return total


def measure(engine: str, moves: str, operations: int, seconds: float, schemas: int) -> dict[str, Any]:
    with TemporaryDirectory(prefix="orchestrator-load-", dir="/var/tmp") as name:
        cluster = Cluster(Path(name), engine, schemas)
        try:
            clients = Clients(cluster)
            start = time.monotonic()
            clients.load_until(lambda: time.monotonic() - start > seconds)
            print(f"{clients.operations} operations before", flush=True)
            began, ended, moved, report = grow(cluster, moves)
            print(f"{clients.operations} operations until the scale-out ended ({ended - began:.0f} s)", flush=True)
            clients.load_until(lambda: clients.operations >= operations and time.monotonic() - ended > seconds)
            done, took = clients.operations, time.monotonic() - start
            accounts = clients.finish()
            print(f"{clients.operations} operations in {took:.0f} s; comparing", flush=True)
            sums = compare(cluster, accounts)
            errors = [(phase_of(at, at, began, ended), *rest) for account in accounts for at, *rest in account.errors]
            return {
                "moves": moves,
                "engine": engine,
                "citus": cluster.version,
                "operations": clients.operations,
                "operations_per_second": round(done / took),
                "errors": len(errors),
                "errors_by_sqlstate": dict(Counter(f"{phase}: {code} {text}" for phase, code, text in errors)),
                "misread": sum(sum(account.misread.values()) for account in accounts),
                "accounting": {field: getattr(sums, field) for field in Sums.__slots__},
                "clients": dict(Counter(account.port for account in accounts)),
                "scale_out_seconds": round(ended - began, 1),
                "nodes": [report["nodes_before"], report["nodes_after"]],
                "latency": latencies(accounts, began, ended),
                "pauses": waits_of_moves(cluster, accounts, moved),
            }
        finally:
            cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="native", choices=["native", "docker", "embedded"])
    parser.add_argument("--moves", nargs="+", default=["job", "direct"], choices=["job", "direct", "auto"])
    parser.add_argument("--operations", type=int, default=2_000_000, help="of all ways together")
    parser.add_argument("--seconds", type=float, default=20, help="of load before and after, at least")
    parser.add_argument("--schemas", type=int, default=48)
    options = parser.parse_args()
    share = -(-options.operations // len(options.moves))
    runs: list[dict[str, Any]] = []
    for moves in options.moves:
        runs.append(measure(options.engine, moves, share, options.seconds, options.schemas))
        print(json.dumps(runs[-1]), flush=True)
        document = summary(runs)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    sys.exit(1 if document["errors"] or document["lost_or_doubled"] or document["misread"] else 0)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    bad = ("lost", "doubled", "refused_but_done", "never_sent")
    return {
        "command": "uv run --all-extras python -m bench.load " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"psycopg {psycopg.__version__}",
        "operations": sum(run["operations"] for run in runs),
        "errors": sum(run["errors"] for run in runs),
        "lost_or_doubled": sum(run["accounting"][name] for run in runs for name in bad),
        "misread": sum(run["misread"] for run in runs),
        "runs": runs,
    }


if __name__ == "__main__":
    main()
