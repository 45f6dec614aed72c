"""The last step: look at the cluster, not at the plan, and compare it with what was asked for.

Every node is asked what it has: shards against their tables, tables and metadata across the nodes. Somebody else's DDL
reaches the nodes one after the other, so only what several looks agree on is a problem.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.errors import VerificationFailed
from orchestrator.core.events import Notice, Verified, Waiting
from orchestrator.core.observed.state import ClusterState, ShardGroup, node_loads, skew
from orchestrator.core.observed.structure import problems
from orchestrator.core.planning.steps import VerifyCluster
from orchestrator.workflow.protocols import Inspector
from orchestrator.workflow.waiting import NO_TIMEOUT, Run, when_connected

LOOKS, BETWEEN_LOOKS = 3, 1.0


def verified(
    number: int,
    step: VerifyCluster,
    state: ClusterState,
    before: Sequence[ShardGroup],
    inspector: Inspector | None,
) -> Run[str]:
    """Raises VerificationFailed with everything that is not as it should be."""
    failures = list(verify(step, state))
    if inspector is not None:
        failures += yield from _inspect(number, state, inspector)
    if failures:
        raise VerificationFailed(failures)
    if note := balance_note(before, state):
        yield Notice(note)
    return "everything is as asked for"


def _inspect(number: int, state: ClusterState, inspector: Inspector) -> Run[tuple[str, ...]]:
    began = yield Waiting(0, "compare the nodes", NO_TIMEOUT)
    nodes = yield from when_connected(inspector.read, "compare the nodes")
    found = problems(nodes)
    for _ in range(LOOKS - 1):
        if not found:
            break
        yield Waiting(BETWEEN_LOOKS, "look again at what differs", NO_TIMEOUT)
        nodes = yield from when_connected(inspector.read, "compare the nodes")
        again = problems(nodes)
        found = tuple(problem for problem in found if problem in again)
    now = yield Waiting(0, "compare the nodes", NO_TIMEOUT)
    tables = {name for node in nodes for name in node.tables or ()}
    schemas = {group.schema for group in state.shard_groups if group.schema}
    yield Verified(number, len(schemas), len(tables), 0, "structure", round(now - began, 3), found)
    return found


def balance_note(before: Sequence[ShardGroup], state: ClusterState) -> str:
    """What to say when the fullest node holds a larger share of the bytes than before; empty when it does not."""
    was, now = skew(node_loads(state.nodes, tuple(before))), skew(node_loads(state.nodes, state.shard_groups))
    if was is None or now is None or now <= was + 0.01:
        return ""
    return (
        f"The fullest node holds {now:.2f} times the average by bytes, and {was:.2f} times before: the strategy weighs "
        "shard groups by more than their bytes (citus.rebalancer_by_disk_size_base_cost), or data grew meanwhile."
    )


def verify(step: VerifyCluster, state: ClusterState) -> tuple[str, ...]:
    """What is not as it should be, as sentences; empty when all is well."""
    failures: list[str] = []
    joined = sum(node.joined for node in state.nodes)
    if joined != step.nodes:
        failures.append(f"{joined} of {step.nodes} nodes are active, have the metadata and may hold shards")
    if state.server is not None and state.server.nodes != step.nodes:
        failures.append(f"Azure says that the cluster has {state.server.nodes} nodes, not {step.nodes}")
    lost = sorted(set(step.shard_ids) - {group.shard_id for group in state.shard_groups})
    if lost:
        failures.append(f"shard groups {lost[:5]} existed before and are gone: were their tables dropped meanwhile?")
    doubled = len(state.shard_groups) - len({group.shard_id for group in state.shard_groups})
    if doubled:
        failures.append(f"{doubled} shard groups are on two nodes at once")
    if state.kept_settings:
        failures.append("settings raised for the rebalance were not put back: " + ", ".join(state.kept_settings))
    return tuple(failures)
