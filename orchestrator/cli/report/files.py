"""Reports as files: `--report FILE` of the verbs that change something, and `report`, which renders one again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.options import F
from orchestrator.cli.textfiles import UNUSABLE, reason
from orchestrator.core.errors import OrchestratorError, Refused

_KEY = "orchestrator.report"
ENDINGS = {".html", ".json"}
# Without one of these a document is not the report of a run, or of a version that told less.
NEEDED = {"command", "stack", "outcome", "began", "before", "after", "planned", "moves", "latency", "verification"}


def report_option(function: F) -> F:
    return click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=_remember,
        metavar="FILE",
        help="Write the report of the run: .html is a page to read and print, .json can be rendered later.",
    )(function)


def _remember(context: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Refuses now what could not be written after the run."""
    if path is not None:
        _check(path)
        context.meta[_KEY] = path


def _check(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise Refused(f"--report {path}: the name has to end with .html or .json. Nothing was changed.")
    if not path.absolute().parent.is_dir():
        raise Refused(f"--report {path}: there is no folder {path.absolute().parent}; make it first.")


def write_wanted(document: Mapping[str, Any]) -> None:
    """Write the report where the running verb was asked to. A run is not made a failure by a full disk."""
    context = click.get_current_context(silent=True)
    path: Path | None = context.meta.get(_KEY) if context else None
    if path is None:
        return
    try:
        path.write_text(_rendered(document, path), "utf-8")
    except OSError as error:
        click.echo(f"The report could not be written to {path}: {reason(error)}.", err=True)


def _rendered(document: Mapping[str, Any], path: Path) -> str:
    if path.suffix.lower() == ".json":
        return json.dumps(document, indent=2) + "\n"
    from orchestrator.cli.report.page import render

    return render(document)


def render_again(source: Path, target: Path) -> None:
    """From a JSON report, or from the JSON lines of --events, whose last line is the report."""
    _check(target)
    document = _read(source)
    try:
        target.write_text(_rendered(document, target), "utf-8")
    except OSError as error:
        raise OrchestratorError(f"The report could not be written to {target}: {reason(error)}.") from error


def _read(source: Path) -> dict[str, Any]:
    try:
        content = source.read_text("utf-8")
    except UNUSABLE as error:
        raise Refused(f"{source} cannot be read: {reason(error)}.") from error
    for candidate in (content, (content.strip().splitlines() or [""])[-1]):
        try:
            document = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(document, dict) and document.keys() >= NEEDED:
            return document
    raise Refused(f"{source} is not the report of a run: give what --report FILE.json, --json or --events wrote.")


@click.command()
@click.argument("run", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: RUN with .html."
)
def report(run: Path, output: Path | None) -> None:
    """Render the report of a run again, from what --report FILE.json, --json or --events wrote."""
    target = output or run.with_suffix(".html")
    render_again(run, target)
    click.echo(f"Wrote {target}.")
