"""The command line: verbs, options, exit codes. Each verb imports what it needs when it runs, so that help is quick.

Exit codes: 0 done or nothing to do, 1 failed, 2 refused before anything changed, 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from orchestrator.cli.advise_app import register as register_advise
from orchestrator.cli.moving_options import guard_options, rebalance_options
from orchestrator.cli.options import json_option, root_folder, stack_option
from orchestrator.cli.reporting import report
from orchestrator.cli.run_options import run_options
from orchestrator.cli.service_app import register
from orchestrator.cli.tenant_app import register as register_tenants
from orchestrator.core.errors import OrchestratorError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
INTERRUPTED = 130
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="elastic-cluster-orchestrator")
def cli() -> None:
    """Grow and balance Azure Database for PostgreSQL elastic clusters, and prepare them for services.

    The cluster is declared in stacks/Pulumi.<stack>.yaml. `orchestrator lab up` makes one on this machine.
    """


@cli.command()
@stack_option
@json_option
def status(stack: str, as_json: bool) -> None:
    """Nodes, shard groups and bytes per node, services, and the rebalance in flight."""
    from orchestrator.cli.verbs import show_status

    show_status(_root(), stack, as_json)


@cli.command()
@click.option("--check", is_flag=True, help="Look for drift instead: end with 3 where the stack file is not true.")
@stack_option
@json_option
@rebalance_options
def plan(check: bool, stack: str, as_json: bool, **moving: Any) -> None:
    """What has to happen to make the stack file true. Changes nothing."""
    if check:
        from orchestrator.cli.drift_verbs import check_drift

        sys.exit(check_drift(_root(), stack, as_json))
    from orchestrator.cli.verbs import show_plan

    show_plan(_root(), stack, as_json, **moving)


@cli.command()
@stack_option
@json_option
def preflight(stack: str, as_json: bool) -> None:
    """What would stop or disturb a scale-out or a rebalance. Changes nothing; ends with 2 when something stops."""
    from orchestrator.cli.preflight_verbs import show_preflight

    sys.exit(show_preflight(_root(), stack, as_json))


@cli.command()
@run_options
def apply(stack: str, as_json: bool, as_events: bool, yes: bool) -> None:
    """Make the services' roles, schemas, tables and grants, and run their migrations."""
    from orchestrator.cli.verbs import apply_services

    sys.exit(apply_services(_root(), stack, as_json, as_events, yes))


@cli.command("scale-out")
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
    from orchestrator.cli.verbs import scale_out_cluster

    sys.exit(scale_out_cluster(_root(), nodes, not no_rebalance, with_pending_changes, **options))


@cli.command()
@click.option("--undo", type=click.IntRange(1), metavar="RUN", help="Move everything back that this run has moved.")
@click.option("--stop", is_flag=True, help="Stop the rebalance that is under way, also one started elsewhere.")
@run_options
@rebalance_options
@guard_options
def rebalance(undo: int | None, stop: bool, **options: Any) -> None:
    """Spread the data evenly over the nodes that are there."""
    from orchestrator.cli import moving_verbs

    if stop:
        sys.exit(moving_verbs.stop_rebalance(_root(), options["stack"], options["as_json"]))
    sys.exit(moving_verbs.rebalance_cluster(_root(), undo, **options))


@cli.command()
@stack_option
@json_option
def runs(stack: str, as_json: bool) -> None:
    """The runs that moved data, the latest first: what `rebalance --undo` takes."""
    from orchestrator.cli.moving_verbs import show_runs

    show_runs(_root(), stack, as_json)


@cli.command()
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
    from orchestrator.cli.preview_verbs import show_preview

    sys.exit(show_preview(_root(), stack_given=_given(context, "stack"), **options))


@cli.command()
@click.option("-o", "--output", type=FILE, default="-", help="File to write. Default: stdout.")
@stack_option
def snapshot(output: Path, stack: str) -> None:
    """Save what is observed of the cluster, without secrets, for previews elsewhere."""
    from orchestrator.cli.preview_verbs import save_snapshot

    save_snapshot(_root(), stack, output)


@cli.group()
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
    from orchestrator.cli.preview_verbs import refresh_prices

    refresh_prices(_root(), stack_given=_given(context, "stack"), **options)


def _given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT


@cli.command()
def schema() -> None:
    """JSON schema of stack files, for editors."""
    from orchestrator.cli.stackfile import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@cli.group()
def lab() -> None:
    """An elastic cluster on this machine, with Azure's control plane in front of it."""


ENGINES = click.Choice(["auto", "docker", "native", "embedded"])
name_option = click.option("--name", default="local", show_default=True, help="Name of the lab and of its stack.")


@lab.command("up")
@click.option(
    "--engine", type=ENGINES, default="auto", show_default=True, help="What runs it; auto takes the best here."
)
@click.option("--nodes", type=int, help="Number of nodes.  [default: as the stack file says, else 2]")
@name_option
@json_option
def lab_up(engine: str, nodes: int | None, name: str, as_json: bool) -> None:
    """Start the lab, and make it first if there is none. Writes stacks/Pulumi.<name>.yaml."""
    from orchestrator.cli.lab_verbs import up

    up(_root(), name, engine, nodes, as_json)


@lab.command("status")
@name_option
@json_option
def lab_status(name: str, as_json: bool) -> None:
    """Which engines this machine has, whether the lab runs, and where it answers."""
    from orchestrator.cli.lab_verbs import show_status

    show_status(_root(), name, as_json)


@lab.command("psql", context_settings={"ignore_unknown_options": True})
@name_option
@click.option("--port", type=click.Choice(["direct", "pooled", "balanced"]), default="direct", show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab_psql(name: str, port: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the lab as its administrator; print the connection string where psql is missing."""
    from orchestrator.cli.lab_verbs import psql

    sys.exit(psql(_root(), name, port, arguments))


@lab.command("down")
@click.option("--delete", is_flag=True, help="Remove its data too.")
@name_option
def lab_down(delete: bool, name: str) -> None:
    """Stop the lab, also one whose process died."""
    from orchestrator.cli.lab_verbs import down

    down(_root(), name, delete)


register(cli)
register_tenants(cli)
register_advise(cli)
cli.add_command(report)
_root = root_folder


def main() -> NoReturn:
    """Run a verb; every error that people can cause ends here as a sentence on stderr."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Python's last collection would walk all that Azure's SDK made, for more than 0.1 s and nothing.
    atexit.register(gc.freeze)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OrchestratorError as error:
        click.echo(f"orchestrator: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as stop:
        # click turns a Ctrl-C into the Abort that a `no` to its question raises; the cause tells them apart.
        asked = isinstance(stop, click.Abort) and not isinstance(stop.__cause__, KeyboardInterrupt)
        click.echo("Nothing was changed." if asked else "Interrupted. Run the same command to continue.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
