"""The lab's verbs: start and stop it, show it, and keep its stack file pointing at it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.running import print_json
from orchestrator.cli.stack import stackfile
from orchestrator.cli.textfiles import reason, write_whole
from orchestrator.core.desired.parameters import declared_parameters
from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec
from orchestrator.core.errors import LabError, LabRefused
from orchestrator.lab import manager
from orchestrator.lab.discover import survey
from orchestrator.lab.home import LabHome, Running

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
EXAMPLES = ("user", "time", "ping")


def up(root: Path, name: str, engine: str, nodes: int | None, as_json: bool) -> None:
    path = stackfile.stack_path(root, name)
    made = not path.is_file()
    text = _new_stack(root, name, nodes or 2) if made else stackfile.read(path, path.name)
    spec = stackfile.parse(text, path.name)
    if spec.endpoint is None and not made:
        raise LabRefused(
            f"{path.name} describes a cluster on Azure. Give the lab another name: `orchestrator lab up --name NAME`."
        )
    if nodes is not None:
        text = stackfile.set_value(text, "nodes", str(nodes))
        spec = stackfile.parse(text, f"--nodes {nodes}")
    home = LabHome.of(root, name)
    running = manager.up(
        home,
        engine,
        nodes if home.exists() else spec.nodes,
        database=spec.database,
        admin_login=spec.administrator_login,
        server=_server_facts(spec),
        progress=lambda line: click.echo(f"  {line}", err=True),
    )
    _write_stack(path, text, home, running)
    if as_json:
        print_json(_running_json(name, home, running))
        return
    for line in _running_lines(name, running):
        click.echo(line)
    if running.engine == "embedded":
        for found in survey():
            if not found.available:
                click.echo(f"  real Citus on the {found.engine} engine is not possible here: {found.reason}")


def show_status(root: Path, name: str, as_json: bool) -> None:
    home = LabHome.of(root, name)
    running = home.running() if home.exists() else None
    if as_json:
        engines = [asdict(found) for found in survey()]
        state = (
            _running_json(name, home, running) if running else {"lab": name, "running": False, "made": home.exists()}
        )
        print_json(state | {"engines": engines})
        return
    for found in survey():
        click.echo(f"  engine {found.engine}: {found.version or 'not here: ' + found.reason}")
    if running is None:
        made = "is stopped; `orchestrator lab up` starts it" if home.exists() else "is not made yet"
        click.echo(f"The lab {name} {made}.")
        return
    for line in _running_lines(name, running):
        click.echo(line)


def psql(root: Path, name: str, port: str, arguments: tuple[str, ...]) -> int:
    home = LabHome.of(root, name)
    record, running = home.read(), home.running()
    if running is None:
        raise LabRefused(f"The lab {name!r} is not running. `orchestrator lab up` starts it.")
    number = getattr(running, port)
    if number is None:
        raise LabRefused("The lab has no pooled port: no `pgbouncer` was found when it was started.")
    dsn = f"postgresql://{record.admin_login}@127.0.0.1:{number}/{record.database}?sslmode=disable"
    binary = shutil.which("psql")
    if binary is None:
        click.echo(f"psql is not on PATH. Connect with: {dsn}\nThe password is in {home.password_file}")
        return 0
    environment = os.environ | {"PGPASSWORD": record.admin_password}
    return subprocess.run([binary, dsn, *arguments], env=environment, check=False).returncode


def down(root: Path, name: str, delete: bool) -> None:
    home = LabHome.of(root, name)
    there = manager.down(home, delete=delete, progress=lambda line: click.echo(f"  {line}", err=True))
    if not there:
        click.echo(f"There is no lab {name}.")
        return
    click.echo(f"The lab {name} is stopped" + (" and its data is gone." if delete else "; its data stays."))


def _write_stack(path: Path, text: str, home: LabHome, running: Running) -> None:
    pooled = f", pooled: {running.pooled}" if running.pooled else ""
    endpoint = (
        f"{{host: 127.0.0.1, ports: {{direct: {running.direct}, balanced: {running.balanced}{pooled}}}, "
        f'arm: "{running.arm}", engine: {running.engine}, sslmode: disable}}'
    )
    text = stackfile.set_value(text, "endpoint", endpoint)
    text = stackfile.set_value(text, "administratorPassword", f"{{file: {home.password_file}}}")
    text = stackfile.set_value(text, "nodes", str(running.nodes))
    stackfile.parse(text, path.name)
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise LabError(
            f"The lab runs, but {path} cannot be written: {reason(error)}. Mend that, and run `lab up` again."
        ) from error


def _new_stack(root: Path, name: str, nodes: int) -> str:
    examples = [service for service in EXAMPLES if (root / "examples" / "microservices" / service).is_dir()]
    key = NAMESPACE
    lines = [
        "# Made by `orchestrator lab up`, which keeps endpoint, nodes and administratorPassword up to date.",
        "# Everything else is yours to change.",
        "config:",
        f"  {key}:name: lab-{name}",
        f"  {key}:resourceGroup: lab",
        f"  {key}:subscriptionId: {SUBSCRIPTION}",
        f"  {key}:location: northeurope",
        f"  {key}:nodes: {nodes}",
        f"  {key}:database: citus",
        f"  {key}:administratorPassword: {{file: pending}}",
        f"  {key}:endpoint: {{host: 127.0.0.1, ports: {{direct: 1}}}}",
    ]
    if examples:
        lines.append(f"  {key}:services:")
    for service in examples:
        lines += [
            f"    - name: {service}",
            f"      role: {service}_service",
            f"      migrations: [../examples/microservices/{service}/migrations]",
        ]
    return "\n".join(lines) + "\n"


def _server_facts(spec: ClusterSpec) -> dict[str, object]:
    return {
        "subscription_id": spec.subscription_id or SUBSCRIPTION,
        "resource_group": spec.resource_group,
        "name": spec.name,
        "location": spec.location,
        "host": "127.0.0.1",
        "version": spec.postgres_version,
        "admin_login": spec.administrator_login,
        "database": spec.database,
        "sku": spec.compute.sku,
        "tier": spec.compute.tier,
        "storage_gb": spec.storage.size_gb,
        "ha_mode": spec.high_availability,
        "backup_days": spec.backup.retention_days,
        "tags": dict(spec.tags),
        "parameters": {
            name: value for name, value in declared_parameters(spec).items() if name.startswith("pgbouncer.")
        },
    }


def _running_json(name: str, home: LabHome, running: Running) -> dict[str, object]:
    return {
        "lab": name,
        "running": True,
        "stack": name,
        "engine": running.engine,
        "version": running.version,
        "placement_simulated": running.engine == "embedded",
        "nodes": running.nodes,
        "host": "127.0.0.1",
        "ports": {"direct": running.direct, "pooled": running.pooled, "balanced": running.balanced},
        "arm": running.arm,
        "password_file": str(home.password_file),
        "log": str(home.log_file),
    }


def _running_lines(name: str, running: Running) -> list[str]:
    simulated = "; placement is simulated, one server plays all nodes" if running.engine == "embedded" else ""
    pooled = str(running.pooled) if running.pooled else "none (no pgbouncer was found)"
    return [
        f"The lab {name} runs {running.nodes} nodes on the {running.engine} engine: {running.version}{simulated}.",
        f"  direct port {running.direct}, balanced port {running.balanced}, pooled port {pooled}, on 127.0.0.1",
        f"  ARM endpoint {running.arm}",
        f"  stack {name}: try `orchestrator status --stack {name}`",
    ]
