"""How near the predicted skew is, how long reading takes, and whether a rolled-back load stands for a committed one.

    uv run --extra lab python bench/advise.py [--tables 24] [--schemas 100,1000]

On real Citus (the lab's native engine). Skew: tables of random size, type and inequality are read before they are
distributed; the predicted share of the fullest shard is held against the counted one. Reading: databases of so many
schemas with two tables each, by all that `orchestrator advise` does but its start. Load: transactions a second of the
benchmark, rolled back and committed, in turns, each on a table of its own; the same on PostgreSQL 18, where what is
rolled back can wait for its WAL too. Writes bench/results/advise.json.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from orchestrator.clients.advice.advice import AdviceReader
from orchestrator.clients.advice.bench import Bench
from orchestrator.clients.advice.bench_values import script_source
from orchestrator.core.advice.advice import advise
from orchestrator.core.advice.answers import Answers
from orchestrator.core.advice.script import parse_script
from orchestrator.core.advice.spread import hottest_shard
from orchestrator.core.outlook.pricing import shipped_prices
from orchestrator.lab.embedded import EmbeddedEngine
from orchestrator.lab.engine import LabSettings
from orchestrator.lab.native import NativeEngine
from orchestrator.lint.usage import usages

RESULTS = Path(__file__).parent / "results" / "advise.json"
KINDS = {"bigint": "{}", "integer": "{}::int", "text": "'tenant ' || {}", "uuid": "md5(({})::text)::uuid"}
SHARD = "get_shard_id_for_distribution_column('skewed.t', tenant)"
AnyEngine = TypeVar("AnyEngine", EmbeddedEngine, NativeEngine)
SCRIPT = "\\set id random(1, 20000)\nUPDATE {table} SET n = n + 1 WHERE id = :id;\n"


@contextmanager
def started(kind: type[AnyEngine]) -> Iterator[tuple[AnyEngine, LabSettings]]:
    """Two nodes in a folder of their own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-bench-", dir="/var/tmp"))
    folder.chmod(0o711)
    settings = LabSettings("bench", folder / "lab", "appdb", "adm", secrets.token_hex(12), secrets.token_hex(12))
    settings.directory.mkdir(mode=0o711)
    engine = kind(settings)
    try:
        engine.start(2, lambda _: None)
        yield engine, settings
    finally:
        engine.delete()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def newest() -> Iterator[dict[str, Any]]:
    """How to connect to PostgreSQL 18 of the lab's wheel, with commits that wait for the disk."""
    with started(EmbeddedEngine) as (engine, _):
        yield {**engine.superuser_conninfo(), "autocommit": True, "options": "-c synchronous_commit=on"}


@contextmanager
def citus() -> Iterator[tuple[dict[str, Any], str]]:
    """How the administrator connects to a cluster of two nodes, and Citus' version."""
    with started(NativeEngine) as (engine, settings):
        where = engine.addresses()[0]
        info = {
            "host": where.host, "port": where.port, "dbname": settings.database, "user": settings.admin_login,
            "password": settings.admin_password, "sslmode": "disable", "autocommit": True,
        }  # fmt: skip
        with psycopg.connect(**info) as admin:
            row = admin.execute("SELECT substring(citus_version() FROM '^Citus [0-9.]+')").fetchone()
            yield info, row[0] if row else "unknown"


def skew(admin: psycopg.Connection[Any], tables: int, seed: int) -> list[dict[str, Any]]:
    chance, found = random.Random(seed), []
    for _ in range(tables):
        kind, tenants = chance.choice(sorted(KINDS)), int(10 ** chance.uniform(1, 4))
        power = chance.uniform(1, 4)  # 1: all tenants alike; more: few of them have most rows
        number = f"(1 + {tenants} * power(random(), {power}))::bigint"
        admin.execute("CREATE SCHEMA skewed")
        admin.execute(f"CREATE TABLE skewed.t (tenant {kind} NOT NULL, id bigint, PRIMARY KEY (tenant, id))")
        admin.execute(f"INSERT INTO skewed.t SELECT {KINDS[kind].format(number)}, i FROM generate_series(1, 40000) i")
        admin.execute("ANALYZE skewed.t")
        table = AdviceReader(admin).read().database.table("skewed.t")
        column = table.column("tenant") if table else None
        predicted = hottest_shard(column) if column else None
        admin.execute("SELECT create_distributed_table('skewed.t', 'tenant')")
        counts = [row[0] for row in admin.execute(f"SELECT count(*) FROM skewed.t GROUP BY {SHARD}").fetchall()]
        admin.execute("DROP SCHEMA skewed CASCADE")
        found.append({
            "type": kind, "tenants": tenants, "power": round(power, 2), "predicted": round(predicted or 0, 4),
            "counted": round(max(counts) / sum(counts), 4),
        })  # fmt: skip
    return found


def reading(admin: psycopg.Connection[Any], schemas: int) -> dict[str, Any]:
    for number in range(schemas):
        admin.execute(f"CREATE SCHEMA s{number}")
        admin.execute(f"CREATE TABLE s{number}.orders (id bigint PRIMARY KEY, customer bigint)")
        admin.execute(
            f"CREATE TABLE s{number}.items (id bigint PRIMARY KEY, order_id bigint REFERENCES s{number}.orders)"
        )
    admin.execute("ANALYZE")
    start = time.monotonic()
    seen = AdviceReader(admin).read()
    read = time.monotonic() - start
    usages(seen.recorded, seen.database.tables)
    advise(seen.database, Answers(), shipped_prices())
    whole = time.monotonic() - start
    for number in range(schemas):
        admin.execute(f"DROP SCHEMA s{number} CASCADE")
    return {"tables": 2 * schemas, "read": round(read, 2), "advised": round(whole, 2)}


def load(info: dict[str, Any], rounds: int, seconds: float) -> list[dict[str, Any]]:
    found = []
    with psycopg.connect(**info) as admin:
        admin.execute("CREATE SCHEMA load")
        for number in range(rounds):
            for commit in (False, True) if number % 2 else (True, False):
                table = f"load.t{number}_{commit}".lower()
                admin.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, n bigint)")
                admin.execute(f"INSERT INTO {table} SELECT i, 0 FROM generate_series(1, 20000) i")
                admin.execute(f"VACUUM ANALYZE {table}")
                source = script_source(parse_script(SCRIPT.format(table=table), "script"), commit)
                with Bench(lambda: psycopg.connect(**info), source, commit=commit) as bench:
                    bench.grow(4)
                    bench.measure()
                    time.sleep(seconds)
                    step = bench.result()
                found.append({
                    "commit": commit, "flushes": bench.flushes, "rate": round(step.rate, 1),
                    "driver": round(step.driver or 0, 2), "errors": dict(step.errors),
                })  # fmt: skip
        admin.execute("DROP SCHEMA load CASCADE")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=24)
    parser.add_argument("--schemas", default="100,1000")
    options = parser.parse_args()
    with citus() as (info, version), closing(psycopg.connect(**info)) as admin:
        tables = skew(admin, options.tables, 7)
        errors = [abs(one["predicted"] / one["counted"] - 1) for one in tables]
        results = {
            "citus": version,
            "skew": tables,
            "relative_error": {"median": round(statistics.median(errors), 3), "worst": round(max(errors), 3)},
            "reading": [reading(admin, int(number)) for number in options.schemas.split(",")],
            "load": load(info, 4, 5.0),
        }
    with newest() as info:
        results["load_flushed"] = load(info, 4, 5.0)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    print(json.dumps({name: value for name, value in results.items() if name != "skew"}, indent=2))


if __name__ == "__main__":
    main()
