"""What isolating a hot tenant brings: the load of every node before and after, under the same statements per second.

    uv run --all-extras python bench/hot.py [--seconds 10]

Four nodes with real Citus. One node holds a hot schema and three warm ones, the others three quiet schemas each; then
the same with tenants of a row-sharded table. Clients send a fixed number of statements per second over connections to
all nodes, so what differs between the windows is where the work is done. Measured per node: processor time of the
server's processes (from /proc) and transactions (pg_stat_database). Writes bench/results/hot.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import yaml
from overhead import Lab
from psycopg.conninfo import make_conninfo

RESULTS = Path(__file__).parent / "results" / "hot.json"
NODES, CLIENTS, ROWS = 4, 8, 4000
HOT, WARM, QUIET = 80, 30, 4
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Tenant:
    """`rate` in statements per second; `statement` reads all its rows."""

    name: str
    rate: int
    statement: str


@dataclass
class Load:
    """Clients with a fixed rate in all. One that is late sends at once, so a slow server is not spared."""

    dsn: str
    tenants: Sequence[Tenant]
    stop: threading.Event = field(default_factory=threading.Event)
    taken: list[tuple[float, str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        weighted = [tenant for tenant in self.tenants for _ in range(tenant.rate)]
        step = next(step for step in (37, 41, 43, 47) if len(weighted) % step)
        spread = [weighted[i * step % len(weighted)] for i in range(len(weighted))]
        for number in range(CLIENTS):
            self.threads.append(threading.Thread(target=self._client, args=(spread[number::CLIENTS],), daemon=True))
            self.threads[-1].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _client(self, tenants: Sequence[Tenant]) -> None:
        """All its statements, evenly over each second."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            due = time.monotonic()
            for tenant in cycle(tenants):
                due = max(due + 1 / len(tenants), time.monotonic() - 1)
                if self.stop.wait(max(0.0, due - time.monotonic())):
                    return
                began = time.monotonic()
                try:
                    connection.execute(tenant.statement).fetchall()
                except psycopg.Error as error:
                    self.errors.append(str(error).splitlines()[0])
                self.taken.append((began, tenant.name, time.monotonic() - began))


class Cluster(Lab):
    def endpoint(self) -> dict[str, Any]:
        config = yaml.safe_load((self.folder / "stacks" / "Pulumi.local.yaml").read_text("utf-8"))["config"]
        return {
            "ports": config["elastic-cluster:endpoint"]["ports"],
            "password": Path(config["elastic-cluster:administratorPassword"]["file"]).read_text("utf-8"),
        }

    def dsn(self) -> str:
        found = self.endpoint()
        return make_conninfo(
            host="127.0.0.1", port=found["ports"]["balanced"], dbname="citus", user="clusteradmin",
            password=found["password"], sslmode="disable",
        )  # fmt: skip

    def postmasters(self) -> dict[int, int]:
        """Process id of each server, by its port."""
        home = Path(json.loads(self.run("lab", "status", "--json"))["log"]).parent
        lines = [path.read_text("utf-8").splitlines() for path in home.glob("native/node*/postmaster.pid")]
        return {int(found[3]): int(found[0]) for found in lines}


