"""What Azure Monitor says of the cluster in a span of time, and what changed from before a scale-out to after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.errors import Refused

# As Azure's reference has them for flexible servers; the unit is for people.
METRICS = {
    "cpu_percent": "%", "memory_percent": "%", "storage_percent": "%", "iops": "", "active_connections": "",
}  # fmt: skip
MINUTE = timedelta(minutes=1)
SPAN = timedelta(hours=1)
# Azure keeps metrics for 93 days, and one value a minute arrives some minutes later.
KEPT = timedelta(days=93)
LATE = timedelta(minutes=5)
# Storage that is this full (percent) is close to where Azure makes a server read-only.
FULL = 85.0
BUSY = 80.0


class NoSpan(Refused):
    """The time before or after cannot be compared."""


@dataclass(frozen=True, slots=True)
class Span:
    start: datetime
    end: datetime


def whole_minutes(span: Span) -> Span:
    """Those that lie within it: a value of Azure is that of a whole minute. It may end before it starts."""
    begun = span.start.replace(second=0, microsecond=0)
    return Span(begun if begun == span.start else begun + MINUTE, span.end.replace(second=0, microsecond=0))


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric in a span. `node` is empty for the whole cluster; `minutes` are those that have a value."""

    metric: str
    node: str
    average: float
    maximum: float
    minutes: int


@dataclass(frozen=True, slots=True)
class Change:
    """None where there is nothing: no such node then, or no values yet."""

    metric: str
    node: str
    before: Reading | None
    after: Reading | None


def spans(before: datetime, after: datetime, now: datetime) -> tuple[Span, Span]:
    """An hour that ends where the change began, and at most an hour from its end. Raises NoSpan."""
    if before > after:
        raise NoSpan(f"The change ends at {after:%Y-%m-%d %H:%M %Z} before it begins: give --before the earlier time.")
    if after > now:
        raise NoSpan(f"{after:%Y-%m-%d %H:%M %Z} is in the future: there are no metrics after it yet.")
    if before - SPAN < now - KEPT:
        raise NoSpan(f"Azure keeps metrics for {KEPT.days} days; {before:%Y-%m-%d} is too long ago.")
    return Span(before - SPAN, before), Span(after, min(after + SPAN, now))


def changes(before: Sequence[Reading], after: Sequence[Reading]) -> tuple[Change, ...]:
    """By metric, then by node."""
    earlier = {(one.metric, one.node): one for one in before}
    later = {(one.metric, one.node): one for one in after}
    keys = sorted(earlier.keys() | later.keys(), key=lambda key: (list(METRICS).index(key[0]), key[1]))
    return tuple(Change(*key, earlier.get(key), later.get(key)) for key in keys)


def remarks(found: Sequence[Change], after: Span, now: datetime) -> tuple[str, ...]:
    """What a reader should know: values that are missing, a cluster that is still full or busy."""
    said = []
    missing = [name for name in METRICS if not any(one.metric == name and one.after for one in found)]
    if missing:
        wait = (
            "" if now - after.start > LATE + SPAN else f"; they arrive late, try again after {after.start + LATE:%H:%M}"
        )
        said.append(f"No values yet after the change: {', '.join(missing)}{wait}.")
    lost = [name for name in METRICS if not any(one.metric == name and one.before for one in found)]
    if lost:
        said.append(f"No values before the change: {', '.join(lost)}.")
    if any(one.after for one in found) and not any(one.node for one in found):
        said.append(
            "Azure gives no value per node here, so these are of the whole cluster; `orchestrator status` has the "
            "bytes of every node."
        )
    said += [text for one in found if one.after for text in _limits(one.after)]
    return tuple(said)


def _limits(now: Reading) -> list[str]:
    where = f" of {now.node}" if now.node else ""
    if now.metric == "storage_percent" and now.maximum >= FULL:
        return [f"Storage{where} is {now.maximum:.0f} % full: grow it, or add nodes and rebalance, before writes stop."]
    if now.metric in {"cpu_percent", "memory_percent"} and now.average >= BUSY:
        return [f"{now.metric}{where} was {now.average:.0f} % on average: the cluster is still busy."]
    return []


def changes_json(found: Sequence[Change], before: Span, after: Span, said: Sequence[str]) -> dict[str, Any]:
    return {
        "before": {"from": before.start.isoformat(), "to": before.end.isoformat()},
        "after": {"from": after.start.isoformat(), "to": after.end.isoformat()},
        "changes": [asdict(one) for one in found],
        "remarks": list(said),
    }
