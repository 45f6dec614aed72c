"""`orchestrator advise`: its options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.options import root_folder

FILE = click.Path(path_type=Path, dir_okay=False)

# Options of the benchmark alone, and of the advice alone.
LOAD = ("azure_id", "statements", "script", "seconds", "max_clients", "commit", "yes")
ADVICE = ("answers", "watch", "nodes", "prices")


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
@click.option("--benchmark", is_flag=True, help="Load the server with rising clients until it saturates. Asks first.")
@click.option(
    "--statements", type=click.IntRange(1), default=5, show_default=True, help="So many of its top writing statements."
)
@click.option("--azure-id", metavar="ID", help="Azure's resource id of the server at --url, whose CPU is then read.")
@click.option("--script", type=FILE, help="A script of pgbench instead.")
@click.option("--seconds", type=click.FloatRange(1), default=10, show_default=True, help="For each number of clients.")
@click.option("--max-clients", type=click.IntRange(1), default=64, show_default=True)
@click.option("--commit", is_flag=True, help="Keep what the benchmark changes, instead of rolling it back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def advise(context: click.Context, /, questionnaire: bool, benchmark: bool, **options: Any) -> None:
    """Flexible server or elastic cluster, sharded by what, with reasons, numbers, what breaks and what it costs.

    Reads a running PostgreSQL or a questionnaire, and changes nothing but with --benchmark. docs/advise.md says how it
    decides.
    """
    if questionnaire:
        from orchestrator.cli.advise.verbs import print_questionnaire

        print_questionnaire()
        return
    _only_together(context, benchmark)
    load = {name: options.pop(name) for name in LOAD}
    environment = context.get_parameter_source("url") is click.core.ParameterSource.ENVIRONMENT
    if benchmark:
        from orchestrator.cli.advise.benchmark import run_benchmark

        where = {name: options[name] for name in ("url", "stack")}
        as_json = options["form"] == "json"
        sys.exit(run_benchmark(root_folder(), from_environment=environment, as_json=as_json, **where, **load))
    from orchestrator.cli.advise.verbs import show_advice

    sys.exit(show_advice(root_folder(), from_environment=environment, **options))


def _only_together(context: click.Context, benchmark: bool) -> None:
    """An option that would be ignored is refused."""
    for name in ADVICE if benchmark else LOAD:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} {'does not go' if benchmark else 'only goes'} with --benchmark.")
