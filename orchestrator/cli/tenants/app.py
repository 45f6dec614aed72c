"""The verbs about single tenants: which make nodes hot, and one brought to a node of its own."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli.moving.options import move_options
from orchestrator.cli.options import json_option, root_folder, stack_option
from orchestrator.cli.run_options import run_options


@click.command()
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="So many tenants are shown.")
@click.option(
    "--track",
    type=click.Choice(["all", "none"]),
    help="Have Citus count tenants, or count no more: sets the server parameter citus.stat_tenants_track.",
)
@click.option("--yes", is_flag=True, help="With --track: do not ask.")
@stack_option
@json_option
def tenants(top: int, track: str | None, yes: bool, stack: str, as_json: bool) -> None:
    """Which tenants make which node hot, and what moving them would bring. Changes nothing but with --track."""
    from orchestrator.cli.tenants.verbs import set_tracking, show_tenants

    if track is not None:
        sys.exit(set_tracking(root_folder(), stack, track, yes, as_json))
    show_tenants(root_folder(), stack, top, as_json)


@click.command()
@click.argument("tenant")
@click.option("--table", help="TENANT is a value of this table's distribution column. Written as in SQL: app.events.")
@click.option("--to", type=int, metavar="NODE", help="Node id.  [default: the node with the least load]")
@click.option("--alone", is_flag=True, help="Move its neighbours away from that node, and keep them away.")
@click.option("--release", is_flag=True, help="Let it go: a rebalance may move it again. Moves nothing.")
@click.option("--dry-run", is_flag=True, help="Show the plan only.")
@run_options
@move_options
def isolate(
    tenant: str, table: str | None, to: int | None, alone: bool, release: bool, dry_run: bool, **options: Any
) -> None:
    """Bring TENANT to the node with the least load and pin it there, so that no rebalance moves it away.

    TENANT is a distributed schema, or with --table the rows with that value, which get a shard of their own first.
    """
    from orchestrator.cli.tenants.verbs import isolate_tenant, release_tenant

    if release:
        if to is not None or alone:
            raise click.UsageError("--release moves nothing: leave out --to and --alone.")
        sys.exit(release_tenant(root_folder(), tenant, table, dry_run, **options))
    sys.exit(isolate_tenant(root_folder(), tenant, table, to, alone, dry_run, **options))
