"""The page itself: what was asked, what came of it, where the data was and is, when what moved, what was verified."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from typing import Any

from orchestrator.cli.report.page.charts import kind_of, placement, step_bar, timeline
from orchestrator.cli.report.page.parts import bullets, scroller, section, table, text
from orchestrator.core.size import duration, size

OUTCOMES = {
    "done": ("good", "Done"),
    "nothing to do": ("good", "Nothing to do"),
    "failed": ("bad", "Failed"),
    "interrupted": ("bad", "Interrupted"),
}
# The page must not fetch or run anything, and a browser holds it to that.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
FEW_MOVES = 40
LATENCY_ROWS = 24
Json = Mapping[str, Any]


def render(document: Json) -> str:
    """A whole HTML document from what `report_json` gives."""
    style = files("orchestrator.cli.report.page").joinpath("style.css").read_text("utf-8")
    title = f"{document['command']} of {document['stack']}: {document['outcome']}"
    sections = [
        _summary(document),
        _placement(document),
        _timeline(document),
        _steps(document),
        _moves(document),
        _verification(document),
        _notices(document),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the report</a>\n{_header(document)}\n'
        f'<main id="main" tabindex="-1">\n{chr(10).join(part for part in sections if part)}\n</main>\n'
        "<footer><p>Made by orchestrator from the run's own JSON report. This page holds all it shows: it runs no "
        "script and loads nothing from the network.</p></footer>\n</body>\n</html>\n"
    )


def _header(document: Json) -> str:
    kind, words = OUTCOMES[document["outcome"]]
    began = document["began"]
    when = f"{datetime.fromisoformat(began):%d %B %Y, %H:%M:%S} UTC · " if began else ""
    return (
        f'<header><p class="kind">Elastic cluster run report</p><h1>{text(document["command"])} · '
        f'{text(document["stack"])} <span class="badge {kind}">{words}</span></h1>'
        f"<p>{text(when)}took {duration(document['seconds'])}</p></header>"
    )


def _change(before: object, after: object) -> str:
    return text(before) if after is None or before == after else f"{text(before)} → {text(after)}"


def _even(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _summary(document: Json) -> str:
    moves = document["moves"]
    done = [move for move in moves if move["outcome"] == "done"]
    moved = None if any(move["bytes"] is None for move in done) else sum(move["bytes"] for move in done)
    pauses = [move["write_pause_seconds"] for move in moves if move["write_pause_seconds"] is not None]
    facts = [("Nodes", _change(document["nodes_before"], document["nodes_after"]))]
    if moves or document["moves_planned"]:
        facts.append(("Moves", f"{len(done)} of {max(document['moves_planned'], len(moves))}"))
        facts.append(("Data moved", size(moved)))
    skew = _even(document["skew_before"]), _even(document["skew_after"])
    facts.append(("Fullest node / average", _change(skew[0] or "no data", skew[1])))
    if pauses:
        facts.append(("Longest pause of writes", f"{max(pauses) * 1000:.0f} ms"))
    if estimate := document["estimate"]:
        band = f"{duration(estimate['low'])} to {duration(estimate['high'])}"
        facts.append(("Estimated beforehand", f"{duration(estimate['seconds'])} <small>({band})</small>"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    notes = ""
    if document["error"]:
        notes += f'<p class="note bad"><strong>Error:</strong> {text(document["error"])}</p>'
    if document["placement_simulated"]:
        notes += '<p class="note">Placement is simulated: one PostgreSQL server played all nodes of this lab.</p>'
    return section("summary", "Summary", notes, f"<dl>{cells}</dl>")


def _placement(document: Json) -> str:
    if not document["before"]:
        return ""
    predicted = {load["node_id"]: load for load in document["planned"]["after"]}
    before = {load["node_id"]: load for load in document["before"]}
    after = {load["node_id"]: load for load in document["after"] or []}
    rows = []
    for node in sorted(before.keys() | after.keys()):
        known = after.get(node) or before[node]
        rows.append(
            [f"node {node}", text(f"{known['host']}:{known['port']}")]
            + [cell for loads in (before, predicted, after) for cell in _load(loads.get(node))]
        )
    head = ["Node", "Address", "Groups before", "Bytes before", "Groups planned", "Bytes planned"]
    legend = '<p class="legend"><span class="key was"></span>before <span class="key is"></span>after'
    legend += ' <span class="key average"></span>average after</p>' if after else "</p>"
    return section(
        "placement-h",
        "Placement before and after",
        legend,
        scroller("Chart of the placement", placement(document)),
        table("Placement by node", [*head, "Groups after", "Bytes after"], rows, range(2, 8)),
    )


def _load(load: Json | None) -> list[str]:
    return ["–", "–"] if load is None else [f"{load['shard_groups']:,}", size(load["bytes"])]


def _timeline(document: Json) -> str:
    if not document["steps"]:
        return ""
    used = {kind_of(move) for move in document["moves"]} | {
        "failed" for step in document["steps"] if step["outcome"] != "done"
    }
    names = {"logical": "copied while written to", "blocking": "writes held (block_writes)", "failed": "not done"}
    keys = [f'<span class="key {kind}"></span>{name} ' for kind, name in names.items() if kind in used]
    states = {look["state"] for look in document["latency"]}
    keys += [f'<span class="key {state}"></span>moves {state} ' for state in ("slowed", "paused") if state in states]
    latency = document["latency"]
    told = "<p>The latency of a probe statement was not watched in this run.</p>"
    if latency:
        told = f"<details><summary>Latency as a table</summary>{_latency_table(latency)}</details>"
    charts = scroller("Chart of the steps over time", step_bar(document))
    if document["moves"] or latency:
        charts += scroller("Chart of moves and latency over time", timeline(document))
    return section(
        "timeline-h",
        "What happened when",
        f'<p class="legend">{"".join(keys)}</p>' if keys else "",
        charts,
        told,
    )


def _latency_table(looks: Sequence[Json]) -> str:
    stretch = math.ceil(len(looks) / LATENCY_ROWS)
    rows = []
    for first in range(0, len(looks), stretch):
        part = looks[first : first + stretch]
        ordered = sorted(look["milliseconds"] for look in part)
        states = ", ".join(state for state, _ in groupby(look["state"] for look in part))
        when = f"{part[0]['at']:.1f} to {part[-1]['at']:.1f} s"
        rows.append([when, str(len(part)), f"{ordered[len(ordered) // 2]:.1f}", f"{ordered[-1]:.1f}", text(states)])
    head = ["Since the start", "Looks", "Median, ms", "Largest, ms", "Moves were"]
    return table("Latency of the probe statement", head, rows, (1, 2, 3))


def _steps(document: Json) -> str:
    rows = [
        [
            f"{number}. {text(step['title'])}",
            text(step["outcome"]),
            f"{step['at']:.1f} s",
            duration(step["seconds"]),
            text(step["note"]),
        ]
        for number, step in enumerate(document["steps"], 1)
    ]
    done = {step["title"] for step in document["steps"]}
    left = [title for title in document["planned"]["steps"] if title not in done]
    content = table("Steps of the run", ["Step", "Outcome", "Began at", "Took", "Note"], rows, (2, 3)) if rows else ""
    if left and document["outcome"] in {"failed", "interrupted"}:
        content += f"<h3>Planned, but not reached</h3>{bullets(left)}"
    return section("steps-h", "Steps", content) if content else ""


def _moves(document: Json) -> str:
    moves = document["moves"]
    if not moves:
        return ""
    head = ["Shard group", "Shard", "From", "To", "Size", "Mode", "By", "Began at", "Took", "Writes held"]
    head += ["Rows compared", "Outcome"]
    shown = table("Moves in the order in which they began", head, _move_rows(moves), (1, 2, 3, 4, 7, 8, 9, 10))
    opened = " open" if len(moves) <= FEW_MOVES else ""
    summary = f"<summary>All {len(moves):,} moves</summary>"
    return section("moves-h", "Moves", f"<details{opened}>{summary}{shown}</details>")


def _move_rows(moves: Sequence[Json]) -> Iterator[list[str]]:
    for move in moves:
        pause = move["write_pause_seconds"]
        yield [
            text(move["name"]),
            str(move["shard_id"]),
            str(move["source"]),
            str(move["target"]),
            size(move["bytes"]),
            text(move["mode"]),
            "Citus' job" if move["way"] == "job" else "direct",
            f"{move['at']:.1f} s",
            duration(move["seconds"]),
            "not known" if pause is None else f"{pause * 1000:.0f} ms",
            _compared(move["compared"]),
            text(move["outcome"]),
        ]


def _compared(tables: Sequence[Json]) -> str:
    """How many rows were the same on both sides; of a table without a checksum they are a sample."""
    known = [table for table in tables if table["rows"] is not None]
    if not known:
        return "none"
    sampled = "" if all(table["checksum"] is not None for table in known) else ", sampled"
    return f"{sum(table['rows'] for table in known):,}{sampled}"


def _verification(document: Json) -> str:
    found = document["verification"]
    if not found:
        return ""
    rows = [
        [
            text(check["mode"]),
            f"{check['schemas']:,}",
            f"{check['tables']:,}",
            f"{check['rows']:,}",
            duration(check["seconds"]),
            "none" if not check["problems"] else str(len(check["problems"])),
            text(check.get("note", "")),
        ]
        for check in found
    ]
    problems = [problem for check in found for problem in check["problems"]]
    content = table(
        "What was verified", ["Mode", "Schemas", "Tables", "Rows", "Took", "Problems", "Note"], rows, (1, 2, 3, 4, 5)
    )
    if problems:
        content += f'<div class="note bad"><h3>Not as it was before</h3>{bullets(problems)}</div>'
    return section("verified-h", "Verification", content)


def _notices(document: Json) -> str:
    return section("notices-h", "Notices", bullets(document["notices"])) if document["notices"] else ""
