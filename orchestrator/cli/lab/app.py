"""The verbs on the cluster on this machine: their options."""

from __future__ import annotations

import sys

import click

from orchestrator.cli.options import json_option, root_folder

ENGINES = click.Choice(["auto", "docker", "native", "embedded"])
name_option = click.option("--name", default="local", show_default=True, help="Name of the lab and of its stack.")


@click.group()
def lab() -> None:
    """An elastic cluster on this machine, with Azure's control plane in front of it."""


@lab.command("up")
@click.option(
    "--engine", type=ENGINES, default="auto", show_default=True, help="What runs it; auto takes the best here."
)
@click.option("--nodes", type=int, help="Number of nodes.  [default: as the stack file says, else 2]")
@name_option
@json_option
def lab_up(engine: str, nodes: int | None, name: str, as_json: bool) -> None:
    """Start the lab, and make it first if there is none. Writes stacks/Pulumi.<name>.yaml."""
    from orchestrator.cli.lab.verbs import up

    up(root_folder(), name, engine, nodes, as_json)


@lab.command("status")
@name_option
@json_option
def lab_status(name: str, as_json: bool) -> None:
    """Which engines this machine has, whether the lab runs, and where it answers."""
    from orchestrator.cli.lab.verbs import show_status

    show_status(root_folder(), name, as_json)


@lab.command("psql", context_settings={"ignore_unknown_options": True})
@name_option
@click.option("--port", type=click.Choice(["direct", "pooled", "balanced"]), default="direct", show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab_psql(name: str, port: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the lab as its administrator; print the connection string where psql is missing."""
    from orchestrator.cli.lab.verbs import psql

    sys.exit(psql(root_folder(), name, port, arguments))


@lab.command("down")
@click.option("--delete", is_flag=True, help="Remove its data too.")
@name_option
def lab_down(delete: bool, name: str) -> None:
    """Stop the lab, also one whose process died."""
    from orchestrator.cli.lab.verbs import down

    down(root_folder(), name, delete)
