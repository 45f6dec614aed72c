"""Asks every node at once what tables and metadata it has, for verification and preflight. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg

from orchestrator.clients.checks.structure_sql import STRUCTURE
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.observed.structure import Difference, NodeStructure

ON_EVERY_NODE = """
    SELECT node.nodeid, format('%%s (%%s:%%s)', node.nodeid, node.nodename, node.nodeport), answer.success,
           answer.result
    FROM run_command_on_all_nodes(%s) answer JOIN pg_catalog.pg_dist_node node USING (nodeid) ORDER BY 1
"""


class StructureClient:
    """`connection` gives the run's own connection to the coordinator."""

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connection = connection

    def read(self) -> tuple[NodeStructure, ...]:
        """One answer for each node."""
        with translated("compare the nodes"):
            rows = self._connection().execute(ON_EVERY_NODE, (STRUCTURE.strip(),)).fetchall()
        return tuple(_node(*row) for row in rows)


def _node(node_id: int, name: str, success: bool, result: str) -> NodeStructure:
    if not success:
        return NodeStructure(node_id, name, error=result.strip().splitlines()[0] if result.strip() else "no answer")
    told = json.loads(result)
    differing = tuple(Difference(**line) for line in told["differing"])
    return NodeStructure(node_id, name, "", told["group_id"], differing, told["tables"], told["metadata"])