def processor_seconds(postmaster: int) -> float:
    """Of the server, its processes and those that have ended since it started."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(path.parent.name) == postmaster:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == postmaster:
            total += sum(map(int, fields[11:13]))
    return total / TICK


@dataclass
class Bench:
    lab: Cluster
    admin: psycopg.Connection[Any]
    load: Load
    hot: str
    seconds: float

    def window(self, name: str) -> dict[str, Any]:
        """Processor seconds and transactions of each node, and how long the statements took."""
        ports = dict(self.admin.execute("SELECT nodeport, nodeid FROM pg_dist_node").fetchall())
        postmasters = {ports[port]: pid for port, pid in self.lab.postmasters().items() if port in ports}
        before = {node: processor_seconds(pid) for node, pid in postmasters.items()}
        counted, began = self._transactions(), time.monotonic()
        time.sleep(self.seconds)
        passed = time.monotonic() - began
        now = self._transactions()
        cpu = {node: round((processor_seconds(pid) - before[node]) / passed, 3) for node, pid in postmasters.items()}
        seen = [taken for taken in list(self.load.taken) if began <= taken[0] < began + passed]
        found = {
            "window": name,
            "hot_on_node": self.node_of_hot(),
            "processors_per_node": dict(sorted(cpu.items())),
            "hottest_node_processors": max(cpu.values()),
            "hottest_over_average": round(max(cpu.values()) / statistics.mean(cpu.values()), 2),
            "transactions_per_second": {node: round((now[node] - counted[node]) / passed) for node in sorted(cpu)},
            "statements_per_second": round(len(seen) / passed),
            "median_ms": {
                "hot": _median_ms(seen, {self.hot}),
                "others": _median_ms(seen, {tenant.name for tenant in self.load.tenants} - {self.hot}),
            },
        }
        print(json.dumps(found), flush=True)
        return found

    def _transactions(self) -> dict[int, int]:
        rows = self.admin.execute(
            "SELECT nodeid, result::bigint FROM run_command_on_all_nodes("
            "'SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()')"
        ).fetchall()
        return dict(rows)

    def node_of_hot(self) -> int:
        table = "app.events" if self.hot.isdigit() else f"{self.hot}.t"
        shard = f"get_shard_id_for_distribution_column('{table}', {self.hot if self.hot.isdigit() else 'NULL'})"
        if not self.hot.isdigit():
            shard = f"(SELECT shardid FROM pg_dist_shard WHERE logicalrelid = '{table}'::regclass)"
        row = self.admin.execute(
            f"SELECT nodeid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = {shard}"
        ).fetchone()
        return int(row[0]) if row else 0

    def told(self) -> dict[str, Any]:
        """What `orchestrator tenants` says of the hottest tenant: its share, and the predicted load of the nodes."""
        found = json.loads(self.lab.run("tenants", "--json"))
        first = found["tenants"][0]
        now = max(node["cpu_seconds"] for node in found["nodes"])
        return {
            "hottest_tenant": first["tenant"],
            "share_of_its_node": round(first["cpu_seconds"] / now, 2),
            "hottest_node_if_moved": round(max(first["cpu_seconds_if_moved"].values()) / now, 2),
            "hottest_node_if_alone": round(max(first["cpu_seconds_if_alone"].values()) / now, 2),
        }

    def isolate(self, *options: str) -> dict[str, Any]:
        started = time.monotonic()
        report = json.loads(self.lab.run("isolate", self.hot, *options, "--yes", "--json"))
        # None where every move was made logically.
        pauses = [found for move in report["moves"] if (found := move["write_pause_seconds"]) is not None]
        return {
            "command": " ".join(("isolate", self.hot, *options)),
            "seconds": round(time.monotonic() - started, 1),
            "moves": len(report["moves"]),
            "longest_write_pause_ms": round(max(pauses) * 1000) if pauses else None,
        }


def _median_ms(seen: Sequence[tuple[float, str, float]], names: set[str]) -> float:
    return round(statistics.median([taken for _, name, taken in seen if name in names] or [0.0]) * 1000, 1)


def schemas(admin: psycopg.Connection[Any]) -> tuple[list[Tenant], str]:
    """Node 2 holds the hot one and three warm ones; every other node three quiet ones."""
    places = [("hot", HOT, 2)] + [(f"warm{i}", WARM, 2) for i in range(3)]
    places += [(f"quiet{i}", QUIET, node) for i, node in enumerate([1, 3, 4] * 3)]
    tenants = []
    for name, rate, node in places:
        admin.execute(f"CREATE SCHEMA {name}")
        admin.execute(f"SELECT citus_schema_distribute('{name}')")
        admin.execute(f"CREATE TABLE {name}.t (id int PRIMARY KEY, v text)")
        admin.execute(f"INSERT INTO {name}.t SELECT i, md5(i::text) FROM generate_series(1, {ROWS}) i")
        host, port = admin.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE nodeid = %s", (node,)).fetchone()  # type: ignore[misc]
        at = admin.execute(
            "SELECT nodeport FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)"
            " JOIN pg_dist_node USING (groupid)"
            f" WHERE logicalrelid = '{name}.t'::regclass"
        ).fetchone()
        if at != (port,):
            admin.execute("SELECT citus_schema_move(%s, %s, %s, 'block_writes')", (name, host, port))
        tenants.append(Tenant(name, rate, f"SELECT count(*) FROM {name}.t WHERE v LIKE '%ab%'"))
    admin.execute("CALL citus_cleanup_orphaned_resources()")
    return tenants, "hot"


def rows(admin: psycopg.Connection[Any]) -> tuple[list[Tenant], str]:
    """Sixty tenants in eight shards; the hot one and three warm ones are on one node, two of them in its shard."""
    admin.execute("CREATE SCHEMA app")
    admin.execute("CREATE TABLE app.events (tenant int, id int, v text, PRIMARY KEY (tenant, id))")
    admin.execute("SELECT create_distributed_table('app.events', 'tenant', shard_count => 8)")
    admin.execute(
        f"INSERT INTO app.events SELECT t, i, md5(i::text) FROM generate_series(1, 60) t, generate_series(1, {ROWS}) i"
    )
    found = admin.execute(
        "SELECT t, nodeid, shardid FROM generate_series(1, 60) t"
        " CROSS JOIN LATERAL (SELECT get_shard_id_for_distribution_column('app.events', t) AS shardid) s"
        " JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid) ORDER BY shardid, t"
    ).fetchall()
    hot, node, shard = found[0]
    with_it = [t for t, _, its in found[1:] if its == shard][:2]
    beside = [t for t, at, its in found if at == node and its != shard][:1]
    elsewhere = [next(t for t, at, _ in found if at == other) for other in sorted({at for _, at, _ in found} - {node})]
    rates = [(hot, HOT)] + [(t, WARM) for t in (*with_it, *beside)] + [(t, 3 * QUIET) for t in elsewhere]
    return [
        Tenant(str(t), rate, f"SELECT count(*) FROM app.events WHERE tenant = {t} AND v LIKE '%ab%'")
        for t, rate in rates
    ], str(hot)


def measure(lab: Cluster, kind: str, seconds: float) -> dict[str, Any]:
    with lab.connect() as admin:
        tenants, hot = schemas(admin) if kind == "schema" else rows(admin)
        table = () if kind == "schema" else ("--table", "app.events")
        with Load(lab.dsn(), tenants) as load:
            bench = Bench(lab, admin, load, hot, seconds)
            time.sleep(3)
            before = bench.window("before")
            told = bench.told()
            moved = bench.isolate(*table)
            windows = [before, bench.window("isolated")]
            runs = [moved]
            if kind == "schema":
                runs.append(bench.isolate(*table, "--alone"))
                windows.append(bench.window("alone"))
            at = bench.node_of_hot()
            lab.run("rebalance", "--strategy", "by_shard_count", "--yes", "--json")
            stayed = bench.node_of_hot() == at
        lab.run("isolate", hot, *table, "--release", "--yes")
        for name in {tenant.name for tenant in tenants} if kind == "schema" else ():
            admin.execute(f"DROP SCHEMA {name} CASCADE")
    return {
        "kind": kind,
        "told": told,
        "runs": runs,
        "windows": windows,
        "stayed_in_the_next_rebalance": stayed,
        "statements": len(load.taken),
        "errors": load.errors[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=10, help="Length of each window.")
    options = parser.parse_args()
    # Ended from outside it still takes its lab along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as name:
        lab = Cluster(Path(name), "native", NODES)
        try:
            with lab.connect() as admin:
                version = str(admin.execute("SELECT citus_version()").fetchone()[0]).split(" on ")[0]  # type: ignore[index]
            lab.run("tenants", "--track", "all", "--yes")
            found = [measure(lab, kind, options.seconds) for kind in ("schema", "row")]
        finally:
            lab.run("lab", "down", "--delete")
    document = {
        "command": "uv run --all-extras python bench/hot.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}",
        "citus": version,
        "clients": CLIENTS,
        "statements_per_second": {"hot": HOT, "warm": WARM, "quiet": QUIET},
        "measured": found,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
