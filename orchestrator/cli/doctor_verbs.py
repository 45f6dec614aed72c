"""`orchestrator doctor`: connects to each port as each service would, and says what is not as `connection` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import stackfile
from orchestrator.cli.connection_verbs import service_access, service_password
from orchestrator.cli.running import print_json
from orchestrator.clients.probes import Seen, probe
from orchestrator.core.access import Access, offered_ports
from orchestrator.core.access_formats import document


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    seen: str


def examine(root: Path, stack: str, as_json: bool) -> int:
    """The exit code: 1 where something is not as it should be."""
    file = stackfile.load(root, stack)
    results: list[tuple[Access, list[Finding]]] = []
    for service in file.spec.services:
        password = service_password(root, file, service.name)
        for port in offered_ports(file.spec):
            found = service_access(root, file, service.name, port)
            seen = probe(found, document(found, None, None)["libpq"], password)
            results.append((found, list(judge(found, seen))))
    ill = any(not finding.ok for _, findings in results for finding in findings)
    if as_json:
        print_json({"healthy": not ill, "ports": [_json(found, findings) for found, findings in results]})
    else:
        _show(results)
    return 1 if ill else 0


def judge(access: Access, seen: Seen) -> Iterator[Finding]:
    """What was seen, and whether it is what the port is there for."""
    if seen.problem:
        yield Finding("answers", False, seen.problem)
        return
    yield Finding("answers", seen.role == access.user, f"as {seen.role}")
    wanted = access.sslmode not in {"disable", "prefer"}
    yield Finding("TLS", seen.encrypted or not wanted, "encrypted" if seen.encrypted else "not encrypted")
    yield Finding("search_path", seen.schema == access.schema, f"names are looked up in {seen.schema} first")
    nodes = f"{len(seen.nodes)} of {seen.all_nodes} nodes answered"
    spread = len(seen.nodes) > 1 or seen.all_nodes == 1
    yield Finding("nodes", spread if access.balanced else seen.nodes == (0,), nodes)
    kept = "kept between transactions" if seen.session_kept else "shared: no LISTEN, session locks or SET"
    yield Finding("session", seen.session_kept != access.shared, kept)
    works = "work" if seen.prepared_statements else "do not work: turn them off (psycopg: prepare_threshold=None)"
    yield Finding("prepared statements", seen.prepared_statements or not access.prepared_statements, works)


def _json(access: Access, findings: list[Finding]) -> dict[str, Any]:
    checks = [asdict(finding) for finding in findings]
    return {"service": access.service, "port": access.port_name, "number": access.port, "checks": checks}


def _show(results: list[tuple[Access, list[Finding]]]) -> None:
    for access, findings in results:
        click.echo(f"{access.service} through the {access.port_name} port {access.port}")
        for finding in findings:
            click.echo(f"  {'ok ' if finding.ok else 'BAD'} {finding.what}: {finding.seen}")
