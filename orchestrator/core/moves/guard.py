"""The load guard: from the latency of a probe, the processors and the hour to how many moves may run. Pure.

Moves begin slowly, slow down by halves and pause when it is too much, and come back by one step at a time when it was
well for a while: so a burst of load is answered within seconds, and moves do not swing between all and nothing. A move
under way cannot be slowed down, so what counts is also how many of a whole minute's looks were too slow: moves that
make more of them than a p99 allows wait until there is room for them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from typing import Literal

from orchestrator.core.size import duration

# Seconds of looks that tell how it is now, and how long the way down and the way up wait between two steps.
LOOKS_FOR, DOWN_AFTER, UP_AFTER = 5.0, 1.0, 5.0
# Going up again needs that much room below the limit.
ROOM = 0.8
# Seconds between two looks: about a hundred tell how it is, and they are a load of their own of under one percent.
LOOK_EVERY = 0.05
# The share of looks that moves may make slower than the limit: half of what a p99 allows, as a request of a service is
# more than one statement. So many slow looks come together before nothing new starts; until it does, time has to make
# up for half of them. No more are held against the moves than three minutes make up for: load of others is among them.
MAY_BE_SLOW = 0.005
MOST_SPENT, ENOUGH_LEFT, MOST_OWED = 4.0, 2.0, 18.0
# Seconds of looks before the moves from which a limit of so many times the usual latency is reckoned.
BASELINE_FOR = 30.0
SHARES = (0.0, 0.25, 0.5, 1.0)
DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user asked for. `window` is from when to when, in seconds since midnight; it may pass midnight.

    `max_p99` is in milliseconds; `times` asks for a limit of so many times what the probe's p99 is before the moves.
    """

    max_p99: float | None = None
    max_cpu: float | None = None
    window: tuple[int, int] | None = None
    times: float | None = None

    @property
    def any(self) -> bool:
        return self.probed or self.max_cpu is not None or self.window is not None

    @property
    def probed(self) -> bool:
        """Whether a probe has to be watched."""
        return self.max_p99 is not None or self.times is not None


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known now: looks of the probe as (seconds, milliseconds), percent of the processors, and
    the time of day in seconds since midnight."""

    looks: Sequence[tuple[float, float]] = ()
    cpu: float | None = None
    time_of_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The share of moves that may run at once, since when, and why it is not all of them.

    `spent` are the slow looks that the moves made and that are not made up for yet, as of `looked`.
    """

    share: float = 1.0
    since: float = 0.0
    reason: str = ""
    spent: float = 0.0
    looked: float = 0.0

    @property
    def state(self) -> Literal["going", "slowed", "paused"]:
        return "paused" if self.share == 0 else "slowed" if self.share < 1 else "going"

    def at_once(self, wished: int) -> int:
        return ceil(wished * self.share)


def first_pace(limits: Limits, now: float) -> Pace:
    """A quarter, where moves are watched: what they do to the load is seen before there are more of them."""
    if not limits.probed and limits.max_cpu is None:
        return Pace(since=now, looked=now)
    return Pace(SHARES[1], now, "the load guard begins with a quarter of them", looked=now)


def next_pace(pace: Pace, limits: Limits, signals: Signals, now: float, under_way: bool = True) -> Pace:
    """Outside the window nothing runs; else one step down while something is too much, one step up when all is well.

    Nothing new starts either once the moves have made too many looks slow, until that is made up for. What is slow
    while none is under way is not their doing.
    """
    pace = _charged(pace, limits, signals, now, under_way or pace.share > 0)
    if limits.window is not None and not in_window(limits.window, signals.time_of_day):
        opens = (limits.window[0] - signals.time_of_day) % DAY
        return _at(pace, 0.0, pace.since if pace.share == 0 else now, f"the window opens in {duration(opens)}")
    waited, place = now - pace.since, SHARES.index(pace.share)
    if found := _too_much(limits, signals, now, 1.0):
        if place == 0:
            return replace(pace, reason=found, since=now)
        return pace if waited < DOWN_AFTER else _at(pace, SHARES[place - 1], now, found)
    if pace.spent > MOST_SPENT and place > 0:
        return _at(pace, 0.0, now, _owed(pace, limits))
    if pace.share == 1 or waited < UP_AFTER:
        return pace
    if pending := _too_much(limits, signals, now, ROOM) or (_owed(pace, limits) if pace.spent > ENOUGH_LEFT else ""):
        return replace(pace, reason=pending)
    share = SHARES[place + 1]
    return _at(pace, share, now, pace.reason if share < 1 else "")


def _at(pace: Pace, share: float, since: float, reason: str) -> Pace:
    return replace(pace, share=share, since=since, reason=reason)


def _charged(pace: Pace, limits: Limits, signals: Signals, now: float, under_way: bool) -> Pace:
    """With the slow looks since the last time, less those that so much time makes up for."""
    spent = pace.spent - (now - pace.looked) / LOOK_EVERY * MAY_BE_SLOW
    if limits.max_p99 is not None and under_way:
        # One that has not come back yet is from now, and counts once it has.
        spent += sum(ms > limits.max_p99 for at, ms in signals.looks if pace.looked < at < now)
    return replace(pace, spent=min(MOST_OWED, max(0.0, spent)), looked=now)


def _owed(pace: Pace, limits: Limits) -> str:
    seconds = (pace.spent - ENOUGH_LEFT) * LOOK_EVERY / MAY_BE_SLOW
    return f"they made too many of the probe's looks slower than {limits.max_p99:g} ms and rest for {duration(seconds)}"


def _too_much(limits: Limits, signals: Signals, now: float, room: float) -> str:
    if limits.max_p99 is not None:
        seen = p99(signals.looks, now)
        if seen is not None and seen > limits.max_p99 * room:
            return f"the probe's p99 is {seen:.1f} ms, the limit is {limits.max_p99:g} ms"
    if limits.max_cpu is not None and signals.cpu is not None and signals.cpu > limits.max_cpu * room:
        return f"the processors are busy to {signals.cpu:.0f} %, the limit is {limits.max_cpu:g} %"
    return ""


def usual_p99(looks: Sequence[tuple[float, float]], now: float) -> float | None:
    """The median of some spells' p99, so that one burst does not raise what is usual. None without any look."""
    spells = (p99(looks, now - back * LOOKS_FOR) for back in range(int(BASELINE_FOR / LOOKS_FOR)))
    found = [milliseconds for milliseconds in spells if milliseconds is not None]
    return median(found) if found else None


def p99(looks: Sequence[tuple[float, float]], now: float) -> float | None:
    """Milliseconds that 99 % of the latest looks stay under; with few looks the slowest counts. None without any."""
    recent = sorted(milliseconds for at, milliseconds in looks if 0 <= now - at <= LOOKS_FOR)
    if not recent:
        return None
    return recent[ceil(len(recent) * 0.99) - 1]


def in_window(window: tuple[int, int], time_of_day: float) -> bool:
    """The same hour twice means the whole day."""
    begins, ends = window
    return (time_of_day - begins) % DAY < ((ends - begins) % DAY or DAY)
