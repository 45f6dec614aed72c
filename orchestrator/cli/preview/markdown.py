"""A preview as a comment on a pull request: one page whose first lines say all that a reviewer must know.

Names come from the database, so they are never trusted to be plain text. The page stays under GitHub's limit of 65,536
characters: what is long is cut, and says how much was left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.cli.preview.views import (
    alternative_text,
    connections_text,
    cost_text,
    moved_bytes,
    recommendation_line,
)
from orchestrator.cli.views import time_text
from orchestrator.core.observed.state import NodeLoad, ShardGroup, skew
from orchestrator.core.outlook.preview import Option, Preview, way_of
from orchestrator.core.outlook.pricing import CostChange
from orchestrator.core.outlook.verdict import group_name
from orchestrator.core.size import duration, money, size

LIMIT = 65_000
BAR = 20
MOST_MOVES = 100
MOST_WARNINGS = 20
LONGEST = 300
SIGNS = {"improves": "✅", "no effect": "➖", "worse in bytes": "❌", "unknown": "❔"}
# So that a later run finds its own comment and replaces it.
MARKER = "<!-- orchestrator preview -->"
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|<>~&@:]|(?<=www)\.)", re.IGNORECASE)


def markdown_page(preview: Preview, groups: Sequence[ShardGroup]) -> str:
    names = {group.shard_id: group_name(group) for group in groups}
    first = preview.options[0]
    lines = [MARKER, *_headline(preview)]
    if len(preview.options) == 1:
        lines += ["", *_summary(preview, first), "", *_bars(first)]
    else:
        lines += ["", *_comparison(preview)]
    lines += _warnings(preview)
    for option in preview.options:
        lines += _details(option, names, MOST_MOVES // len(preview.options) or 1)
    page = "\n".join(lines) + "\n"
    if len(page) <= LIMIT:
        return page
    return page[: LIMIT - 200].rsplit("\n", 1)[0] + "\n\n_The rest was left out: the page is too long._\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no link, mention, tag or table cell comes of it."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return _SPECIAL.sub(lambda found: f"&#{ord(found[1])};", short.replace("\n", " ").replace("->", "→"))


def _headline(preview: Preview) -> list[str]:
    if len(preview.options) == 1:
        verdict = preview.options[0].verdict
        lines = [f"### {SIGNS[verdict.kind]} {preview.nodes_now} → {preview.options[0].nodes} nodes: {verdict.kind}"]
        lines += ["", plain(verdict.reason[:1].upper() + verdict.reason[1:]) + "."]
        if verdict.alternative:
            lines += ["", plain(alternative_text(verdict.alternative))]
    else:
        counts = ", ".join(str(option.nodes) for option in preview.options)
        lines = [f"### {preview.nodes_now} → {counts} nodes"]
    if preview.replacements:
        lines += ["", f"**❌ Needs a new, empty server:** {plain('; '.join(preview.replacements))}"]
    if preview.recommendation is not None:
        lines += ["", f"**{plain(recommendation_line(preview))}**"]
    if preview.simulated:
        lines += ["", "_Placement is simulated._"]
    return lines


def _summary(preview: Preview, option: Option) -> list[str]:
    cost = option.cost
    before, after = option.plan.before, option.plan.after
    connections = option.budget_before, option.budget
    rows = [
        ("Nodes", str(preview.nodes_now), str(option.nodes)),
        ("Fullest node", size(option.verdict.fullest_before), size(option.verdict.fullest_after)),
        ("Fullest over average", _ratio(before), _ratio(after)),
        ("Client connections a node", *(str(found.clients) if found else "not known" for found in connections)),
    ]
    lines = ["| | before | after |", "|---|---:|---:|"]
    lines += [f"| {name} | {was} | {will} |" for name, was, will in rows]
    lines.append(f"| Cost a month | {' | '.join(_cost_cells(cost))} |")
    lines.append(f"| Time | | {plain(time_text(option.estimate))} |")
    return lines


def _cost_cells(cost: CostChange) -> tuple[str, str]:
    before, after = cost.before.total, cost.after.total
    if before is None or after is None:
        return "not known", plain(cost_text(cost))
    change = f" ({(cost.ratio - 1) * 100:+.0f} %)" if cost.ratio else ""
    return money(before, cost.currency), money(after, cost.currency) + change


def _ratio(loads: tuple[NodeLoad, ...]) -> str:
    even = skew(loads)
    return "no data" if even is None else f"{even:.2f}"


def _comparison(preview: Preview) -> list[str]:
    lines = ["| nodes | verdict | fullest node | over average | moves | time | cost a month |"]
    lines.append("|---:|---|---:|---:|---:|---:|---|")
    for option in preview.options:
        verdict = option.verdict
        cells = (
            str(option.nodes),
            f"{SIGNS[verdict.kind]} {verdict.kind}",
            size(verdict.fullest_after),
            _ratio(option.plan.after),
            str(len(option.plan.moves)),
            duration(option.estimate.seconds),
            plain(cost_text(option.cost)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _bars(option: Option) -> list[str]:
    """Bytes per node, before and after on one scale; where nobody holds bytes, shard groups."""
    sides = option.plan.before, option.plan.after
    by_bytes = any(load.bytes for load in (*option.plan.before, *option.plan.after))
    amounts = [[(load.bytes or 0) if by_bytes else load.shard_groups for load in loads] for loads in sides]
    most = max((amount for side in amounts for amount in side), default=0) or 1
    lines = ["```", f"{'bytes' if by_bytes else 'shard groups'} per node"]
    before = {load.node.node_id: amount for load, amount in zip(option.plan.before, amounts[0], strict=True)}
    for load, amount in zip(option.plan.after, amounts[1], strict=True):
        was = before.get(load.node.node_id)
        bars = ["█" * round(BAR * number / most) for number in (was or 0, amount)]
        words = [size(number) if by_bytes else str(number) for number in (was or 0, amount)]
        start = f"{bars[0]:<{BAR}} {words[0]:>9}" if was is not None else f"{'(new)':<{BAR}} {'':>9}"
        lines.append(f"node {load.node.node_id:<3} {start}  →  {bars[1]:<{BAR}} {words[1]:>9}".rstrip())
    return [*lines, "```"]


def _warnings(preview: Preview) -> list[str]:
    found = list(dict.fromkeys(text for option in preview.options for text in option.warnings))
    found += preview.refused
    lines = [f"- ⚠️ {plain(text)}" for text in found[:MOST_WARNINGS]]
    if len(found) > MOST_WARNINGS:
        lines.append(f"- and {len(found) - MOST_WARNINGS} more")
    return ["", *lines] if lines else []


def _details(option: Option, names: dict[int, str], most: int) -> list[str]:
    """Folded away: the moves, the parts of the time, the connections, where the prices are from."""
    moves = option.plan.moves
    lines = [
        "",
        "<details>",
        f"<summary>{option.nodes} nodes: {len(moves)} moves, {size(moved_bytes(option))}</summary>",
    ]
    lines += ["", *(f"- {part.name}: {duration(part.seconds)}" for part in option.estimate.parts)]
    lines += [f"- {plain(way)}"] if (way := way_of(option.plan)) else []
    lines.append(f"- client connections a node: {plain(connections_text(option.budget_before, option.budget))}")
    if option.cost.source:
        lines.append(f"- prices: {plain(option.cost.source)}")
    if moves:
        lines += ["", "| shard group | from node | to node | bytes |", "|---|---:|---:|---:|"]
    for move in moves[:most]:
        name = plain(names.get(move.shard_id, str(move.shard_id)))
        lines.append(f"| {name} | {move.source} | {move.target} | {size(move.bytes)} |")
    if len(moves) > most:
        lines += ["", f"and {len(moves) - most} more"]
    return [*lines, "", "</details>"]
