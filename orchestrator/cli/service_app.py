"""The verbs for who writes a service: how to connect, what works, what is wrong with its statements."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from orchestrator.cli.options import json_option, root_folder, stack_option
from orchestrator.core.checks.drill import Failover

PORTS = click.Choice(["direct", "pooled", "balanced", "balanced-pooled"])
MOMENT = click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"])
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("service")
@click.option("--port", type=PORTS, default="direct", show_default=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["dsn", "env", "json", "yaml", "sqlalchemy", "jdbc", "dotnet", "node"]),
    default="dsn",
    show_default=True,
)
@click.option("--show-password", is_flag=True, help="Put the password into the output, in clear.")
@click.option("--passfile", type=FILE, help="Also keep the password in this file of libpq (mode 0600), and name it.")
@stack_option
def connection(service: str, port: str, form: str, show_password: bool, passfile: Path | None, stack: str) -> None:
    """How SERVICE connects: settings that suit the port, and what does not work through it."""
    from orchestrator.cli.connection_verbs import show_connection

    show_connection(root_folder(), stack, service, port, form, show_password, passfile)


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", type=PORTS, help="Port of all statements.  [default: direct for .sql, pooled for .py]")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option("--stack", help="Take the services' schemas and distribution columns from stacks/Pulumi.<stack>.yaml.")
def lint(paths: tuple[Path, ...], port: str | None, form: str, stack: str | None) -> None:
    """Find statements in SQL and Python files that the cluster or its pooler does not run as they read.

    Ends with 1 where something is found. `-- noqa: EC001` or `# noqa: EC001` on the line makes an exception.
    """
    from orchestrator.cli.lint_verbs import lint_files

    sys.exit(lint_files(root_folder(), paths or (Path(),), port, form, stack))


@click.command()
@click.option("--service", "services", multiple=True, help="Only this service; can be given several times.")
@click.option("--drill", is_flag=True, help="Restart the cluster and measure what services notice. Asks first.")
@click.option(
    "--failover",
    type=click.Choice(["planned", "forced"]),
    help="With --drill: have the standbys take over, also on Azure.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--since", type=click.IntRange(1), metavar="RUN", help="Compare Azure's metrics before and after this run."
)
@click.option("--before", type=MOMENT, help="Compare with the hour before this time, UTC unless it says otherwise.")
@click.option("--after", type=MOMENT, help="... and the hour after this one.")
@stack_option
@json_option
def doctor(
    services: tuple[str, ...],
    drill: bool,
    failover: Failover | None,
    yes: bool,
    since: int | None,
    before: datetime | None,
    after: datetime | None,
    stack: str,
    as_json: bool,
) -> None:
    """Connect to each port as each service would, and prove what works there. Ends with 1 where something is ill.

    Reads the server's parameters and metrics too. Changes nothing but with --drill.
    """
    if since or before or after:
        from orchestrator.cli.azure_verbs import compare_metrics

        sys.exit(compare_metrics(root_folder(), stack, since, before, after, as_json))
    if drill or failover:
        from orchestrator.cli.drill_verbs import run_drill

        sys.exit(run_drill(root_folder(), stack, services, failover, as_json, yes))
    from orchestrator.cli.doctor_verbs import examine

    sys.exit(examine(root_folder(), stack, services, as_json))


def register(group: click.Group) -> None:
    group.add_command(connection)
    group.add_command(lint)
    group.add_command(doctor)
