"""The verbs that move data, and the one that looks whether it can be moved: their options."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli.moving.options import guard_options, rebalance_options
from orchestrator.cli.options import json_option, root_folder, stack_option
from orchestrator.cli.run_options import run_options


@click.command()
@stack_option
@json_option
def preflight(stack: str, as_json: bool) -> None:
    """What would stop or disturb a scale-out or a rebalance. Changes nothing; ends with 2 when something stops."""
    from orchestrator.cli.moving.preflight import show_preflight

    sys.exit(show_preflight(root_folder(), stack, as_json))


@click.command()
@click.option("--undo", type=click.IntRange(1), metavar="RUN", help="Move everything back that this run has moved.")
@click.option("--stop", is_flag=True, help="Stop the rebalance that is under way, also one started elsewhere.")
@run_options
@rebalance_options
@guard_options
def rebalance(undo: int | None, stop: bool, **options: Any) -> None:
    """Spread the data evenly over the nodes that are there."""
    from orchestrator.cli.moving.verbs import rebalance_cluster, stop_rebalance

    if stop and undo is not None:
        raise click.UsageError("--stop and --undo exclude each other: one ends a run, the other moves its data back.")
    if stop:
        sys.exit(stop_rebalance(root_folder(), options["stack"], options["as_json"]))
    sys.exit(rebalance_cluster(root_folder(), undo, **options))


@click.command()
@stack_option
@json_option
def runs(stack: str, as_json: bool) -> None:
    """The runs that moved data, the latest first: what `rebalance --undo` takes."""
    from orchestrator.cli.moving.verbs import show_runs

    show_runs(root_folder(), stack, as_json)
