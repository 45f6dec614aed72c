"""Reads what preflight looks at: a few statements, whatever the number of schemas. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg

from orchestrator.clients.checks.preflight_sql import FACTS, NODE, PAIRS
from orchestrator.clients.checks.structure import ON_EVERY_NODE, StructureClient
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.checks.preflight import Facts, NodeFacts
from orchestrator.core.observed.state import ClusterState

# A transaction that is open for longer, in seconds, is worth a word before shards move.
LONG = 60


class PreflightClient:
    """`connection` gives the run's own connection to the coordinator."""

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connection = connection

    def read(self, state: ClusterState, pools: int = 0, long: int = LONG) -> Facts:
        """`pools` is how many connections PgBouncer may open on a node."""
        connection = self._connection()
        with translated("look at every node"):
            rows = connection.execute(ON_EVERY_NODE, (NODE.replace("{seconds}", str(int(long))),)).fetchall()
        nodes = tuple(_node(*row) for row in rows)
        structure = () if any(node.error for node in nodes) else StructureClient(self._connection).read()
        with translated("look at tables and roles"):
            told = connection.execute(FACTS).fetchone()
            pairs = connection.execute(PAIRS).fetchall()
        facts = dict(told[0]) if told else {}
        owners = {role: (bool(can), bool(member)) for role, (can, member) in facts.pop("owners", {}).items()}
        lists = {name: tuple(names) for name, names in facts.items()}
        unreachable = tuple((str(source), str(target)) for source, target in pairs)
        return Facts(state, nodes, structure, unreachable, owners=owners, pools=pools, **lists)


def _node(node_id: int, name: str, success: bool, result: str) -> NodeFacts:
    if not success:
        return NodeFacts(node_id, name, error=result.strip().splitlines()[0] if result.strip() else "no answer")
    told: dict[str, Any] = json.loads(result)
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return NodeFacts(node_id, name, "", **facts)
