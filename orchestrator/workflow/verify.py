"""The last step: look at the cluster, not at the plan, and compare it with what was asked for."""

from __future__ import annotations

from orchestrator.core.state import ClusterState
from orchestrator.core.steps import VerifyCluster


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
