"""The charts: inline SVG, colours from the style sheet, one scale of time for moves and latency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli.report.page.parts import bar, label, line, short, svg
from orchestrator.core.size import duration, size

WIDTH, LEFT, RIGHT = 960.0, 150.0, 16.0
VALUES = 190.0
LATENCY_HEIGHT, MOST_POINTS = 120.0, 480
Json = Mapping[str, Any]


def measure_of(document: Json) -> str:
    """Bars are bytes where every size is known, else shard groups."""
    loads = [*document["before"], *(document["after"] or [])]
    known = any(load["bytes"] for load in loads) and all(load["bytes"] is not None for load in loads)
    return "bytes" if known else "shard_groups"


def placement(document: Json) -> str:
    """Two bars for each node: before above, after below, and a line where the average is afterwards."""
    measure = measure_of(document)
    before = {load["node_id"]: load for load in document["before"]}
    after = {load["node_id"]: load for load in document["after"] or []}
    nodes = sorted(before.keys() | after.keys())
    most = max([load[measure] for load in (*before.values(), *after.values())], default=0) or 1
    scale, row = (WIDTH - LEFT - VALUES) / most, 38.0
    parts: list[str] = []
    values: list[str] = []
    for place, node in enumerate(nodes):
        y = place * row + 8
        parts.append(label(LEFT - 12, y + 19, f"node {node}" + ("" if node in before else " (new)"), "name", "end"))
        offset = 0.0 if node in before and node in after else 7.0
        for loads, kind in ((before, "was"), (after, "is")):
            load = loads.get(node)
            if load is None:
                continue
            width = load[measure] * scale
            if load[measure]:
                parts.append(bar(LEFT, y + offset, width, 12, kind))
            words = f"{size(load['bytes'])}, {load['shard_groups']} groups"
            values.append(label(LEFT + width + 6, y + offset + 10, words, "value"))
            offset += 14
    height = len(nodes) * row + 12
    if after:
        average = LEFT + sum(load[measure] for load in after.values()) / len(after) * scale
        parts.append(line(average, 2, average, height - 6, "average"))
    words = "shard groups" if measure == "shard_groups" else "bytes"
    description = (
        f"For each of {len(nodes)} nodes its {words} before and after the run. The table below has the numbers."
    )
    return svg("placement", WIDTH, height, "Placement before and after", description, [*parts, *values])


# --- time ---


def step_of(most: float) -> float:
    """A round distance that fits at most eight times into `most`."""
    steps = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    return next((step for step in steps if most / step <= 8), most)


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at most `most`, four to eight of them."""
    if most <= 0:
        return [0.0]
    step = step_of(most)
    return [number * step for number in range(math.floor(most / step + 1e-9) + 1)]


def lanes(moves: Sequence[Json]) -> tuple[list[int], int]:
    """For each move, in order of their begin, the first row that is free; and how many rows there are."""
    ends: list[float] = []
    places = []
    for move in moves:
        free = next((number for number, end in enumerate(ends) if end <= move["at"] + 1e-9), len(ends))
        if free == len(ends):
            ends.append(0.0)
        ends[free] = move["at"] + move["seconds"]
        places.append(free)
    return places, len(ends)


def kind_of(move: Json) -> str:
    if move["outcome"] != "done":
        return "failed"
    return "blocking" if move["mode"] == "block_writes" else "logical"


def window(document: Json) -> tuple[float, float]:
    """From the first to the last of what moved or was looked at, in seconds since the start of the run."""
    begins = [item["at"] for item in (*document["moves"], *document["latency"])]
    ends = [move["at"] + move["seconds"] for move in document["moves"]] + [look["at"] for look in document["latency"]]
    return (min(begins), max(max(ends), min(begins) + 0.001)) if begins else (0.0, max(document["seconds"], 0.001))


def step_bar(document: Json) -> str:
    """The whole run in one row: steps follow each other. A line below marks the part that `timeline` shows."""
    end = max(document["seconds"], 0.001)
    scale = (WIDTH - LEFT - RIGHT) / end
    parts = [label(LEFT - 12, 17, "steps", "name", "end")]
    for number, step in enumerate(document["steps"], 1):
        x, width = LEFT + step["at"] * scale, step["seconds"] * scale
        kind = "step" if step["outcome"] == "done" else "failed"
        parts.append(bar(x, 4, max(width - 1, 0), 18, kind, f"{number}. {step['title']}: {duration(step['seconds'])}"))
        if width > 14:
            parts.append(label(x + 5, 17, number, "on-step" if kind == "step" else "name"))
    if document["moves"]:
        first, last = window(document)
        parts.append(bar(LEFT + first * scale, 25, (last - first) * scale, 3, "shown", "the moves, enlarged below"))
    _axis(0.0, end, LEFT, scale, 26, 28, parts)
    steps = "; ".join(f"{step['title']}: {duration(step['seconds'])}" for step in document["steps"])
    return svg("steps", WIDTH, 50, "The steps of the run over time", f"{steps}.", parts)


