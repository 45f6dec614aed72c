"""Which moves a step of direct moves makes, asked when it begins: Citus' own plan, unless pins or an undo say more."""

from __future__ import annotations

from orchestrator.core.errors import RebalanceFailed
from orchestrator.core.observed.state import ClusterState
from orchestrator.core.planning.isolation import pin_moves
from orchestrator.core.planning.placement import Move, held_pins, predict
from orchestrator.core.planning.steps import MoveShards
from orchestrator.workflow.protocols import Mover
from orchestrator.workflow.waiting import Run, when_connected

NO_REFERENCE_TABLES = (
    "A node lacks reference tables, which Citus copies in a rebalance only. Run `orchestrator rebalance`, then the "
    "same command again."
)


def what_to_move(step: MoveShards, mover: Mover, state: ClusterState) -> Run[tuple[Move, ...]]:
    """Raises RebalanceFailed where a tenant would come to a node that lacks reference tables."""
    if step.exactly:
        where = {group.shard_id: group.node_id for group in state.shard_groups}
        return tuple(move for move in step.moves if where.get(move.shard_id) == move.source)
    if step.tenant is not None:
        if mover.reference_tables_missing():
            raise RebalanceFailed(NO_REFERENCE_TABLES)
        return pin_moves(state, state.pins)
    if held_pins(state.shard_groups, state.nodes, state.pins):
        return predict(state.shard_groups, state.nodes, state.strategy(step.strategy), pins=state.pins).moves
    return (yield from when_connected(lambda: mover.plan(step.strategy), "ask Citus for its moves"))
