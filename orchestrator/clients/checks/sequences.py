"""Asks every node for the sequences of distributed tables: their last values and the ranges they take them from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

from orchestrator.clients.checks.structure import ON_EVERY_NODE
from orchestrator.clients.cluster.citus_errors import translated
from orchestrator.core.checks.verification import NodeSequences, SequenceState

# A value is not asked for where that would be refused: the administrator is a member of the services' roles only.
_SEQUENCES: LiteralString = """
    SELECT json_build_object(
        'group_id', (SELECT groupid FROM pg_catalog.pg_dist_local_group),
        'sequences', (
            SELECT coalesce(json_agg(json_build_array(
                format('%s.%s', space.nspname, class.relname),
                CASE WHEN has_sequence_privilege(class.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(class.oid) END,
                seq.seqincrement, seq.seqmin, seq.seqmax, seq.seqcycle)), '[]')
            FROM pg_catalog.pg_dist_object known
            JOIN pg_catalog.pg_class class ON class.oid = known.objid AND class.relkind = 'S'
            JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
            JOIN pg_catalog.pg_sequence seq ON seq.seqrelid = class.oid
            WHERE known.classid = 'pg_catalog.pg_class'::regclass)
    )::text
"""

_ANY: LiteralString = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_dist_object known
        JOIN pg_catalog.pg_class class ON class.oid = known.objid AND class.relkind = 'S'
        WHERE known.classid = 'pg_catalog.pg_class'::regclass)
"""


def have_sequences(connection: Callable[[], psycopg.Connection[Any]]) -> bool:
    """Whether any distributed table has one: asking every node takes a connection to each."""
    with translated("look for sequences"):
        row = connection().execute(_ANY).fetchone()
    return bool(row and row[0])


def read_sequences(connection: Callable[[], psycopg.Connection[Any]]) -> tuple[NodeSequences, ...]:
    """One answer for each node."""
    with translated("read the sequences"):
        rows = connection().execute(ON_EVERY_NODE, (_SEQUENCES.strip(),)).fetchall()
    return tuple(_node(*row) for row in rows)


def _node(node_id: int, name: str, success: bool, result: str) -> NodeSequences:
    if not success:
        return NodeSequences(node_id, name, error=result.strip().splitlines()[0] if result.strip() else "no answer")
    told = json.loads(result)
    sequences = {line[0]: SequenceState(*line[1:]) for line in told["sequences"]}
    return NodeSequences(node_id, name, told["group_id"], sequences)
