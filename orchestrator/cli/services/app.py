"""The verbs for who writes a service: how to connect, and what is wrong with its statements."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orchestrator.cli.options import root_folder, stack_option

PORTS = click.Choice(["direct", "pooled", "balanced", "balanced-pooled"])
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
    from orchestrator.cli.services.connection import show_connection

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
    from orchestrator.cli.services.lint import lint_files

    sys.exit(lint_files(root_folder(), paths or (Path(),), port, form, stack))
