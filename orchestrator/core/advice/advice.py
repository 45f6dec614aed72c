"""Puts it together: facts and answers in, everything that a page about the advice shows out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.advice.answers import Answers
from orchestrator.core.advice.breaks import Break, breaks
from orchestrator.core.advice.candidates import Candidate, rank
from orchestrator.core.advice.costs import Costs, costs
from orchestrator.core.advice.decision import Advice, decide
from orchestrator.core.advice.facts import Database
from orchestrator.core.advice.schemas import SchemaFit, schema_fit
from orchestrator.core.advice.signals import Fit, Signals, answered_fits, row_fit, schemas_fit, signals
from orchestrator.core.desired.limits import limit
from orchestrator.core.errors import TooManyNodes
from orchestrator.core.outlook.pricing import PriceList


@dataclass(frozen=True, slots=True)
class Report:
    """`schemas` is None without a database, `database` too."""

    advice: Advice
    signals: Signals
    database: Database | None
    candidates: tuple[Candidate, ...]
    schemas: SchemaFit | None
    breaks: tuple[Break, ...]
    costs: Costs


def advise(database: Database | None, answers: Answers, prices: PriceList, nodes: int | None = None) -> Report:
    """`nodes` wins over the answered number, which wins over what the signals need. Raises TooManyNodes."""
    known = limit("cluster.nodes")
    if nodes is not None and nodes > known.maximum:
        raise TooManyNodes(nodes, known.maximum, known.source, known.as_of)
    nodes = nodes or answers.server.nodes
    candidates = rank(database, nodes or known.minimum) if database else ()
    schemas = schema_fit(database) if database else None
    seen = signals(database, candidates, answers)
    advice = decide(seen, _fits(candidates, schemas, answers), nodes)
    if database is not None and advice.nodes != (nodes or known.minimum):
        candidates = rank(database, advice.nodes)
        advice = decide(seen, _fits(candidates, schemas, answers), advice.nodes)
    way = advice.way or next(iter(advice.ways), None)
    by = way.fit.by if way and way.fit.sharding == "row" else None
    candidate = next((one for one in candidates if one.name == by), None)
    standby = bool(answers.server.high_availability)
    return Report(
        advice,
        seen,
        database,
        candidates,
        schemas,
        breaks(database, way, candidate, schemas, standby),
        costs(advice, seen, answers.server, database.load.max_connections if database else None, prices),
    )


def _fits(candidates: tuple[Candidate, ...], schemas: SchemaFit | None, answers: Answers) -> tuple[Fit, ...]:
    """Schemas first where several are alike, as those of tenants and services are: no query has to change for them."""
    if schemas is None:
        return answered_fits(answers)
    rows = [row_fit(candidate, answers) for candidate in candidates]
    if answers.data.tenant_column is not None:
        rows.sort(key=lambda fit: fit.by != answers.data.tenant_column)
    by_schema = [schemas_fit(schemas, answers)] if len(schemas.bytes) > 1 else []
    return (*rows, *by_schema) if answers.data.tenancy == "column" else (*by_schema, *rows)
