"""`orchestrator doctor`: connects to each port as each service would, and says what is not as `connection` tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.doctor.azure import examine_azure
from orchestrator.cli.running import print_json
from orchestrator.cli.services.connection import service_access, service_password
from orchestrator.cli.stack import stackfile
from orchestrator.clients.checks.probes import Seen, probe
from orchestrator.core.access import Access, UnknownService, offered_ports
from orchestrator.core.access_formats import document
from orchestrator.core.checks.examination import Finding
from orchestrator.core.desired.services import ServiceSpec


def examine(root: Path, stack: str, names: tuple[str, ...], as_json: bool) -> int:
    """The exit code: 1 where something is not as it should be."""
    file = stackfile.load(root, stack)
    results: list[tuple[Access, list[Finding]]] = []
    simulated = file.spec.endpoint is not None and file.spec.endpoint.engine == "embedded"
    for service in chosen(file.spec.services, names):
        password = service_password(root, file, service.name)
        for port in offered_ports(file.spec):
            found = service_access(root, file, service.name, port)
            seen = probe(found, document(found, None, None)["libpq"], password)
            results.append((found, list(judge(found, seen, simulated=simulated))))
    server = examine_azure(file)
    ill = any(not finding.ok for findings in (server, *(found for _, found in results)) for finding in findings)
    if as_json:
        ports = [_json(found, findings) for found, findings in results]
        print_json({"healthy": not ill, "server": [asdict(finding) for finding in server], "ports": ports})
    else:
        _show(results, server)
    return 1 if ill else 0


def chosen(services: Sequence[ServiceSpec], names: tuple[str, ...]) -> tuple[ServiceSpec, ...]:
    """The services of these names, all without names. Raises UnknownService."""
    known = {service.name: service for service in services}
    for name in names:
        if name not in known:
            raise UnknownService(name, tuple(known))
    return tuple(known[name] for name in names) if names else tuple(services)


def judge(access: Access, seen: Seen, *, simulated: bool = False) -> Iterator[Finding]:
    """What was seen, and whether it is what the port is there for. `simulated`: one server plays all nodes."""
    if seen.problem:
        yield Finding("answers", False, seen.problem)
        return
    yield Finding("answers", seen.role == access.user, f"as {seen.role}")
    wanted = access.sslmode not in {"disable", "prefer"}
    yield Finding("TLS", seen.encrypted or not wanted, "encrypted" if seen.encrypted else "not encrypted")
    yield Finding("search_path", seen.schema == access.schema, f"names are looked up in {seen.schema} first")
    yield _nodes(access, seen, simulated)
    kept = "kept between transactions" if seen.session_kept else "shared: no LISTEN, session locks or SET"
    yield Finding("session", seen.session_kept != access.shared, kept)
    yield from _on_sessions(access, seen)
    yield _prepared(access, seen)


def _nodes(access: Access, seen: Seen, simulated: bool) -> Finding:
    missing = [str(group) for group in seen.all_nodes if group not in seen.nodes]
    text = f"{len(seen.nodes)} of {len(seen.all_nodes)} nodes answered"
    if not access.balanced:
        return Finding("nodes", seen.nodes == (0,), text)
    if simulated:
        return Finding("nodes", True, "one server plays all nodes")
    if missing:
        text += (
            f" in {seen.connections} connections, never those of group {', '.join(missing)}: this port does not lead "
            "there; look at the load balancer's back ends, and whether the nodes answer"
        )
    return Finding("nodes", not missing, text)


def _on_sessions(access: Access, seen: Seen) -> Iterator[Finding]:
    """What needs a session of its own: expected of a port or not, proved where the session is kept."""
    alone = not access.shared and not access.balanced
    for what, works in (("LISTEN/NOTIFY", seen.notifies), ("advisory locks", seen.locks)):
        text = "work" if works else "do not work between two connections here"
        yield Finding(what, works or not alone, text + ("" if works or alone else "; use the direct port"))
    left = ", ".join(seen.settings_left)
    said = f"other clients' SET has left {left} in sessions that services get: find it with `orchestrator lint`, and "
    said += "end it with SET LOCAL or ALTER ROLE ... SET"
    yield Finding("session settings", not left, said if left else "none of other clients' is left in the session")


def _prepared(access: Access, seen: Seen) -> Finding:
    if seen.prepared_statements:
        return Finding("prepared statements", True, "work")
    text = "do not work: turn them off (psycopg: prepare_threshold=None)"
    if access.prepared_statements:
        text += (
            ", or have PgBouncer keep them: elastic-cluster:pgbouncer.maxPreparedStatements above 0, and version "
            "1.21 or newer"
        )
    return Finding("prepared statements", not access.prepared_statements, text)


def _json(access: Access, findings: list[Finding]) -> dict[str, Any]:
    checks = [asdict(finding) for finding in findings]
    return {"service": access.service, "port": access.port_name, "number": access.port, "checks": checks}


def _show(results: list[tuple[Access, list[Finding]]], server: list[Finding]) -> None:
    for access, findings in results:
        click.echo(f"{access.service} through the {access.port_name} port {access.port}")
        _lines(findings)
    if server:
        click.echo("the server, as the control plane has it")
        _lines(server)


def _lines(findings: list[Finding]) -> None:
    for finding in findings:
        click.echo(f"  {'ok ' if finding.ok else 'BAD'} {finding.what}: {finding.seen}")
