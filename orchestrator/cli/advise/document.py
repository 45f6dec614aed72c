"""The advice as one JSON document: all objects, all candidates, every number with its threshold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.cli.advise.views import headline
from orchestrator.core.advice.advice import Report
from orchestrator.core.advice.candidates import Candidate
from orchestrator.core.advice.changes import changes
from orchestrator.core.advice.decision import Condition, Reach, Way


def report_json(report: Report) -> dict[str, Any]:
    advice, database = report.advice, report.database
    return {
        "advice": advice.target,
        "headline": headline(advice),
        "nodes": advice.nodes,
        "sharding": None if advice.way is None else {"kind": advice.way.fit.sharding, "by": advice.way.fit.by},
        "analytic": advice.analytic,
        "saturated": advice.saturated,
        "reasons": list(advice.reasons),
        "reaches": [_reach(one) for one in advice.reaches],
        "ways": [_way(one) for one in advice.ways],
        "candidates": [_candidate(one) for one in report.candidates],
        "breaks": [asdict(one) for one in report.breaks],
        "cost": asdict(report.costs),
        "changes": list(changes(advice)),
        "signals": asdict(report.signals),
        "database": None
        if database is None
        else {
            "name": database.name,
            "version": database.version,
            "bytes": database.bytes,
            "tables": len(database.tables),
            "statements": len(database.usages),
            "load": asdict(database.load),
        },
        "notSeen": list(database.unseen) if database else [],
    }


def _reach(one: Reach) -> dict[str, Any]:
    return {**asdict(one), "ratio": one.ratio, "beyond": one.beyond}


def _way(one: Way) -> dict[str, Any]:
    return {**asdict(one.fit), "fits": one.fits, "conditions": [_condition(found) for found in one.conditions]}


def _condition(one: Condition) -> dict[str, Any]:
    return {**asdict(one), "ok": one.ok}


def _candidate(one: Candidate) -> dict[str, Any]:
    return {"column": one.name, "columns": dict(one.columns)} | {
        name: getattr(one, name)
        for name in ("references", "others", "covered", "keys", "routed", "joined", "hottest", "distinct", "score")
    }
