"""What people see of tenants: who is hot, where, and what a move would bring. Renders; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from orchestrator.core.checks.heat import NodeHeat, Reading, TenantHeat, WhatIf, hottest, node_heats, what_if
from orchestrator.core.observed.pins import Pin, pin_of
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.size import size

BAR = 24
# Seconds of processor time in a minute or two below which nobody is hot.
WORTH_ADVICE = 0.5
TURN_ON = (
    "Citus does not count tenants on this cluster: citus.stat_tenants_track is none. Turn it on with "
    "`orchestrator tenants --track all`, or in Azure's portal under Server parameters, or with "
    "az postgres flexible-server parameter set --name citus.stat_tenants_track --value all."
)


def tenant_lines(stack: str, state: ClusterState, reading: Reading, azure: float | None, top: int) -> list[str]:
    nodes = node_heats(state.nodes, state.shard_groups, reading.tenants)
    lines = [f"Stack {stack}: what tenants did in the last {reading.seconds} to {2 * reading.seconds} s"]
    if state.simulated:
        lines.append("Placement is simulated: one PostgreSQL server plays all nodes.")
    if not reading.tracked:
        lines.append(TURN_ON)
    lines += _node_lines(nodes, reading)
    if azure is not None:
        lines.append(f"  Azure: processors of the busiest node {azure:.0f} % busy")
    lines += _heat_lines(nodes, reading, state.pins, top)
    lines += _advice(state, reading)
    lines += pin_lines(state)
    return lines


def _node_lines(nodes: Sequence[NodeHeat], reading: Reading) -> list[str]:
    most = max((node.cpu for node in nodes), default=0.0)
    names = [f"{node.load.node.host}:{node.load.node.port}" for node in nodes]
    width = max((len(name) for name in names), default=0)
    lines = []
    for node, name in zip(nodes, names, strict=True):
        bar = "█" * (round(BAR * node.cpu / most) if most else 0)
        busy = (reading.sessions or {}).get(node.node_id)
        sessions = "" if busy is None else f", {busy} sessions at work"
        held = f"{node.load.shard_groups} groups, {size(node.load.bytes)}{sessions}"
        spent = f"{_cpu(node.cpu):>8} s cpu {node.queries:>9} queries  {bar}"
        lines.append(f"  node {node.node_id:<3} {name:<{width}} {spent}".rstrip())
        lines.append(f"  {'':<8} {'':<{width}} {held}")
    return lines


def _heat_lines(nodes: Sequence[NodeHeat], reading: Reading, pins: Sequence[Pin], top: int) -> list[str]:
    shown = hottest(reading.tenants)[:top]
    if not shown:
        none = "No tenant ran a statement that Citus counts: those of one schema, or with a value for the column."
        return [none] if reading.tracked else []
    total = sum(node.cpu for node in nodes)
    by_node = {node.node_id: node.cpu for node in nodes}
    width = max(len(heat.tenant.title) for heat in shown)
    lines = ["Hottest tenants:"]
    for heat in shown:
        shares = f"{_share(heat.cpu, by_node[heat.node_id])} of its node, {_share(heat.cpu, total)} of all"
        pinned = ", pinned" if pin_of(pins, heat.tenant) else ""
        held = size(heat.bytes) if heat.own else f"in a shard of {size(heat.bytes)} with others"
        counts = f"{_cpu(heat.cpu):>8} s cpu {heat.queries:>9} queries"
        lines.append(f"  {heat.tenant.title:<{width}}  node {heat.node_id:<3} {counts}  {shares}; {held}{pinned}")
    return lines


def _cpu(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 1 or seconds == 0 else f"{seconds:.2g}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _advice(state: ClusterState, reading: Reading) -> list[str]:
    """What moving the hottest tenant would bring, and what moving its neighbours would: processor time per node."""
    first = next(iter(hottest(reading.tenants)), None)
    if first is None or first.cpu < WORTH_ADVICE:
        return []
    found = _what_if(state, reading, first)
    now = {node.node_id: node.cpu for node in node_heats(state.nodes, state.shard_groups, reading.tenants)}
    title, most = first.tenant.title, max(now.values())
    lines = [f"Hottest node now: {_cpu(most)} s cpu. As predicted from these figures:"]
    if found.to is None:
        lines.append(f"  moving {title}: no node has less beside it; it stays where it is")
    else:
        lines.append(f"  moving {title} to node {found.to}: {_after(found.moved)}")
    lines.append(f"  moving its neighbours away instead: {_after(found.alone)}")
    command = f"orchestrator isolate {quote(first.tenant.name)}"
    command += f" --table {quote(first.tenant.table)}" if first.tenant.table else ""
    lines.append(f"  `{command}` does the first, with --alone the second")
    return lines


def _what_if(state: ClusterState, reading: Reading, heat: TenantHeat) -> WhatIf:
    closed = {pin.node_id for pin in state.pins if pin.alone and pin_of((pin,), heat.tenant) is None}
    return what_if(state.nodes, state.shard_groups, reading.tenants, heat, closed - {heat.node_id})


def _after(loads: Mapping[int, float]) -> str:
    each = ", ".join(f"node {node_id} {_cpu(cpu)}" for node_id, cpu in sorted(loads.items()))
    return f"hottest node {_cpu(max(loads.values()))} s cpu ({each})"


def pin_lines(state: ClusterState) -> list[str]:
    """One line for each pin, for every view that shows the cluster."""
    where = {group.shard_id: group.node_id for group in state.shard_groups}
    lines = []
    for pin in state.pins:
        alone = ", alone" if pin.alone else ""
        at = where.get(pin.shard_id or 0)
        if at is None:
            note = "  (has no shard of its own now: isolate it again, or --release it)"
        else:
            note = "" if at == pin.node_id else f"  (is on node {at} still: run the same isolate, or a rebalance)"
        lines.append(f"  pinned: {pin.tenant.title} to node {pin.node_id}{alone}{note}")
    return lines


def pins_json(state: ClusterState) -> list[dict[str, Any]]:
    """`on_node` is where it is now; null while it has no shard of its own."""
    where = {group.shard_id: group.node_id for group in state.shard_groups}
    return [
        {
            "tenant": pin.tenant.name,
            "table": pin.tenant.table,
            "node_id": pin.node_id,
            "alone": pin.alone,
            "on_node": where.get(pin.shard_id or 0),
        }
        for pin in state.pins
    ]


def tenants_json(stack: str, state: ClusterState, reading: Reading, azure: float | None) -> dict[str, Any]:
    """Processor time in seconds; `cpu_percent` is Azure's for the busiest node, null where it is not known."""
    return {
        "stack": stack,
        "placement_simulated": state.simulated,
        "tracked": reading.tracked,
        "period_seconds": reading.seconds,
        "cpu_percent": azure,
        "nodes": [
            {
                "node_id": node.node_id,
                "cpu_seconds": round(node.cpu, 3),
                "queries": node.queries,
                "tenants": node.tenants,
                "shard_groups": node.load.shard_groups,
                "bytes": node.load.bytes,
                "sessions": (reading.sessions or {}).get(node.node_id),
            }
            for node in node_heats(state.nodes, state.shard_groups, reading.tenants)
        ],
        "tenants": [_tenant_json(state, reading, heat) for heat in hottest(reading.tenants)],
        "pins": pins_json(state),
    }


def _tenant_json(state: ClusterState, reading: Reading, heat: TenantHeat) -> dict[str, Any]:
    found = _what_if(state, reading, heat)
    return {
        "tenant": heat.tenant.name,
        "table": heat.tenant.table,
        "node_id": heat.node_id,
        "cpu_seconds": round(heat.cpu, 3),
        "queries": heat.queries,
        "own_shard": heat.own,
        "shard_group_bytes": heat.bytes,
        "emptiest_node": found.to,
        "cpu_seconds_if_moved": {str(node_id): round(cpu, 3) for node_id, cpu in found.moved.items()},
        "cpu_seconds_if_alone": {str(node_id): round(cpu, 3) for node_id, cpu in found.alone.items()},
    }
