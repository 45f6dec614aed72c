"""`plan --check`: does the cluster still look as the stack file says?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.running import print_json
from orchestrator.cli.session import open_session
from orchestrator.cli.stack import stackfile
from orchestrator.cli.stack.templates import declares_services
from orchestrator.core.checks.drift import AzureReading, Drift, find_drift
from orchestrator.core.desired.parameters import declared_parameters
from orchestrator.core.size import count

DRIFTED = 3


def check_drift(root: Path, stack: str, as_json: bool) -> int:
    """The exit code: 0 where the stack file is true, 3 where it is not."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=declares_services(file.spec), control=True, lock=False) as session:
        declared = session.services
        state = session.observed()
        azure = None
        if session.control is not None:
            parameters = session.control.read_parameters(list(declared_parameters(file.spec)))
            azure = AzureReading(parameters, session.control.read_firewall_rules())
        found = find_drift(session.file.spec, state, azure) + (declared.drift() if declared else ())
    if as_json:
        print_json({"stack": stack, "drift": [asdict(drift) for drift in found]})
    else:
        click.echo("\n".join(_lines(stack, found)))
    return DRIFTED if found else 0


def _lines(stack: str, found: tuple[Drift, ...]) -> list[str]:
    if not found:
        return [f"Stack {stack}: no drift."]
    lines = [f"Stack {stack}: {count(len(found), 'difference')} from the stack file."]
    for drift in found:
        lines += [f"  {drift.object}", f"    declared {drift.declared}; found {drift.found}", f"    {drift.mend}"]
    return lines
