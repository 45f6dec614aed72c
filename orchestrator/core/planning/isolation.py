"""One tenant on one node, and there to stay: the plan for it, and for letting it go. Pure.

The pin is noted down first and everything else follows from it: what is moved is asked of the pins when the moves
begin, so a run that was killed is finished by the same command, and its moves by any rebalance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.core.checks.heat import TenantHeat, emptiest
from orchestrator.core.errors import Refused
from orchestrator.core.observed.pins import Isolation, Pin, Tenant, pin_of
from orchestrator.core.observed.state import ClusterState, ShardGroup, node_loads
from orchestrator.core.planning.placement import Move, after, predict
from orchestrator.core.planning.plan import Plan, Wanted, comparable, executors_for, settle
from orchestrator.core.planning.steps import MoveShards, PinTenant, ReleaseTenant, SplitTenant, Step, VerifyCluster


class IsolationRefused(Refused):
    def __init__(self, tenant: Tenant, reason: str) -> None:
        super().__init__(f"{tenant.title} cannot be isolated: {reason} Nothing was changed.")


def choose_node(state: ClusterState, isolation: Isolation, heats: Sequence[TenantHeat], to: int | None) -> Isolation:
    """The wish with its node: the one asked for, else the one that is noted down, else the emptiest.

    Raises IsolationRefused when there is none.
    """
    tenant, kept = isolation.tenant, pin_of(state.pins, isolation.tenant)
    able = [node for node in state.nodes if node.should_have_shards]
    if len(able) < 2:
        raise IsolationRefused(tenant, "only one node may hold data. Add nodes with `orchestrator scale-out` first.")
    if to is not None:
        _check_node(state, tenant, to)
        return replace(isolation, to=to)
    if kept is not None and kept.node_id in {node.node_id for node in able}:
        return replace(isolation, to=kept.node_id)
    taken = _taken(state.pins, tenant)
    open_nodes = [node for node in able if node.node_id not in taken]
    rest = [group for group in state.shard_groups if not (isolation.own and group.shard_id == isolation.shard_id)]
    if isolation.alone:
        return replace(isolation, to=_cheapest(state, isolation, rest, [node.node_id for node in open_nodes]))
    others = [heat for heat in heats if heat.tenant != tenant]
    found = emptiest(open_nodes, rest, others, isolation.node_id, counted=bool(heats))
    if found is None:
        raise IsolationRefused(tenant, "every node is held by a tenant that is alone there. Release one of them.")
    return replace(isolation, to=found)


def _check_node(state: ClusterState, tenant: Tenant, to: int) -> None:
    node = next((node for node in state.nodes if node.node_id == to), None)
    if node is None:
        known = ", ".join(str(node.node_id) for node in state.nodes)
        raise IsolationRefused(tenant, f"there is no node {to}; there are {known}.")
    if not node.joined:
        raise IsolationRefused(tenant, f"node {to} may not hold data now; `orchestrator status` shows the nodes.")
    if to in _taken(state.pins, tenant):
        raise IsolationRefused(tenant, f"another tenant is alone on node {to}. Release that, or choose another node.")


def _taken(pins: Sequence[Pin], tenant: Tenant) -> set[int]:
    return {pin.node_id for pin in pins if pin.alone and pin_of((pin,), tenant) is None}


def _cheapest(state: ClusterState, isolation: Isolation, rest: Sequence[ShardGroup], able: Sequence[int]) -> int:
    """Where the fewest bytes have to move for it to be alone: the others away, and itself there."""
    own = next((group.bytes or 0 for group in state.shard_groups if group.shard_id == isolation.shard_id), 0)
    fixed = {pin.shard_id for pin in state.pins}

    def to_move(node_id: int) -> tuple[int, int, bool, int]:
        away = [group for group in rest if group.node_id == node_id]
        size = sum(group.bytes or 0 for group in away) + (own if node_id != isolation.node_id else 0)
        return sum(group.shard_id in fixed for group in away), size, node_id != isolation.node_id, node_id

    if len(able) < 2:
        raise IsolationRefused(
            isolation.tenant, "no node would be left for the others. Add nodes, or leave out --alone."
        )
    return min(able, key=to_move)


def isolation_plan(state: ClusterState, wanted: Wanted, isolation: Isolation) -> Plan:
    """What is missing until the tenant is on its node and noted down to stay there."""
    tenant, kept = isolation.tenant, pin_of(state.pins, isolation.tenant)
    wish = Pin(tenant, isolation.to, isolation.alone)
    steps: list[Step] = [*settle(state, wanted)]
    if kept is None or (kept.node_id, kept.alone) != (wish.node_id, wish.alone):
        steps.append(PinTenant(wish))
    own = isolation.own or (kept is not None and kept.shard_id is not None)
    shard_id = kept.shard_id if kept is not None and kept.shard_id is not None else isolation.shard_id
    others = [pin for pin in state.pins if pin != kept]
    # Of a shard that is still to be split the tenant's part is not known: it is planned as if it were the whole.
    moves = pin_moves(state, [*others, replace(wish, shard_id=shard_id)])
    planned = moves if own else (*moves, *_rest(state, isolation))
    shown = tuple(move for move in moves if own or move.shard_id != isolation.shard_id)
    if not own:
        steps.append(_split(state, wanted, isolation))
    if planned:
        limits = *executors_for(planned, wanted.parallel), wanted.max_pause
        name, verify = state.strategy(None).name, comparable(state, wanted)
        steps.append(MoveShards(name, wanted.transfer_mode, planned, *limits, verify=verify, tenant=wish))
    if steps:
        there = {group.shard_id for group in state.shard_groups} - ({isolation.shard_id} if not own else set())
        steps.append(VerifyCluster(len(state.nodes), tuple(sorted(there))))
    before = node_loads(state.nodes, state.shard_groups)
    placed = node_loads(state.nodes, after(state.shard_groups, shown))
    return Plan(tuple(steps), before, placed, shown, _notes(isolation, own, bool(steps)))


def _split(state: ClusterState, wanted: Wanted, isolation: Isolation) -> SplitTenant:
    size = next((group.bytes for group in state.shard_groups if group.shard_id == isolation.shard_id), None)
    along, mode = len(isolation.tables) > 1, wanted.transfer_mode
    return SplitTenant(isolation.tenant, along, mode, size, comparable(state, wanted))


def _rest(state: ClusterState, isolation: Isolation) -> tuple[Move, ...]:
    """Those who share the shard leave too where the tenant is to be alone on the node where it is."""
    others = [node.node_id for node in state.nodes if node.should_have_shards and node.node_id != isolation.to]
    if not isolation.alone or isolation.node_id != isolation.to or not others:
        return ()
    return (Move(isolation.shard_id, isolation.to, others[0]),)


def pin_moves(state: ClusterState, pins: Sequence[Pin]) -> tuple[Move, ...]:
    """Pinned tenants to their nodes, and others away from where one is alone: each to the emptiest node by size."""
    strategy = state.strategy(None)
    return predict(state.shard_groups, state.nodes, strategy, drain_only=True, pins=pins).moves


def _notes(isolation: Isolation, own: bool, anything: bool) -> tuple[str, ...]:
    title = isolation.tenant.title
    if not anything:
        alone = ", alone," if isolation.alone else ""
        return (f"{title} is on node {isolation.to}{alone} and pinned there already.",)
    notes = []
    if not own:
        tables = ", ".join(isolation.tables[:5]) + (" and others" if len(isolation.tables) > 5 else "")
        notes.append(
            f"The rows of {title} get a shard of their own in {tables}; how large it is shows then, so its move is not "
            "in the prediction. Nothing puts shards together again."
        )
    notes.append(
        "A rebalance leaves it there until `orchestrator isolate --release` lets it go; Citus' own "
        "citus_rebalance_start() does not know pins."
    )
    return tuple(notes)


def release_plan(state: ClusterState, tenant: Tenant) -> Plan:
    """Nothing moves: the next rebalance may."""
    kept = pin_of(state.pins, tenant)
    loads = node_loads(state.nodes, state.shard_groups)
    if kept is not None:
        return Plan((ReleaseTenant(kept.tenant),), loads, loads)
    known = ", ".join(pin.tenant.title for pin in state.pins)
    there = f"Pinned: {known}." if known else "No tenant is pinned."
    return Plan((), loads, loads, notes=(f"{tenant.title} is not pinned, so there is nothing to let go. {there}",))
