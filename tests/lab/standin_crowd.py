"""Schemas of the stand-in that a rebalance has to move, and the tasks that do it."""

from __future__ import annotations

from typing import Any

from tests.fix_standin import Standin


def crowd(standin: Standin, *names: str) -> None:
    """Distributed schemas that all lie on node 1, so that a rebalance has something to do."""
    standin.make_schemas(*names)
    standin.run("UPDATE pg_dist_placement SET groupid = 0")


def tasks(standin: Standin) -> list[tuple[Any, ...]]:
    return standin.run("SELECT task_id, status, retry_count, message FROM pg_dist_background_task ORDER BY task_id")
