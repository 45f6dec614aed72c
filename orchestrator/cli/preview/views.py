"""A preview as text and as JSON. Renders; decides nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.cli.views import placement_lines, time_text
from orchestrator.core.observed.state import skew
from orchestrator.core.outlook.connections import Budget
from orchestrator.core.outlook.preview import Option, Preview, way_of
from orchestrator.core.outlook.pricing import CostChange
from orchestrator.core.outlook.verdict import Alternative
from orchestrator.core.report import plan_json
from orchestrator.core.size import duration, money, size

SCHEMA = 1


def preview_json(preview: Preview) -> dict[str, Any]:
    """The same for a snapshot as for the cluster it was taken from."""
    return {
        "schema": SCHEMA,
        "strategy": preview.strategy,
        "transfer_mode": preview.transfer_mode,
        "nodes": preview.nodes_now,
        "shard_groups": preview.shard_groups,
        "placement_simulated": preview.simulated,
        "options": [_option_json(option) for option in preview.options],
        "refused": list(preview.refused),
        "recommendation": None if preview.recommendation is None else asdict(preview.recommendation),
        "replacements": list(preview.replacements),
    }


def _option_json(option: Option) -> dict[str, Any]:
    time, cost = option.estimate, option.cost
    return {
        "nodes": option.nodes,
        "verdict": asdict(option.verdict),
        **plan_json(option.plan),
        "moved_bytes": moved_bytes(option),
        "seconds": {
            "likely": round(time.seconds, 1),
            "low": round(time.low, 1),
            "high": round(time.high, 1),
            "runs": time.runs,
            "parts": [asdict(part) for part in time.parts],
        },
        "cost": {
            "currency": cost.currency,
            "before": asdict(cost.before) | {"total": cost.before.total},
            "after": asdict(cost.after) | {"total": cost.after.total},
            "ratio": cost.ratio,
            "missing": list(cost.missing),
            "source": cost.source,
        },
        "connections": None if option.budget is None else asdict(option.budget),
        "connections_before": None if option.budget_before is None else asdict(option.budget_before),
        "warnings": list(option.warnings),
    }


def moved_bytes(option: Option) -> int | None:
    sizes = [move.bytes for move in option.plan.moves]
    return None if None in sizes else sum(number or 0 for number in sizes)


def preview_lines(preview: Preview) -> list[str]:
    head = f"{preview.nodes_now} nodes with {preview.shard_groups} shard groups; strategy {preview.strategy}"
    lines = [head + ("; placement is simulated" if preview.simulated else "")]
    if len(preview.options) > 1:
        lines += ["", *comparison_lines(preview)]
    for option in preview.options:
        lines += ["", *(_option_lines(option) if len(preview.options) == 1 else _short_lines(option))]
    lines += [f"Not possible: {text}" for text in preview.refused]
    if preview.recommendation is not None:
        lines += ["", recommendation_line(preview)]
    lines += [f"Needs a new, empty server: {text}" for text in preview.replacements]
    return lines


def comparison_lines(preview: Preview) -> list[str]:
    """One line per node count."""
    lines = [f"{'nodes':>5}  {'verdict':<14}  {'fullest':>9}  {'skew':>5}  {'moves':>6}  {'time':>12}  cost a month"]
    for option in preview.options:
        even = skew(option.plan.after)
        lines.append(
            f"{option.nodes:>5}  {option.verdict.kind:<14}  {size(option.verdict.fullest_after):>9}  "
            f"{'-' if even is None else format(even, '.2f'):>5}  {len(option.plan.moves):>6}  "
            f"{duration(option.estimate.seconds):>12}  {cost_text(option.cost)}"
        )
    return lines


def _short_lines(option: Option) -> list[str]:
    lines = [f"{option.nodes} nodes: {option.verdict.kind}: {option.verdict.reason}"]
    if option.verdict.alternative:
        lines.append(f"  {alternative_text(option.verdict.alternative)}")
    return lines + [f"  Warning: {text}" for text in option.warnings]


def _option_lines(option: Option) -> list[str]:
    lines = [f"{option.nodes} nodes: {option.verdict.kind}: {option.verdict.reason}."]
    if option.verdict.alternative:
        lines.append(alternative_text(option.verdict.alternative))
    lines += ["Placement now:", *placement_lines(option.plan.before)]
    if option.plan.moves:
        moved = size(moved_bytes(option))
        lines += [f"Placement afterwards, as predicted ({len(option.plan.moves)} shard groups move, {moved}):"]
        lines += placement_lines(option.plan.after)
    lines.append(f"Time: {time_text(option.estimate)}")
    lines += [f"  {part.name}: {duration(part.seconds)}" for part in option.estimate.parts]
    lines += [way] if (way := way_of(option.plan)) else []
    lines.append(f"Cost a month: {cost_text(option.cost)}")
    lines.append(f"Client connections a node: {connections_text(option.budget_before, option.budget)}")
    return lines + [f"Warning: {text}" for text in option.warnings]


def alternative_text(other: Alternative) -> str:
    return (
        f"Better, as predicted: {other.how}. The fullest node would hold {size(other.fullest_bytes)} "
        f"after {other.moves} moves of {size(other.moved_bytes)}."
    )


def recommendation_line(preview: Preview) -> str:
    wish = preview.recommendation
    if wish is None:
        return ""
    if wish.nodes is None:
        return f"No node count keeps every node under {wish.target_percent:g} % of its storage: {wish.reason}."
    return f"Recommended: {wish.nodes} nodes; {wish.reason}."


def cost_text(cost: CostChange) -> str:
    if cost.before.total is not None and cost.after.total is not None:
        change = f" ({(cost.ratio - 1) * 100:+.0f} %)" if cost.ratio else ""
        return f"{money(cost.before.total, cost.currency)} -> {money(cost.after.total, cost.currency)}{change}"
    known = f"x {cost.ratio:.2f} of today's; " if cost.ratio else ""
    return f"{known}no price for {', '.join(cost.missing)}"


def connections_text(before: Budget | None, after: Budget | None) -> str:
    if before is None or after is None:
        return "not known for this compute size"
    if before.clients == after.clients:
        return f"{after.clients} of {after.max_connections}" + (f"; {after.note}" if after.note else "")
    return f"{before.clients} -> {after.clients} of {after.max_connections}; {after.note}"
