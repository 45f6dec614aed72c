"""Options about moving: how, how many at once, and what slows it down."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import click

from orchestrator.cli.options import F

MODES = click.Choice(["auto", "force_logical", "block_writes"])
_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")


class Window(click.ParamType):  # type: ignore[type-arg]
    """From when to when, as seconds since midnight."""

    name = "HH:MM-HH:MM"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _WINDOW.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no window: write it like 22:00-05:00, in the time of this machine.", param, ctx)
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        return from_hour * 3600 + from_minute * 60, to_hour * 3600 + to_minute * 60


class Ceiling(click.ParamType):  # type: ignore[type-arg]
    """Milliseconds, or a multiple of what is usual: the argument of Limits by that name."""

    name = "MS|Nx"

    def convert(
        self, value: str | dict[str, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        try:
            found = float(value.removesuffix("x"))
        except ValueError:
            found = 0.0
        relative = value.endswith("x")
        if not (1 if relative else 0) < found < inf:
            self.fail(f"{value!r} is no limit: write milliseconds above 0, or a multiple above 1 like 2x.", param, ctx)
        return {"times" if relative else "max_p99": found}


def move_options(function: F) -> F:
    """How shard groups are moved, whichever they are."""
    for option in (
        click.option(
            "--verify",
            type=click.Choice(["quick", "full", "off"]),
            default="quick",
            show_default=True,
            help="How direct moves compare both copies before they commit: small groups row by row and large ones by a "
            "sample, every row, or not at all. Unless off, probe writes and sequences are checked as well.",
        ),
        click.option(
            "--max-write-pause",
            type=click.IntRange(min=10),
            default=500,
            show_default=True,
            metavar="MS",
            help="Longest wait of a write for a direct move; what does not fit is copied logically.",
        ),
        click.option(
            "--parallel", type=click.IntRange(1, 64), help="Moves at once. Default: two per node on the narrower side."
        ),
        click.option("--transfer-mode", type=MODES, default="auto", show_default=True, help="How Citus copies shards."),
    ):
        function = option(function)
    return function


def rebalance_options(function: F) -> F:
    """Which shard groups are moved, by whom and how."""
    function = move_options(function)
    for option in (
        click.option(
            "--moves",
            type=click.Choice(["auto", "direct", "job"]),
            default="auto",
            show_default=True,
            help="Who moves: Citus' background job, or direct moves; auto takes the faster one and says why.",
        ),
        click.option("--strategy", help="Rebalance strategy. Default: the cluster's own (by_disk_size)."),
    ):
        function = option(function)
    return function


def guard_options(function: F) -> F:
    """The load guard: only direct moves can be slowed down, so these choose them."""
    for option in (
        click.option("--window", type=Window(), help="Move only at these hours, e.g. 22:00-05:00."),
        click.option(
            "--max-cpu",
            type=click.FloatRange(1, 100),
            metavar="PERCENT",
            help="Slow down and pause while a node's processors are busier (Azure metrics).",
        ),
        click.option(
            "--max-p99",
            type=Ceiling(),
            help="Slow down and pause while the p99 of a small probe statement is higher; 2x: than twice what it is "
            "before the moves.",
        ),
    ):
        function = option(function)
    return function


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
