"""The command line: all verbs, and how they end. Each verb imports what it needs when it runs, so that help is quick.

Exit codes: 0 done or nothing to do, 1 failed, 2 refused before anything changed, 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from typing import NoReturn

import click

from orchestrator.cli.advise.app import advise
from orchestrator.cli.cluster.app import apply, plan, scale_out, status
from orchestrator.cli.doctor.app import doctor
from orchestrator.cli.lab.app import lab
from orchestrator.cli.moving.app import preflight, rebalance, runs
from orchestrator.cli.preview.app import preview, prices, snapshot
from orchestrator.cli.report.files import report
from orchestrator.cli.services.app import connection, lint
from orchestrator.cli.tenants.app import isolate, tenants
from orchestrator.core.errors import OrchestratorError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
INTERRUPTED = 130


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="elastic-cluster-orchestrator")
def cli() -> None:
    """Grow and balance Azure Database for PostgreSQL elastic clusters, and prepare them for services.

    The cluster is declared in stacks/Pulumi.<stack>.yaml. `orchestrator lab up` makes one on this machine.
    """


@click.command()
def schema() -> None:
    """JSON schema of stack files, for editors."""
    from orchestrator.cli.stack.stackfile import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


VERBS = (
    *(status, plan, apply, scale_out),
    *(preflight, rebalance, runs, tenants, isolate),
    *(preview, snapshot, prices, report, schema),
    *(connection, doctor, lint, advise, lab),
)
for verb in VERBS:
    cli.add_command(verb)


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
