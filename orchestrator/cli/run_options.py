"""What every verb that changes something takes."""

from __future__ import annotations

import click

from orchestrator.cli.options import F, json_option, stack_option
from orchestrator.cli.report.files import report_option


def run_options(function: F) -> F:
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        report_option,
        click.option("--events", "as_events", is_flag=True, help="Events as JSON lines (with --json: on stderr)."),
        json_option,
        stack_option,
    ):
        function = option(function)
    return function
