"""`preflight`: what would stop or disturb a scale-out or a rebalance. Runs before each of them, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.running import print_json
from orchestrator.cli.session import Session, open_session
from orchestrator.cli.stack import stackfile
from orchestrator.clients.checks.preflight import PreflightClient
from orchestrator.core.checks.preflight import GRADES, Finding, find
from orchestrator.core.checks.preflight_checks import CHECKS
from orchestrator.core.errors import Refused
from orchestrator.core.observed.state import ClusterState

STOPPED = 2


class PreflightStops(Refused):
    def __init__(self, findings: Sequence[Finding]) -> None:
        lines = [f"  {finding.object}: {finding.consequence}. {finding.fix}." for finding in findings]
        super().__init__("\n".join(["Preflight found what would fail; nothing was changed.", *lines]))


# Nodes that Azure is still adding, or that restart: the run's own steps wait for them.
WAITED_FOR = frozenset({"active", "synced", "reachable", "node connections", "metadata", "sizes"})
# Somebody else's DDL reaches the nodes one after the other, so these are looked at more than once.
PASSING = frozenset({"metadata", "tables", "shards"})


def findings(session: Session, state: ClusterState) -> tuple[Finding, ...]:
    """Read the cluster and check it. Changes nothing."""
    spec = session.file.spec
    pools = spec.pgbouncer.default_pool_size * len(spec.services) if spec.pgbouncer.enabled else 0
    client = PreflightClient(lambda: session.citus.connection)
    found = find(client.read(state, pools), CHECKS)
    for _ in range(2):
        if not any(finding.check in PASSING for finding in found):
            break
        again = find(client.read(state, pools), CHECKS)
        found = tuple(finding for finding in again if finding.check not in PASSING or finding in found)
    return found


def warnings(session: Session, state: ClusterState) -> tuple[str, ...]:
    """Notes to show with the plan of a scale-out or a rebalance. Raises PreflightStops."""
    found = findings(session, state)
    growing = not all(node.joined for node in state.nodes) or (
        state.server is not None and state.server.state != "Ready"
    )
    if growing:
        found = tuple(finding for finding in found if finding.check not in WAITED_FOR)
    return as_notes(found)


def as_notes(found: Sequence[Finding]) -> tuple[str, ...]:
    """Findings as notes to show with a plan. Raises PreflightStops."""
    if stopping := [finding for finding in found if finding.grade == "stops"]:
        raise PreflightStops(stopping)
    return tuple(f"Preflight {one.grade}: {one.object}: {one.consequence}. To mend it: {one.fix}." for one in found)


def show_preflight(root: Path, stack: str, as_json: bool) -> int:
    """The exit code: 2 when something stops, else 0."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=False) as session:
        state = session.observed()
        found = findings(session, state)
    stops = any(finding.grade == "stops" for finding in found)
    if as_json:
        print_json({"stack": stack, "stops": stops, "findings": [asdict(finding) for finding in found]})
        return STOPPED if stops else 0
    counts = ", ".join(f"{sum(finding.grade == grade for finding in found)} {grade}" for grade in GRADES)
    click.echo(f"Stack {stack}: {counts}." if found else f"Stack {stack}: nothing stands in the way.")
    for finding in found:
        click.echo(f"  {finding.grade:<8} {finding.object}\n    {finding.consequence}\n    {finding.fix}")
    return STOPPED if stops else 0
