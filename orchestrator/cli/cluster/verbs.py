"""The verbs on a cluster: wire the clients, call the workflow, show the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.moving.checking import checks
from orchestrator.cli.moving.guarding import guard, guarded
from orchestrator.cli.moving.options import wishes
from orchestrator.cli.moving.preflight import warnings
from orchestrator.cli.running import Output, execute, print_json
from orchestrator.cli.session import open_session
from orchestrator.cli.stack import stackfile
from orchestrator.cli.stack.templates import declares_services
from orchestrator.cli.tenants.views import pin_lines, pins_json
from orchestrator.cli.views import job_line, placement_lines, plan_lines
from orchestrator.core.desired.limits import checked_nodes
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import Refused
from orchestrator.core.observed.state import ClusterState, ShardGroup, skew
from orchestrator.core.planning.plan import Wanted
from orchestrator.core.report import job_json, loads_json, plan_json
from orchestrator.core.size import size
from orchestrator.driver import drive


def show_status(root: Path, stack: str, as_json: bool) -> None:
    file = stackfile.load(root, stack)
    with open_session(root, file, services=False, control=False, lock=False) as session:
        state = session.observed()
    document = status_json(file, state)
    if as_json:
        print_json(document)
        return
    engine = document["engine"]
    click.echo(f"Stack {stack}: {state.citus_version}" + (f", lab engine {engine}" if engine else ""))
    if state.simulated:
        click.echo("Placement is simulated: one PostgreSQL server plays all nodes.")
    for line in placement_lines(state.loads):
        click.echo(line)
    for service in document["services"]:
        nodes = ", ".join(str(node) for node in service["node_ids"])
        held = f", {size(service['bytes'])} on node {nodes}" if nodes else ""
        click.echo(f"  service {service['name']}: {service['state']}{held}")
    for line in pin_lines(state):
        click.echo(line)
    click.echo(f"  {job_line(document['rebalance_job'])}")


def status_json(file: stackfile.StackFile, state: ClusterState) -> dict[str, Any]:
    """`engine` is null on Azure; `skew` is the fullest node over the average by bytes, null without data."""
    loads = state.loads
    endpoint = file.spec.endpoint
    groups = _by_schema(state.shard_groups)
    return {
        "stack": file.stack,
        "engine": endpoint.engine if endpoint else None,
        "citus": state.citus_version,
        "placement_simulated": state.simulated,
        "nodes": loads_json(loads),
        "skew": skew(loads),
        "services": [_service_json(service, groups.get(service.schema_name, [])) for service in file.spec.services],
        "rebalance_job": job_json(state.job),
        "pins": pins_json(state),
    }


def _by_schema(groups: Sequence[ShardGroup]) -> dict[str, list[ShardGroup]]:
    """Tables are named `schema.table` without quotes, so a name with dots in it counts for every way to read it."""
    found: dict[str, list[ShardGroup]] = {}
    for group in groups:
        for schema in {table[:at] for table in group.tables for at, sign in enumerate(table) if sign == "."}:
            found.setdefault(schema, []).append(group)
    return found


def _service_json(service: ServiceSpec, groups: Sequence[ShardGroup]) -> dict[str, Any]:
    unknown = any(group.bytes is None for group in groups)
    return {
        "name": service.name,
        "role": service.role_name,
        "schema": service.schema_name,
        "sharding": service.sharding,
        "state": "distributed" if groups else "no distributed tables",
        "shard_groups": len(groups),
        "bytes": None if unknown else sum(group.bytes or 0 for group in groups),
        "node_ids": sorted({group.node_id for group in groups}),
    }


def show_plan(root: Path, stack: str, as_json: bool, **moving: Any) -> None:
    file = stackfile.load(root, stack)
    wanted = Wanted(True, declares_services(file.spec), True, **wishes(**moving))
    with open_session(root, file, services=wanted.services, control=True, lock=False) as session:
        plan, _ = drive(session.replan(wanted), lambda _: None)
    if as_json:
        print_json(plan_json(plan))
        return
    for line in plan_lines(plan):
        click.echo(line)


def apply_services(root: Path, stack: str, as_json: bool, as_events: bool, yes: bool) -> int:
    file = stackfile.load(root, stack)
    if not declares_services(file.spec):
        raise Refused(f"{file.path.name} declares no services: add elastic-cluster:services, or nothing is to be done.")
    wanted = Wanted(cluster=False, services=True, rebalance=False)
    with open_session(root, file, services=True, control=False, lock=True) as session:
        return execute(session, "apply", wanted, Output(as_json, as_events), yes=yes)


def scale_out_cluster(
    root: Path,
    nodes: int | None,
    rebalance: bool,
    with_pending_changes: bool,
    stack: str,
    as_json: bool,
    as_events: bool,
    yes: bool,
    **moving: Any,
) -> int:
    from orchestrator.cli.cluster import scaling

    file = stackfile.load(root, stack)
    wanted_nodes = file.spec.nodes if nodes is None else checked_nodes(nodes)
    declared = replace(file, spec=file.spec.model_copy(update={"nodes": wanted_nodes}))
    moving, limits = guarded(moving)
    wanted = Wanted(True, False, rebalance, **wishes(**moving), guarded=limits.any)
    with (
        open_session(root, declared, services=False, control=True, lock=True) as session,
        guard(session, limits),
        checks(session, moving["verify"]),
    ):

        def commit() -> None:
            if wanted_nodes != file.spec.nodes:
                stackfile.save(file, "nodes", str(wanted_nodes))

        way = scaling.prepare(session, file, wanted_nodes, with_pending_changes=with_pending_changes)
        session.notes = way.notes
        code = execute(
            session, "scale-out", wanted, Output(as_json, as_events), yes=yes, commit=commit,
            preflight=partial(warnings, session),
        )  # fmt: skip
        scaling.record(way, wanted_nodes, partial(click.echo, err=True))
        return code
