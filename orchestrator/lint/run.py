"""Runs every rule over files: what they say about tables is read first, then each statement is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.core.checks.findings import Finding
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.lint.fingerprints import line_fingerprints
from orchestrator.lint.query_rules import query_findings
from orchestrator.lint.session_rules import session_findings
from orchestrator.lint.sources import Source, find_files, read_source
from orchestrator.lint.table_rules import lock_findings, table_findings
from orchestrator.lint.tables import Tables, gather
from orchestrator.lint.tree import Statement


def lint_paths(
    paths: tuple[Path, ...], port: str | None, services: Sequence[ServiceSpec], folder: Path
) -> tuple[list[Finding], int]:
    """Findings by place, and how many statements were read. Migrations are relative to `folder`."""
    tables = declared_tables(services)
    owners = _owners(services, folder)
    sources = [read_source(path, port, _schema(path, owners)) for path in find_files(paths)]
    for source in sources:
        gather(source.statements, tables)
    findings = [finding for source in sources for finding in _findings(source, tables)]
    return findings, sum(len(source.statements) for source in sources)


def declared_tables(services: Sequence[ServiceSpec]) -> Tables:
    tables = Tables()
    for service in services:
        if service.sharding == "schema":
            tables.tenant_schemas.add(service.schema_name)
        elif service.distribution_column is not None:
            tables.default_columns[service.schema_name] = service.distribution_column
            tables.references |= {(service.schema_name, name) for name in service.reference_tables}
    return tables


def statement_findings(statement: Statement, tables: Tables) -> Iterator[tuple[str, str]]:
    yield from session_findings(statement, tables)
    yield from table_findings(statement, tables)
    yield from query_findings(statement, tables)
    yield from lock_findings(statement, tables)


def _findings(source: Source, tables: Tables) -> Iterator[Finding]:
    found = list(source.problems)
    for statement in source.statements:
        for rule, message in dict.fromkeys(statement_findings(statement, tables)):
            if not source.silences(rule, statement.line, statement.last_line):
                found.append(Finding(rule, source.path, statement.line, message, statement.last_line))
    if not found:
        return
    lines, fingerprints = source.text.split("\n"), line_fingerprints(source.text)
    for finding in sorted(found, key=lambda finding: (finding.line, finding.rule)):
        yield _placed(finding, lines, fingerprints)


def _placed(finding: Finding, lines: Sequence[str], fingerprints: Sequence[str]) -> Finding:
    """Whole lines, without the blanks around them."""
    last_line = max(finding.line, finding.last_line)
    first, last = lines[finding.line - 1], lines[last_line - 1]
    column = len(first) - len(first.lstrip()) + 1
    end_column = len(last.rstrip()) + 1
    return replace(
        finding,
        last_line=last_line,
        column=column,
        end_column=end_column if last_line > finding.line else max(column + 1, end_column),
        fingerprint=fingerprints[finding.line - 1],
    )


def _owners(services: Sequence[ServiceSpec], folder: Path) -> list[tuple[Path, str]]:
    return [((folder / entry).resolve(), service.schema_name) for service in services for entry in service.migrations]


def _schema(path: Path, owners: list[tuple[Path, str]]) -> str | None:
    here = path.resolve()
    return next((schema for place, schema in owners if here == place or place in here.parents), None)
