"""`orchestrator advise`: its options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.options import root_folder

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--url",
    envvar="ORCHESTRATOR_URL",
    show_envvar=True,
    help="postgresql://role@host:5432/database to read; the password is in ORCHESTRATOR_ADMIN_PASSWORD.",
)
@click.option("--stack", help="Read the database of stacks/Pulumi.<stack>.yaml instead, as its administrator.")
@click.option("--answers", type=FILE, help="A filled-in questionnaire; beside a database its answers win.")
@click.option("--questionnaire", is_flag=True, help="Print an empty questionnaire, and do nothing else.")
@click.option("--watch", type=click.FloatRange(1), metavar="SECONDS", help="Measure the load between two readings.")
@click.option("--nodes", type=click.IntRange(2), help="Nodes of the cluster.  [default: as many as the load needs]")
@click.option("--prices", type=FILE, help="Price file.  [default: the one that is included]")
@click.option("--json", "form", flag_value="json", help="One JSON document on stdout.")
@click.option("--markdown", "form", flag_value="markdown", help="A page in Markdown.")
@click.pass_context
def advise(context: click.Context, /, questionnaire: bool, **options: Any) -> None:
    """Flexible server or elastic cluster, sharded by what, with reasons, numbers, what breaks and what it costs.

    Reads a running PostgreSQL or a questionnaire; changes nothing. docs/advise.md says how it decides.
    """
    from orchestrator.cli import advise_verbs

    if questionnaire:
        advise_verbs.print_questionnaire()
        return
    environment = context.get_parameter_source("url") is click.core.ParameterSource.ENVIRONMENT
    sys.exit(advise_verbs.show_advice(root_folder(), from_environment=environment, **options))


def register(group: click.Group) -> None:
    group.add_command(advise)
