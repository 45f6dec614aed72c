"""The verbs for who writes a service: how to connect, what works, what is wrong with its statements."""

from __future__ import annotations

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
    from orchestrator.cli.connection_verbs import show_connection

    show_connection(root_folder(), stack, service, port, form, show_password, passfile)


def register(group: click.Group) -> None:
    group.add_command(connection)
