"""Flexible server or elastic cluster. Pure.

The document's own order: the default is a flexible server. A cluster is worth its redesign only where one server does
not reach (now, or within the horizon), and only where the data can be cut: by tenant, with queries that stay in one.
Where one server does not reach and the data cannot be cut, its limits have to be accepted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.core.advice.signals import Fit, Signals
from orchestrator.core.advice.thresholds import THRESHOLDS, threshold
from orchestrator.core.desired.limits import limit

Target = Literal["flexible server", "elastic cluster"]
_NAMES = {"storage": "data", "connections": "sessions at work", "cpu": "busy vCores at the peak", "wal": "WAL"}


@dataclass(frozen=True, slots=True)
class Reach:
    """One signal beside what one server reaches. `months` until there, by growth; None where it is not known."""

    name: str
    now: float | None
    limit: float
    unit: str
    months: float | None = None

    @property
    def title(self) -> str:
        return _NAMES[self.name]

    @property
    def ratio(self) -> float | None:
        return None if self.now is None else self.now / self.limit

    @property
    def beyond(self) -> bool:
        """Not reached by one server now, or not within the horizon."""
        if self.ratio is None:
            return False
        return self.ratio >= 1 or (self.months is not None and self.months <= threshold("horizon"))


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a way of sharding must have. `ok` is None where it is not known. `at_most` turns it round."""

    name: str
    value: float | None
    limit: float
    text: str
    at_most: bool = False

    @property
    def ok(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Way:
    """A way of sharding with its conditions. It fits where none fails and the essential ones are known."""

    fit: Fit
    conditions: tuple[Condition, ...]

    @property
    def failed(self) -> tuple[Condition, ...]:
        return tuple(one for one in self.conditions if one.ok is False)

    @property
    def unknown(self) -> tuple[Condition, ...]:
        return tuple(one for one in self.conditions if one.ok is None)

    @property
    def fits(self) -> bool:
        # Without a word about the statements nobody can say that they stay in one tenant.
        return not self.failed and self.fit.covered is not None and self.fit.routed is not None

    @property
    def title(self) -> str:
        return "by schema" if self.fit.sharding == "schema" else f"by row, by {self.fit.by}"


@dataclass(frozen=True, slots=True)
class Advice:
    """`way` is how to shard, also where a flexible server is advised and the data could be cut some day."""

    target: Target
    way: Way | None
    nodes: int
    reaches: tuple[Reach, ...]
    ways: tuple[Way, ...]
    reasons: tuple[str, ...]
    saturated: str | None
    analytic: bool


def decide(signals: Signals, fits: Sequence[Fit], nodes: int | None) -> Advice:
    """`nodes` None: as many as the furthest signal needs. Ways are in the order of preference."""
    reaches = _reaches(signals)
    beyond = [reach for reach in reaches if reach.beyond]
    nodes = nodes or needed_nodes(reaches)
    analytic = (signals.analytic or 0) >= threshold("analytic")
    ways = tuple(Way(fit, _conditions(fit, nodes, analytic)) for fit in fits)
    way = next((way for way in ways if way.fits), None)
    needed = bool(beyond) or signals.saturated is not None
    target: Target = "elastic cluster" if needed and way else "flexible server"
    reasons = (*_need_reasons(reaches, beyond, signals), *_way_reasons(ways, way, needed, analytic, signals))
    return Advice(target, way, nodes, reaches, ways, reasons, signals.saturated, analytic)


def needed_nodes(reaches: Sequence[Reach]) -> int:
    """As many nodes as keep every known signal under its limit at the horizon, each as large as one server."""
    known = limit("cluster.nodes")
    most = max((ahead(reach) for reach in reaches), default=0.0)
    return min(max(math.ceil(most), known.minimum), known.maximum)


def ahead(reach: Reach) -> float:
    """The ratio at the horizon."""
    if reach.ratio is None:
        return 0.0
    if reach.months is None or reach.ratio >= 1:
        return reach.ratio
    growth = (1 - reach.ratio) / reach.months if reach.months else 0.0
    return reach.ratio + growth * threshold("horizon")


def _reaches(signals: Signals) -> tuple[Reach, ...]:
    found = []
    for name in _NAMES:
        now, most = getattr(signals, name), threshold(name)
        months = None
        if name == "storage" and now is not None and signals.growth and now < most:
            months = (most - now) / signals.growth if signals.growth > 0 else None
        found.append(Reach(name, now, most, THRESHOLDS[name].unit, months))
    return tuple(found)


def _conditions(fit: Fit, nodes: int, analytic: bool) -> tuple[Condition, ...]:
    even = Condition("hottest", fit.hottest, 1 / nodes, f"the largest part, of which {nodes} nodes hold one", True)
    units = Condition(
        "units", fit.units, threshold("units") * nodes, "schemas" if fit.sharding == "schema" else "values"
    )
    covered = Condition("covered", fit.covered, threshold("covered"), "of the data can be spread")
    if fit.sharding == "schema":
        return (
            covered,
            Condition("crossing", fit.routed, threshold("crossing"), "of the calls stay in one schema"),
            even,
            units,
        )
    if analytic:
        # Sums over all tenants are to run on all nodes at once; what must stay on a node are their joins.
        inside = Condition("joined", fit.joined, threshold("joined"), f"of the joins are along {fit.by}")
        return covered, inside, even, units
    inside = Condition("routed", fit.routed, threshold("routed"), f"of the calls give a value for {fit.by}")
    along = Condition("joined", fit.joined, threshold("joined"), f"of the joins are along {fit.by}")
    return covered, inside, along, even, units


def amount(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 10 or value == 0 else f"{value:.2g} {unit}"


def percent(share: float) -> str:
    if 0 < share < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.2g} %"


def parts(now: float, most: float, unit: str) -> str:
    return f"{amount(now, '').strip()} of {amount(most, unit)} ({percent(now / most)})"


def months_text(months: float) -> str:
    if months < 24:
        return f"{months:.0f} months"
    return f"{months / 12:.0f} years" if months < 2400 else "more than 200 years"


def _need_reasons(reaches: Sequence[Reach], beyond: Sequence[Reach], signals: Signals) -> list[str]:
    said = []
    for reach in beyond:
        text = f"One server does not reach: {reach.title} {amount(reach.now or 0, reach.unit)}"
        said.append(
            f"{text}, limit {amount(reach.limit, reach.unit)}."
            if reach.months is None
            else f"{text} pass {amount(reach.limit, reach.unit)} in {months_text(reach.months)}."
        )
    if signals.saturated:
        said.append(f"The largest server saturates under the expected peak: {signals.saturated.upper()}.")
    known = [reach for reach in reaches if reach.ratio is not None]
    if not said and known:
        nearest = max(known, key=lambda reach: reach.ratio or 0)
        said.append(
            f"One server reaches: the nearest limit is that of {nearest.title}, "
            f"{parts(nearest.now or 0, nearest.limit, nearest.unit)}."
        )
    elif not said:
        said.append("Nothing is known of size and load, so a flexible server, the default, is taken to reach.")
    return said


def _way_reasons(ways: Sequence[Way], way: Way | None, needed: bool, analytic: bool, signals: Signals) -> list[str]:
    said = []
    if analytic:
        said.append(f"The load is analytic: {percent(signals.analytic or 0)} of the time goes to sums and counts.")
    if way is not None:
        facts = ", ".join(condition_text(one) for one in way.conditions if one.ok is not None)
        said.append(f"The data can be cut {way.title}: {facts}.")
    first = {other.fit.sharding: other for other in reversed(ways)}
    said += [why_not(other) for kind, other in sorted(first.items()) if way is None or kind != way.fit.sharding]
    if way is None and not ways:
        said.append(
            "Nothing says that the data belongs to tenants: no column and no schemas along which it could be cut."
        )
    if needed and way is None:
        said.append("So a cluster would ask all nodes most of the time: accept the limits of one server, or redesign.")
    return said


def why_not(way: Way) -> str:
    if way.failed:
        return f"Not {way.title}: " + "; ".join(condition_text(one) for one in way.failed) + "."
    if way.fits:
        return f"It could be cut {way.title} too."
    missing = "what share of the calls stays in one tenant" if way.fit.routed is None else "how much data it covers"
    return f"Not decided {way.title}: {missing} is not known."


def condition_text(one: Condition) -> str:
    """What was found and, where that is not enough, what would be."""
    if one.value is None:
        return f"{one.text}: unknown"
    share = one.name != "units"
    shown = percent(one.value) if share else f"{one.value:,.0f}"
    wanted = percent(one.limit) if share else f"{one.limit:,.0f}"
    text = f"the largest part has {shown}" if one.name == "hottest" else f"{shown} {one.text}"
    if one.ok:
        return text
    return f"{text}, {'at most' if one.at_most else 'at least'} {wanted} needed"