def _axis(since: float, until: float, left: float, scale: float, top: float, bottom: float, parts: list[str]) -> None:
    """Round times since the start of the run. Goes before everything else, so that it lies behind the bars."""
    first = since - since % (step_of(until - since) or 1)
    lines = []
    for second in (first + tick for tick in ticks(until - first)):
        if second < since - 1e-9:
            continue
        x = left + (second - since) * scale
        lines.append(line(x, top, x, bottom, "grid"))
        anchor = "start" if x < left + 20 else "end" if x > WIDTH - RIGHT - 20 else "middle"
        lines.append(label(x, bottom + 16, short(duration(second), 12), "value", anchor))
    parts[:0] = lines


def timeline(document: Json) -> str:
    """For each target node its moves, then the latency of the probe if it was watched; one scale of time."""
    since, until = window(document)
    scale = (WIDTH - LEFT - RIGHT) / (until - since)
    parts: list[str] = []
    y = 8.0
    targets = sorted({move["target"] for move in document["moves"]})
    packed = {target: [move for move in document["moves"] if move["target"] == target] for target in targets}
    rows = {target: lanes(moves) for target, moves in packed.items()}
    lane = min(14.0, max(3.0, 520 / max(1, sum(count for _, count in rows.values()))))
    for target in targets:
        places, count = rows[target]
        height = max(count * lane, 14.0)
        parts.append(label(LEFT - 12, y + height / 2 + 4, f"to node {target}", "name", "end"))
        for move, place in zip(packed[target], places, strict=True):
            x, width = LEFT + (move["at"] - since) * scale, move["seconds"] * scale
            parts.append(bar(x, y + place * lane, width, lane - 1, kind_of(move), move_words(move)))
        y += height + 6
        parts.append(line(LEFT, y - 3, WIDTH - RIGHT, y - 3, "rule"))
    if document["latency"]:
        y = _latency(document["latency"], since, y + 12, scale, parts)
    _axis(since, until, LEFT, scale, 4, y, parts)
    description = (
        f"{len(document['moves'])} moves over {duration(until - since)}, grouped by the node they went to"
        + (", and the latency of the probe statement below them" if document["latency"] else "")
        + ". The tables have the numbers."
    )
    return svg("timeline", WIDTH, y + 24, "Moves over time", description, parts)


def move_words(move: Json) -> str:
    pause = move["write_pause_seconds"]
    waited = "" if pause is None else f", writes paused for at most {pause * 1000:.0f} ms"
    return (
        f"{move['name']} (shard {move['shard_id']}): node {move['source']} to node {move['target']}, "
        f"{size(move['bytes'])}, {duration(move['seconds'])}, {move['mode']}, {move['outcome']}{waited}"
    )


def thinned(looks: Sequence[Json], most: int = MOST_POINTS) -> Iterator[Json]:
    """At most `most` looks, the slowest of each stretch: a peak is never left out."""
    stretch = max(1, math.ceil(len(looks) / most))
    for first in range(0, len(looks), stretch):
        yield max(looks[first : first + stretch], key=lambda look: look["milliseconds"])


def _latency(looks: Sequence[Json], since: float, top: float, scale: float, parts: list[str]) -> float:
    points = list(thinned(looks))
    levels = ticks(max(look["milliseconds"] for look in looks) * 1.05)
    most = max(levels[-1], max(look["milliseconds"] for look in looks), 0.001)
    bottom = top + LATENCY_HEIGHT
    for place, look in enumerate(points):
        if look["state"] != "going":
            until = points[place + 1]["at"] if place + 1 < len(points) else look["at"]
            x = LEFT + (look["at"] - since) * scale
            parts.append(bar(x, top, (until - look["at"]) * scale, LATENCY_HEIGHT, look["state"], look["state"]))
    parts.append(label(LEFT - 12, top + 4, "probe latency", "name", "end"))
    for level in levels[1:]:
        y = bottom - level / most * LATENCY_HEIGHT
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        if y > top + 14:
            parts.append(label(LEFT - 12, y + 4, f"{level:g} ms", "value", "end"))
    path = " ".join(
        f"{LEFT + (look['at'] - since) * scale:.1f},{bottom - look['milliseconds'] / most * LATENCY_HEIGHT:.1f}"
        for look in points
    )
    parts.append(f'<polyline class="latency" points="{path}"/>')
    return bottom
