"""Facts and answers brought to the numbers that the decision compares with its thresholds. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.core.advice.answers import Answers
from orchestrator.core.advice.candidates import Candidate, routed
from orchestrator.core.advice.classes import Alike
from orchestrator.core.advice.facts import Database, Query, share
from orchestrator.core.advice.schemas import SchemaFit

GB = 2.0**30
MB = 1e6
MONTH = 365.25 / 12 * 86400
_VCORES = re.compile(r"^Standard_[A-Za-z]+?(\d+)")
Sharding = Literal["schema", "row"]


@dataclass(frozen=True, slots=True)
class Signals:
    """What grows: GB, GB a month, sessions at work, busy vCores, MB of WAL a second. None is unknown."""

    storage: float | None = None
    growth: float | None = None
    connections: float | None = None
    cpu: float | None = None
    wal: float | None = None
    saturated: str | None = None
    analytic: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """One way of sharding, in shares from 0 to 1. `units` are the schemas, or the values of the column."""

    sharding: Sharding
    by: str
    covered: float | None = None
    routed: float | None = None
    joined: float | None = None
    keys: float | None = None
    hottest: float | None = None
    hottest_in: str = ""
    units: float | None = None


def signals(database: Database | None, candidates: Sequence[Candidate], answers: Answers) -> Signals:
    """What was answered wins over what was read."""
    load, peak, data = (database.load if database else None), answers.peak, answers.data
    growth = load.growth_bytes * MONTH / GB if load and load.growth_bytes is not None else None
    wal = load.wal_bytes / MB if load and load.wal_bytes is not None else None
    return Signals(
        _first(data.size_gb, database.bytes / GB if database else None),
        _first(data.growth_gb_per_month, growth),
        _first(peak.active_sessions, load.active if load else None),
        _busy(answers),
        _first(peak.wal_mb_per_second, wal),
        peak.saturated if peak.saturated != "none" else None,
        _first(_portion(answers.queries.analytic_percent), _analytic(database, candidates)),
    )


def row_fit(candidate: Candidate, answers: Answers) -> Fit:
    return _answered(
        Fit(
            "row",
            candidate.name,
            candidate.covered,
            candidate.routed,
            candidate.joined,
            candidate.keys,
            candidate.hottest,
            candidate.hottest_in,
            candidate.distinct,
        ),
        answers,
    )


def schemas_fit(found: SchemaFit, answers: Answers) -> Fit:
    keys = None if not found.bytes else 0.0 if found.crossing_keys else 1.0
    fit = Fit(
        "schema", "schema", found.covered, found.routed, None, keys, found.hottest, found.hottest_in, len(found.bytes)
    )
    return _answered(fit, answers)


def answered_fits(answers: Answers) -> tuple[Fit, ...]:
    """Without a database there is what was answered, and nothing else."""
    if answers.data.tenancy == "schema":
        return (_answered(Fit("schema", "schema"), answers),)
    if answers.data.tenancy == "column" or answers.data.tenant_column:
        return (_answered(Fit("row", answers.data.tenant_column or "the tenant's column"), answers),)
    return ()


def _answered(fit: Fit, answers: Answers) -> Fit:
    data, queries = answers.data, answers.queries
    kind = {"schema": "schema", "row": "column"}[fit.sharding]
    if data.tenancy not in (None, kind) or (fit.sharding == "row" and data.tenant_column not in (None, fit.by)):
        return fit
    return Fit(
        fit.sharding,
        fit.by,
        _first(_portion(data.covered_percent), fit.covered),
        _first(_portion(queries.one_tenant_percent), fit.routed),
        _first(_portion(queries.joins_by_tenant_percent), fit.joined),
        _first(_portion(data.keys_percent), fit.keys),
        _first(_portion(data.largest_tenant_percent), fit.hottest),
        "the largest tenant" if data.largest_tenant_percent is not None else fit.hottest_in,
        _first(data.tenants, fit.units),
    )


def vcores(sku: str | None) -> int | None:
    found = _VCORES.match(sku or "")
    return int(found[1]) if found else None


def _busy(answers: Answers) -> float | None:
    cores, percent = vcores(answers.server.sku), answers.peak.cpu_percent
    return None if percent is None or cores is None else cores * percent / 100


def _analytic(database: Database | None, candidates: Sequence[Candidate]) -> float | None:
    """Share of the time that goes to aggregates which no value of the best candidate narrows down."""
    if database is None or not database.usages:
        return None
    best = candidates[0].alike if candidates else None
    known = [usage for usage in database.usages if usage.queries]
    wide = sum(usage.seconds for usage in known if any(_wide(query, best) for query in usage.queries))
    return share(wide, sum(usage.seconds for usage in known))


def _wide(query: Query, best: Alike | None) -> bool:
    if not query.aggregates:
        return False
    return not (routed(query, best) if best else any(held.pinned for held in query.classes))


def _portion(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
