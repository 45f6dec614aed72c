"""The advice for people, as text and as a page in Markdown: the same sections, said once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.cli.preview.markdown import plain
from orchestrator.core.advice.advice import Report
from orchestrator.core.advice.breaks import Break
from orchestrator.core.advice.candidates import Candidate
from orchestrator.core.advice.changes import changes
from orchestrator.core.advice.costs import Costs
from orchestrator.core.advice.decision import Advice, Reach, amount, months_text, parts, percent
from orchestrator.core.advice.facts import Load
from orchestrator.core.advice.spread import SHARDS
from orchestrator.core.outlook.pricing import Shape
from orchestrator.core.size import money, size

_MOST = 5  # objects of a break, candidates
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Section:
    """`lines` are sentences; one that begins with two blanks belongs to the one before."""

    title: str
    lines: tuple[str, ...]


def headline(advice: Advice) -> str:
    """What is advised, in one sentence."""
    if advice.target == "elastic cluster" and advice.way is not None:
        return f"Elastic cluster of {advice.nodes} nodes, sharded {advice.way.title}."
    if advice.way is not None:
        return f"Flexible server. Should one server no longer reach, the data can be sharded {advice.way.title}."
    if advice.saturated or any(reach.beyond for reach in advice.reaches):
        return "Flexible server, and its limits accepted: the data cannot be cut as it is."
    return "Flexible server."


def sections(report: Report) -> tuple[Section, ...]:
    advice = report.advice
    found = [
        Section("Why", advice.reasons),
        Section("What one server reaches", tuple(map(_reach_line, advice.reaches))),
    ]
    if report.database is not None:
        found.append(Section("What was read", tuple(_read(report))))
    by_schema = advice.way is not None and advice.way.fit.sharding == "schema"
    if report.candidates and not by_schema:
        shown = report.candidates[:_MOST]
        found.append(Section("Distribution columns, the best first", tuple(map(_candidate_line, shown))))
    for side in ("flexible server", "elastic cluster"):
        lines = [line for one in report.breaks if one.side == side for line in _break_lines(one)]
        if lines:
            found.append(Section(f"What breaks on {'a' if side[0] == 'f' else 'an'} {side}", tuple(lines)))
    found.append(Section("Cost a month", tuple(_cost_lines(report.costs))))
    found.append(Section("What would change the answer", changes(advice)))
    if report.database is not None and report.database.unseen:
        found.append(Section("Not seen", report.database.unseen))
    return tuple(section for section in found if section.lines)


def text_page(report: Report) -> str:
    lines = [shown(headline(report.advice))]
    for section in sections(report):
        lines += ["", section.title]
        lines += [f"  {'' if line.startswith(' ') else '- '}{shown(line)}" for line in section.lines]
    return "\n".join(lines) + "\n"


def markdown_page(report: Report) -> str:
    """Names and statements come from the database: none of them is trusted to be plain text."""
    lines = [f"# {plain(shown(headline(report.advice)))}"]
    for section in sections(report):
        lines += ["", f"## {section.title}", ""]
        lines += [f"{'  - ' if line.startswith(' ') else '- '}{plain(shown(line.strip()))}" for line in section.lines]
    return "\n".join(lines) + "\n"


def shown(text: str) -> str:
    """Names and statements may hold what a terminal would obey."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _reach_line(reach: Reach) -> str:
    title = reach.title[:1].upper() + reach.title[1:]
    most = amount(reach.limit, reach.unit)
    if reach.now is None:
        return f"{title}: not known, of {most}"
    text = f"{title}: {parts(reach.now, reach.limit, reach.unit)}"
    return text if reach.months is None else f"{text}, reached in {months_text(reach.months)}"


def _read(report: Report) -> Iterator[str]:
    database = report.database
    if database is None:
        return
    schemas = len({table.schema for table in database.tables})
    yield (
        f"{database.name}, PostgreSQL {database.version}: {size(database.bytes)} in {len(database.tables)} tables of "
        f"{schemas} schema{'' if schemas == 1 else 's'}"
    )
    if database.usages:
        writing = sum(usage.calls for usage in database.usages if usage.writes)
        total = sum(usage.calls for usage in database.usages)
        share = 100 * writing / max(total, 1)
        yield f"{len(database.usages)} statements over them, {total:,} calls, {share:.0f} % of them write"
    yield from _load(database.load)


def _load(load: Load) -> Iterator[str]:
    if load.sessions is not None:
        sessions = "1 session" if load.sessions == 1 else f"{load.sessions} sessions"
        yield f"{sessions}, {load.active} at work, max_connections {load.max_connections}"
    if load.commits is not None:
        wal = "unknown" if load.wal_bytes is None else f"{size(int(load.wal_bytes))}/s"
        yield f"{load.commits:.3g} transactions/s, {load.rows_written or 0:.3g} rows written/s, WAL {wal}: {load.how}"


def _candidate_line(candidate: Candidate) -> str:
    parts = (
        ("of the data", candidate.covered), ("of the keys", candidate.keys),
        ("of the calls", candidate.routed), ("of the joins", candidate.joined),
    )  # fmt: skip
    shown = ", ".join(f"{'unknown' if value is None else percent(value)} {name}" for name, value in parts)
    fullest = "unknown" if candidate.hottest is None else percent(candidate.hottest)
    even = f"fullest of {SHARDS} shards {fullest} (even would be {percent(1 / SHARDS)})"
    tables = [title if name == candidate.name else f"{title} ({name})" for title, name in candidate.columns.items()]
    return f"{candidate.name}: {shown}; {even}; score {candidate.score:.2f}; in {_some(tables)}"


def _break_lines(one: Break) -> Iterator[str]:
    yield f"{one.scenario[:1].upper()}{one.scenario[1:]}: {one.what}. {one.fix}"
    yield from (f"  {name}" for name in one.objects[:_MOST])
    if len(one.objects) > _MOST:
        yield f"  and {len(one.objects) - _MOST} more (all of them with --json)"


def _cost_lines(costs: Costs) -> Iterator[str]:
    change = costs.change
    for name, shape, cost in (
        ("Flexible server", costs.flexible, change.before),
        ("Elastic cluster", costs.cluster, change.after),
    ):
        total = "unknown" if cost.total is None else money(cost.total, change.currency)
        yield f"{name}: {total} for {_shape(shape)}"
    if change.ratio is not None:
        yield f"The cluster costs {change.ratio:.2f} times as much."
    if change.missing:
        yield f"Not in the price list: {', '.join(change.missing)} (`orchestrator prices refresh`, --prices)."
    if costs.assumed:
        yield f"Taken to be so: {'; '.join(costs.assumed)}. The answers server.sku, nodeSku and region say otherwise."
    if change.source:
        yield f"Prices: {change.source}"


def _shape(shape: Shape) -> str:
    standby = ", each with a standby" if shape.standby else ""
    return f"{shape.nodes} x {shape.sku} with {shape.storage_gb:,} GB in {shape.location}{standby}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
