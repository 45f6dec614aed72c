"""`orchestrator lint`: reads files, shows what was found, for people, as JSON or as SARIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import click

from orchestrator.cli.running import print_json
from orchestrator.cli.stack import stackfile
from orchestrator.core.checks.findings import PAGES, RULES, Finding, findings_json, sarif
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.lint.run import lint_paths


def lint_files(root: Path, paths: tuple[Path, ...], port: str | None, form: str, stack: str | None) -> int:
    """The exit code: 1 where something was found."""
    services: Sequence[ServiceSpec] = ()
    if stack is not None:
        services = stackfile.load(root, stack).spec.services
    findings, statements = lint_paths(paths, port, services, root / "stacks")
    if form == "json":
        print_json(findings_json(findings, statements))
    elif form == "sarif":
        print_json(sarif(in_repository(findings, Path.cwd()), version("elastic-cluster-orchestrator")))
    else:
        _show(findings, statements)
    return 1 if findings else 0


def in_repository(findings: Sequence[Finding], here: Path) -> list[Finding]:
    """Paths as URIs, relative to the root of the git repository around `here`, else to `here`; links are followed."""
    here = here.resolve()
    base = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return [replace(finding, path=_uri((here / finding.path).resolve(), base)) for finding in findings]


def _uri(path: Path, base: Path) -> str:
    return quote(path.relative_to(base).as_posix()) if path.is_relative_to(base) else path.as_uri()


def _show(findings: list[Finding], statements: int) -> None:
    for finding in findings:
        click.echo(f"{finding.path}:{finding.line}: {finding.rule} {finding.message}")
    for rule in sorted({finding.rule for finding in findings}):
        click.echo(f"  {rule} {RULES[rule].name}: {PAGES}/{rule}.md", err=True)
    count = len(findings)
    click.echo(f"{statements} statements, {count or 'no'} finding{'' if count == 1 else 's'}.", err=True)
