"""Options that many verbs take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def stack_option(function: F) -> F:
    return click.option(
        "--stack",
        default="local",
        show_default=True,
        envvar="ORCHESTRATOR_STACK",
        help="Stack file: stacks/Pulumi.<stack>.yaml.",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function)


def root_folder() -> Path:
    """The project's folder: the nearest one upwards with a Pulumi.yaml, else where the command runs."""
    from orchestrator.cli.stack.stackfile import project_root

    return project_root(Path.cwd())
