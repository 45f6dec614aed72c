"""A job is read while a node is down: without the bytes and phases that only the nodes know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from orchestrator.clients.cluster import citus_sql
from orchestrator.clients.cluster.citus import CitusClient


@dataclass
class Coordinator:
    """Answers from its own tables; `refusal` is what Citus 13.2 says when it asks a node that is down."""

    refusal: psycopg.Error
    closed: bool = False
    rows: tuple[dict[str, Any], ...] = ()

    def cursor(self, row_factory: object) -> Coordinator:
        return self

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, query: str, _values: object = None) -> Coordinator:
        if query == citus_sql.PROGRESS:
            raise self.refusal
        self.rows = ({"job_id": 4, "state": "running"},) if query == citus_sql.JOB else ()
        return self

    def fetchone(self) -> dict[str, Any]:
        return self.rows[0]

    def fetchall(self) -> tuple[dict[str, Any], ...]:
        return self.rows


@pytest.mark.parametrize(
    "refusal",
    [
        psycopg.errors.ConnectionFailure("cannot get the size because of a connection error"),
        psycopg.errors.InternalError_("could not fetch disk stats for node"),
    ],
    ids=["08006", "XX000"],
)
def test_a_job_is_read_while_the_nodes_cannot_be_asked(refusal: psycopg.Error) -> None:
    citus = CitusClient(lambda: pytest.fail("there is a connection"), "the lab")
    citus._open = Coordinator(refusal)  # type: ignore[assignment]
    assert citus.read_job(4).state == "running"
