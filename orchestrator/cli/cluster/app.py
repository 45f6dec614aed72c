"""The verbs on a whole cluster: their options."""

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
def status(stack: str, as_json: bool) -> None:
    """Nodes, shard groups and bytes per node, services, and the rebalance in flight."""
    from orchestrator.cli.cluster.verbs import show_status

    show_status(root_folder(), stack, as_json)


@click.command()
@click.option("--check", is_flag=True, help="Look for drift instead: end with 3 where the stack file is not true.")
@stack_option
@json_option
@rebalance_options
def plan(check: bool, stack: str, as_json: bool, **moving: Any) -> None:
    """What has to happen to make the stack file true. Changes nothing."""
    if check:
        from orchestrator.cli.cluster.drift import check_drift

        sys.exit(check_drift(root_folder(), stack, as_json))
    from orchestrator.cli.cluster.verbs import show_plan

    show_plan(root_folder(), stack, as_json, **moving)


@click.command()
@run_options
def apply(stack: str, as_json: bool, as_events: bool, yes: bool) -> None:
    """Make the services' roles, schemas, tables and grants, and run their migrations."""
    from orchestrator.cli.cluster.verbs import apply_services

    sys.exit(apply_services(root_folder(), stack, as_json, as_events, yes))


@click.command("scale-out")
@click.option("--nodes", type=int, help="Number of nodes, coordinator included. Default: as the stack file says.")
@click.option("--no-rebalance", is_flag=True, help="Only add nodes; existing data stays where it is.")
@click.option(
    "--with-pending-changes", is_flag=True, help="Scaling through Pulumi: make its other pending changes too."
)
@run_options
@rebalance_options
@guard_options
def scale_out(nodes: int | None, no_rebalance: bool, with_pending_changes: bool, **options: Any) -> None:
    """Add nodes and spread the data over all of them."""
    from orchestrator.cli.cluster.verbs import scale_out_cluster

    sys.exit(scale_out_cluster(root_folder(), nodes, not no_rebalance, with_pending_changes, **options))
