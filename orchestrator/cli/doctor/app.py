"""`orchestrator doctor`: its options."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from orchestrator.cli.options import json_option, root_folder, stack_option
from orchestrator.core.checks.drill import Failover

MOMENT = click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"])


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
    if (drill or failover) and (since or before or after):
        raise click.UsageError("--drill does not go with --since, --before and --after: run them one after the other.")
    if since or before or after:
        from orchestrator.cli.doctor.azure import compare_metrics

        sys.exit(compare_metrics(root_folder(), stack, since, before, after, as_json))
    if drill or failover:
        from orchestrator.cli.doctor.drill import run_drill

        sys.exit(run_drill(root_folder(), stack, services, failover, as_json, yes))
    from orchestrator.cli.doctor.ports import examine

    sys.exit(examine(root_folder(), stack, services, as_json))
