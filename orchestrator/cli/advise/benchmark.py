"""`orchestrator advise --benchmark`: what to run, whether to run it, and what it showed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.advise.processor import Metric, held_cpu, metric_of
from orchestrator.cli.advise.verbs import login_to, read_database
from orchestrator.cli.advise.views import shown
from orchestrator.cli.running import confirm, print_json
from orchestrator.cli.textfiles import UNUSABLE, reason
from orchestrator.clients.advice.advice_login import open_login
from orchestrator.clients.advice.bench import NAME, Bench, pooled, uncounted
from orchestrator.clients.advice.bench_machine import server_here
from orchestrator.clients.advice.bench_values import Source, script_source, statements_source
from orchestrator.clients.cluster.connection import Login
from orchestrator.core.advice.bench import Step, best, flat
from orchestrator.core.advice.breaks import short
from orchestrator.core.advice.facts import Database
from orchestrator.core.advice.filling import Filled, Unfillable
from orchestrator.core.advice.saturation import bench_json, saturated, verdict
from orchestrator.core.advice.script import parse_script
from orchestrator.core.errors import Refused
from orchestrator.core.size import size
from orchestrator.driver import drive
from orchestrator.lint.filling import fill
from orchestrator.workflow.waiting import waited

# Connections that stay for others, the server's reserved ones among them (15 on Azure, and 3 for superusers).
_LEFT = 20
# What Azure's metric of the processors can still change.
_OPEN = ("cpu", "wal", "disk", "unknown")


class Pooled(Refused):
    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"{endpoint} is a pooler: a benchmark through it would measure the pooler, and change settings of sessions "
            "that services share. Nothing was run. Use the server's own port, 5432 on Azure."
        )


def run_benchmark(
    root: Path,
    url: str | None,
    from_environment: bool,
    stack: str | None,
    azure_id: str | None,
    statements: int,
    script: Path | None,
    seconds: float,
    max_clients: int,
    commit: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Returns 1 where the measurement is worth nothing because too much failed."""
    login = login_to(root, url, from_environment, stack)
    if login is None:
        raise Refused("--benchmark needs a server: give --url postgresql://role@host/database, or --stack.")
    with metric_of(root, stack, azure_id) as metric:
        database = read_database(login, None)
        limit = min(max_clients, _free(database))
        with closing(open_login(login)) as connection:
            if pooled(connection):
                raise Pooled(login.endpoint)
            source, told = _source(connection, database, statements, script, commit)
            here = server_here(connection) is not None
        for line in (*told, *_seen(metric, here)):
            click.echo(shown(line), err=True)
        confirm(yes, _question(login, limit, commit))
        load = _Load(login, source, commit, metric.control is None)
        steps = _steps(load, limit, max_clients, seconds)
        if metric.control is not None and saturated(steps) in _OPEN:
            most = best(steps)
            cpu = held_cpu(metric.control, load.bench, most.clients)
            steps = [replace(step, cpu=cpu) if step is most else step for step in steps]
    if as_json:
        print_json(bench_json(steps) | {"committed": commit})
    else:
        click.echo("\n".join(verdict(steps)))
    return 1 if best(steps).failed > 0.5 else 0


@dataclass(frozen=True, slots=True)
class _Load:
    """`machine`: the processors of this machine are looked at, where the server runs on it."""

    login: Login
    source: Source
    commit: bool
    machine: bool

    def bench(self) -> Bench:
        return Bench(self._connect, self.source, commit=self.commit, machine=self.machine)

    def _connect(self) -> Any:
        connection = open_login(self.login)
        connection.execute("SELECT pg_catalog.set_config('application_name', %s, false)", [NAME])
        uncounted(connection)
        return connection


def _seen(metric: Metric, here: bool) -> Iterator[str]:
    """Where the processors are looked at."""
    if metric.control is not None:
        yield "CPU: Azure's metric. What has the most throughput is held for it at the end, which takes minutes."
    elif here:
        yield "CPU: that of this machine, on which the server runs."
    else:
        why = metric.reason or "no process of it is seen on this machine. --azure-id ID reads Azure's metric of it."
        yield f"CPU cannot be seen, so it will not be named where it is what saturates: {why}"


def _free(database: Database) -> int:
    most, taken = database.load.max_connections or 100, database.load.sessions or 0
    free = most - taken - _LEFT
    if free < 1:
        raise Refused(
            f"The server has {most} connections, {taken} are taken and {_LEFT} stay for others: none is left for a "
            "benchmark. End idle sessions, or raise max_connections."
        )
    return free


