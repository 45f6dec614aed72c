"""The verbs that look ahead, and what they look at: their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.moving.options import rebalance_options
from orchestrator.cli.options import root_folder, stack_option

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--nodes", type=int, help="Number of nodes, coordinator included. Default: as the stack file says.")
@click.option("--what-if", metavar="N,N,...", help="Compare several numbers of nodes.")
@click.option("--snapshot", type=FILE, help="A cluster saved by `orchestrator snapshot`: no database, no Azure.")
@click.option("--prices", type=FILE, help="Price file. Default: the stack file's, else the one that is included.")
@click.option(
    "--target-storage-percent",
    type=click.FloatRange(0, 100, min_open=True),
    help="Recommend the smallest number of nodes whose fullest one stays under this share of its storage.",
)
@click.option(
    "--backup-gb",
    type=click.FloatRange(0),
    default=0.0,
    help="GB that all backups take (Azure's metric Backup Storage Used); beyond the provisioned storage they cost.",
)
@click.option(
    "--fail-on", metavar="CONDITIONS", help="worse,cost>20%,replace: exit codes 10, 11, 12; the first named decides."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="markdown is one page for a pull request.",
)
@stack_option
@rebalance_options
@click.pass_context
def preview(context: click.Context, /, **options: Any) -> None:
    """What a scale-out would bring, cost and take, for nodes that do not exist yet. Changes nothing."""
    from orchestrator.cli.preview.verbs import show_preview

    sys.exit(show_preview(root_folder(), stack_given=_given(context, "stack"), **options))


@click.command()
@click.option("-o", "--output", type=FILE, default="-", help="File to write. Default: stdout.")
@stack_option
def snapshot(output: Path, stack: str) -> None:
    """Save what is observed of the cluster, without secrets, for previews elsewhere."""
    from orchestrator.cli.preview.verbs import save_snapshot

    save_snapshot(root_folder(), stack, output)


@click.group()
def prices() -> None:
    """Price files for previews."""


@prices.command("refresh")
@click.option("--region", "regions", multiple=True, help="Azure's name of a region. Default: the stack file's.")
@click.option("--currency", default="USD", show_default=True)
@click.option(
    "-o", "--output", type=FILE, help="Price file to write. Default: the stack file's elastic-cluster:prices."
)
@click.option("--url", default="https://prices.azure.com/api/retail/prices", hidden=True)
@stack_option
@click.pass_context
def prices_refresh(context: click.Context, /, **options: Any) -> None:
    """Write a region's pay-as-you-go prices from Azure's public price list into a price file."""
    from orchestrator.cli.preview.verbs import refresh_prices

    refresh_prices(root_folder(), stack_given=_given(context, "stack"), **options)


def _given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT
