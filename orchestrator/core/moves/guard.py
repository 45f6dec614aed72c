"""The load guard: from the latency of a probe, the processors and the hour to how many moves may run. Pure.

Moves begin slowly, slow down by halves and pause when it is too much, and come back by one step at a time when it was
well for a while: so a burst of load is answered within seconds, and moves do not swing between all and nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from orchestrator.core.size import duration

# Seconds of looks that count, and how long the way down and the way up wait between two steps.
LOOKS_FOR, DOWN_AFTER, UP_AFTER = 5.0, 1.0, 5.0
# Going up again needs that much room below the limit.
ROOM = 0.8
SHARES = (0.0, 0.25, 0.5, 1.0)
DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user asked for. `window` is from when to when, in seconds since midnight; it may pass midnight."""

    max_p99: float | None = None
    max_cpu: float | None = None
    window: tuple[int, int] | None = None

    @property
    def any(self) -> bool:
        return self.max_p99 is not None or self.max_cpu is not None or self.window is not None


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known now: looks of the probe as (seconds, milliseconds), percent of the processors, and
    the time of day in seconds since midnight."""

    looks: Sequence[tuple[float, float]] = ()
    cpu: float | None = None
    time_of_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The share of moves that may run at once, since when, and why it is not all of them."""

    share: float = 1.0
    since: float = 0.0
    reason: str = ""

    @property
    def state(self) -> Literal["going", "slowed", "paused"]:
        return "paused" if self.share == 0 else "slowed" if self.share < 1 else "going"

    def at_once(self, wished: int) -> int:
        return ceil(wished * self.share)


def first_pace(limits: Limits, now: float) -> Pace:
    """A quarter, where moves are watched: what they do to the load is seen before there are more of them."""
    if limits.max_p99 is None and limits.max_cpu is None:
        return Pace(since=now)
    return Pace(SHARES[1], now, "the load guard begins with a quarter of them")


def next_pace(pace: Pace, limits: Limits, signals: Signals, now: float) -> Pace:
    """Outside the window nothing runs; else one step down while something is too much, one step up when all is well."""
    if limits.window is not None and not in_window(limits.window, signals.time_of_day):
        opens = (limits.window[0] - signals.time_of_day) % DAY
        return Pace(0.0, pace.since if pace.share == 0 else now, f"the window opens in {duration(opens)}")
    found = _too_much(limits, signals, now, 1.0)
    if found:
        if pace.share == 0:
            return replace(pace, reason=found, since=now)
        if now - pace.since < DOWN_AFTER:
            return pace
        return Pace(SHARES[SHARES.index(pace.share) - 1], now, found)
    if pace.share < 1 and now - pace.since >= UP_AFTER:
        if pending := _too_much(limits, signals, now, ROOM):
            return replace(pace, reason=pending)
        share = SHARES[SHARES.index(pace.share) + 1]
        return Pace(share, now, pace.reason if share < 1 else "")
    return pace


def _too_much(limits: Limits, signals: Signals, now: float, room: float) -> str:
    if limits.max_p99 is not None:
        seen = p99(signals.looks, now)
        if seen is not None and seen > limits.max_p99 * room:
            return f"the probe's p99 is {seen:.1f} ms, the limit is {limits.max_p99:g} ms"
    if limits.max_cpu is not None and signals.cpu is not None and signals.cpu > limits.max_cpu * room:
        return f"the processors are busy to {signals.cpu:.0f} %, the limit is {limits.max_cpu:g} %"
    return ""


def p99(looks: Sequence[tuple[float, float]], now: float) -> float | None:
    """Milliseconds that 99 % of the latest looks stay under; with few looks the slowest counts. None without any."""
    recent = sorted(milliseconds for at, milliseconds in looks if now - at <= LOOKS_FOR)
    if not recent:
        return None
    return recent[ceil(len(recent) * 0.99) - 1]


def in_window(window: tuple[int, int], time_of_day: float) -> bool:
    """The same hour twice means the whole day."""
    begins, ends = window
    return (time_of_day - begins) % DAY < ((ends - begins) % DAY or DAY)