def _source(
    connection: Any, database: Database, statements: int, script: Path | None, commit: bool
) -> tuple[Source, list[str]]:
    if script is not None:
        try:
            text = script.read_text("utf-8")
        except UNUSABLE as error:
            raise Refused(f"--script {script} cannot be read: {reason(error)}.") from None
        return script_source(parse_script(text, str(script)), commit), [f"Runs {script}."]
    chosen, left = choose(database, statements, commit)
    source, empty = statements_source(connection, chosen, {table.title: table for table in database.tables})
    left += empty
    told = [f"Left out: {short(one.text)}: {one.reason}." for one in left]
    if source is None:
        why = (
            told or [one for one in database.unseen if "tatements" in one] or ["No statement that writes was recorded."]
        )
        raise Refused(shown(f"{' '.join(why)} There is nothing to run: use --script with a script of pgbench."))
    without = {one.text for one in empty}
    told += [f"Runs: {short(one.text)} ({one.calls:,} calls)." for one in chosen if one.text not in without]
    return source, told


def choose(database: Database, most: int, commit: bool) -> tuple[list[Filled], list[Unfillable]]:
    """The most called writing statements whose values can be found. None that deletes when changes are kept."""
    tables = {table.title: table for table in database.tables}
    chosen: list[Filled] = []
    left: list[Unfillable] = []
    for usage in sorted(database.usages, key=lambda usage: (-usage.calls, usage.text)):
        if not usage.writes or len(chosen) == most:
            continue
        found = fill(usage, tables)
        if isinstance(found, Unfillable):
            left.append(found)
        elif found.deletes and commit:
            left.append(Unfillable(found.text, "it deletes, and --commit would keep that"))
        else:
            chosen.append(found)
    return chosen, left


def _question(login: Login, clients: int, commit: bool) -> str:
    kept = (
        "All changes are KEPT: only do this on a copy."
        if commit
        else "Every transaction is rolled back; sequences move on, and dead rows stay until VACUUM."
    )
    return (
        f"Load {login.database} at {login.endpoint} as {login.user} with up to {clients} clients until it saturates? "
        f"Others there will wait. {kept}"
    )


def _steps(load: _Load, limit: int, wanted: int, seconds: float) -> list[Step]:
    steps: list[Step] = []
    with load.bench() as bench:
        _tell(bench)
        for clients in rising(limit):
            fits = bench.grow(clients)
            if not fits and steps and bench.clients == steps[-1].clients:
                steps[-1] = replace(steps[-1], full=True)
                break
            bench.measure()
            drive(waited(seconds, "the benchmark runs"), lambda _: None)
            steps.append(replace(bench.result(), full=not fits or clients == limit < wanted))
            click.echo(step_line(steps[-1]), err=True)
            if flat(steps) or not fits:
                break
    return steps


def _tell(bench: Bench) -> None:
    if not bench.uncounted:
        click.echo(
            "pg_stat_statements counts these statements too (only a superuser may turn that off): reset it before "
            "you ask for advice again, SELECT pg_stat_statements_reset().",
            err=True,
        )
    if not bench.flushes:
        click.echo("Before PostgreSQL 17 a rolled-back transaction does not wait for its WAL: see --commit.", err=True)
    elif bench.standby_unasked:
        click.echo("A rolled-back transaction does not wait for the synchronous standby: see --commit.", err=True)


def rising(limit: int) -> Iterator[int]:
    """1, 2, 4 and so on, and the limit itself at the end."""
    clients = 1
    while clients < limit:
        yield clients
        clients *= 2
    yield limit


def step_line(step: Step) -> str:
    parts = [f"{step.rate:,.0f} transactions/s"]
    if step.p95 is not None:
        parts.append(f"95 % within {1000 * step.p95:.1f} ms")
    if step.wal_rate is not None:
        parts.append(f"WAL {size(int(step.wal_rate))}/s")
    if step.cpu is not None:
        mine = f" (the server {100 * step.server:.0f} %)" if step.server is not None else ""
        parts.append(f"CPU {100 * step.cpu:.0f} %{mine}")
    if step.driver is not None:
        parts.append(f"this command {100 * step.driver:.0f} % of a core")
    if step.mostly is not None:
        parts.append(f"mostly on {step.mostly} ({100 * step.waiting((step.mostly.lower(),)):.0f} %)")
    if step.errors:
        parts.append("failed: " + ", ".join(f"{count} x {state}" for state, count in sorted(step.errors.items())))
    return f"{step.clients} client{'' if step.clients == 1 else 's'}: {', '.join(parts)}"
