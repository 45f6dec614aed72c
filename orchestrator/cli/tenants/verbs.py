"""The verbs about single tenants: wire the clients, call the workflow, show the result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.moving.checking import checks
from orchestrator.cli.moving.options import wishes
from orchestrator.cli.moving.preflight import as_notes, findings
from orchestrator.cli.running import Output, confirm, execute, print_json
from orchestrator.cli.session import Session, open_session
from orchestrator.cli.stack import stackfile
from orchestrator.cli.tenants.views import tenant_lines, tenants_json
from orchestrator.cli.views import plan_lines
from orchestrator.clients.azure.metrics import read_cpu_percent
from orchestrator.clients.cluster.tenants import TRACK, canonical_table, find_tenant, read_heat, refuse_logical_split
from orchestrator.core.checks.heat import TenantHeat
from orchestrator.core.errors import OrchestratorError, Refused
from orchestrator.core.observed.pins import Pin, Tenant
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.isolation import choose_node
from orchestrator.core.planning.plan import Wanted
from orchestrator.core.report import plan_json
from orchestrator.driver import drive
from orchestrator.workflow.server import set_all

# Of what preflight finds, what stops the move of one tenant too; the rest is about all the others.
STOPPING = frozenset(
    {"reachable", "node connections", "active", "synced", "wal_level", "prepared transactions", "disk"}
)
DISTURBING = frozenset({"long transactions", "rebalance"})


def show_tenants(root: Path, stack: str, top: int, as_json: bool) -> None:
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=False) as session:
        state = session.observed()
        reading = read_heat(session.citus.connection, state.shard_groups)
    azure = _azure_cpu(file)
    if as_json:
        print_json(tenants_json(stack, state, reading, azure))
        return
    for line in tenant_lines(stack, state, reading, azure, top):
        click.echo(line)


def _azure_cpu(file: stackfile.StackFile) -> float | None:
    """What Azure's own metric says of the busiest node; None where there is none, or nobody is logged in."""
    from orchestrator.cli.session import open_control

    with suppress(OrchestratorError), open_control(file.spec) as arm:
        return read_cpu_percent(arm)
    return None


def set_tracking(root: Path, stack: str, track: str, yes: bool, as_json: bool) -> int:
    """Returns 0 also when it was so already."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=True, lock=False) as session:
        state = session.observed()
        if state.simulated or session.control is None:
            raise Refused(
                "Placement is simulated here, so there is nothing to count. Nothing was changed. Use a lab with "
                "real Citus (`orchestrator lab up --engine native`)."
            )
        confirm(yes, f"Set the server parameter {TRACK} = {track}?")
        refused = drive(set_all(session.control, {TRACK: track}), lambda _: None)
    if refused:
        raise Refused(f"{refused} Nothing was changed.")
    said = f"{TRACK} = {track}." + (
        " Citus counts from now on; a minute later there is something to see." if track == "all" else ""
    )
    if as_json:
        print_json({"result": said})
    else:
        click.echo(said)
    return 0


def isolate_tenant(
    root: Path,
    tenant: str,
    table: str | None,
    to: int | None,
    alone: bool,
    dry_run: bool,
    stack: str,
    as_json: bool,
    as_events: bool,
    yes: bool,
    **moving: Any,
) -> int:
    """Returns the exit code."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=not dry_run) as session:
        state = session.observed()
        found = find_tenant(session.citus.connection, state.shard_groups, tenant, table)
        if table is not None and state.simulated:
            raise Refused(
                f"{found.tenant.title}: shards cannot be split here, because placement is simulated. Nothing was "
                "changed. Use a lab with real Citus (`orchestrator lab up --engine native`)."
            )
        if not found.own and moving["transfer_mode"] != "block_writes":
            refuse_logical_split(session.citus.connection, found.tenant)
        isolation = choose_node(state, replace(found, alone=alone), _heats(session, state), to)
        wanted = Wanted(False, False, True, **wishes(strategy=None, moves="direct", **moving), isolate=isolation)
        if dry_run:
            return _show(session, wanted, as_json)
        output = Output(as_json, as_events)
        with checks(session, moving["verify"]):
            return execute(session, "isolate", wanted, output, yes=yes, preflight=lambda now: _preflight(session, now))


def _heats(session: Session, state: ClusterState) -> tuple[TenantHeat, ...]:
    """Without counters the node is chosen by bytes."""
    reading = read_heat(session.citus.connection, state.shard_groups)
    return reading.tenants if reading.tracked else ()


def _preflight(session: Session, state: ClusterState) -> tuple[str, ...]:
    """Notes to show with the plan. Raises PreflightStops for what would stop this tenant's move."""
    found = findings(session, state)
    return as_notes([one for one in found if one.check in (STOPPING if one.grade == "stops" else DISTURBING)])


def release_tenant(
    root: Path,
    tenant: str,
    table: str | None,
    dry_run: bool,
    stack: str,
    as_json: bool,
    as_events: bool,
    yes: bool,
    **_moving: Any,
) -> int:
    """Returns the exit code: 0 also when it was not pinned."""
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=not dry_run) as session:
        state = session.observed()
        first = None if table is None else canonical_table(session.citus.connection, table)
        wanted = Wanted(False, False, False, release=_released(state.pins, tenant, table, first))
        if dry_run:
            return _show(session, wanted, as_json)
        return execute(session, "release", wanted, Output(as_json, as_events), yes=yes)


def _released(pins: tuple[Pin, ...], name: str, table: str | None, first: str | None) -> Tenant:
    """The tenant that is meant: also one whose table is gone. Raises Refused where two are called like that."""
    named = [pin.tenant for pin in pins if pin.tenant.name == name]
    found = [tenant for tenant in named if table is None or tenant.table in {table, first}]
    if len(found) > 1:
        titles = " and ".join(tenant.title for tenant in found)
        raise Refused(f"{titles} are both pinned. Nothing was changed. Say with --table which one is meant.")
    return found[0] if found else Tenant(name, table)


def _show(session: Session, wanted: Wanted, as_json: bool) -> int:
    plan, _ = drive(session.replan(wanted), lambda _: None)
    if as_json:
        print_json(plan_json(plan))
    else:
        for line in plan_lines(plan):
            click.echo(line)
    return 0
