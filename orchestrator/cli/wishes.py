"""The options about moving, as every verb takes them, in the words of the planner."""

from __future__ import annotations

from typing import Any


def wishes(
    strategy: str | None,
    transfer_mode: str,
    parallel: int | None,
    moves: str,
    max_write_pause: int,
    verify: str,
) -> dict[str, Any]:
    """The options about moving, as the planner takes them."""
    return {
        "strategy": strategy,
        "transfer_mode": transfer_mode,
        "parallel": parallel,
        "moves": moves,
        "max_pause": max_write_pause / 1000,
        "verify": verify,
    }
