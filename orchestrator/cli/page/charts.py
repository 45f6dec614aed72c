"""The charts: inline SVG, colours from the style sheet, one scale of time for moves and latency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli.page.parts import bar, label, line, short, svg
from orchestrator.core.size import duration, size

WIDTH, LEFT, RIGHT = 960.0, 150.0, 16.0
VALUES = 190.0
LATENCY_HEIGHT, MOST_POINTS = 120.0, 480
Json = Mapping[str, Any]


def node_name(node: Json) -> str:
    return f"node {node['node_id']}"


def measure_of(document: Json) -> str:
    """Bars are bytes where every size is known, else shard groups."""
    loads = [*document["before"], *(document["after"] or [])]
    return (
        "bytes"
        if any(load["bytes"] for load in loads) and all(load["bytes"] is not None for load in loads)
        else ("shard_groups")
    )


def placement(document: Json) -> str:
    """Two bars for each node: before above, after below, and a line where the average is afterwards."""
    measure = measure_of(document)
    before = {load["node_id"]: load for load in document["before"]}
    after = {load["node_id"]: load for load in document["after"] or []}
    nodes = sorted(before.keys() | after.keys())
    most = max([load[measure] for load in (*before.values(), *after.values())], default=0) or 1
    scale, row = (WIDTH - LEFT - VALUES) / most, 38.0
    parts: list[str] = []
    for place, node in enumerate(nodes):
        y = place * row + 8
        parts.append(label(LEFT - 12, y + 19, f"node {node}" + ("" if node in before else " (new)"), "name", "end"))
        for offset, loads, kind in ((0.0, before, "was"), (14.0, after, "is")):
            load = loads.get(node)
            if load is None:
                continue
            width = load[measure] * scale
            if load[measure]:
                parts.append(bar(LEFT, y + offset, width, 12, kind))
            words = f"{size(load['bytes'])}, {load['shard_groups']} groups"
            parts.append(label(LEFT + width + 6, y + offset + 10, words, "value"))
    height = len(nodes) * row + 12
    if after:
        average = LEFT + sum(load[measure] for load in after.values()) / len(after) * scale
        parts.append(line(average, 2, average, height - 6, "average"))
    words = "shard groups" if measure == "shard_groups" else "bytes"
    description = (
        f"For each of {len(nodes)} nodes its {words} before and after the run. The table below has the numbers."
    )
    return svg("placement", WIDTH, height, "Placement before and after", description, parts)


# --- time ---


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at most `most`, four to eight of them."""
    if most <= 0:
        return [0.0]
    steps = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    step = next((step for step in steps if most / step <= 8), most)
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


def timeline(document: Json) -> str:
    """Steps above, then for each target node its moves, then the latency of the probe if it was watched."""
    end = max(document["seconds"], 0.001)
    scale = (WIDTH - LEFT - RIGHT) / end
    parts: list[str] = []
    y = _steps(document["steps"], scale, parts) + 8
    top = y
    targets = sorted({move["target"] for move in document["moves"]})
    packed = {target: [move for move in document["moves"] if move["target"] == target] for target in targets}
    rows = {target: lanes(moves) for target, moves in packed.items()}
    lane = min(14.0, max(3.0, 520 / max(1, sum(count for _, count in rows.values()))))
    for target in targets:
        places, count = rows[target]
        height = max(count * lane, 14.0)
        parts.append(label(LEFT - 12, y + height / 2 + 4, f"to node {target}", "name", "end"))
        for move, place in zip(packed[target], places, strict=True):
            x, width = LEFT + move["at"] * scale, move["seconds"] * scale
            parts.append(bar(x, y + place * lane, width, lane - 1, kind_of(move), move_words(move)))
        y += height + 6
        parts.append(line(LEFT, y - 3, WIDTH - RIGHT, y - 3, "rule"))
    if document["latency"]:
        y = _latency(document["latency"], y + 12, scale, parts)
    for second in ticks(end):
        x = LEFT + second * scale
        parts.append(line(x, top - 4, x, y, "grid"))
        parts.append(label(x, y + 16, short(duration(second), 12), "value", "middle" if second else "start"))
    description = (
        f"{len(document['moves'])} moves over {duration(end)}, grouped by the node they went to"
        + (", and the latency of the probe statement below them" if document["latency"] else "")
        + ". The tables below have the numbers."
    )
    # Grid lines first, so that they lie behind the bars.
    parts.sort(key=lambda part: not part.startswith('<line class="grid"'))
    return svg("timeline", WIDTH, y + 24, "What happened when", description, parts)


def _steps(steps: Sequence[Json], scale: float, parts: list[str]) -> float:
    """One row for each step would be tall: they follow each other, so one row of numbered bars is enough."""
    parts.append(label(LEFT - 12, 16, "steps", "name", "end"))
    for number, step in enumerate(steps, 1):
        x, width = LEFT + step["at"] * scale, step["seconds"] * scale
        kind = "step" if step["outcome"] == "done" else "failed"
        parts.append(bar(x, 4, max(width - 1, 0), 18, kind, f"{number}. {step['title']}: {duration(step['seconds'])}"))
        if width > 14:
            parts.append(label(x + 5, 17, number, "on-step"))
    return 26.0


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


def _latency(looks: Sequence[Json], top: float, scale: float, parts: list[str]) -> float:
    points = list(thinned(looks))
    levels = ticks(max(look["milliseconds"] for look in looks) * 1.05)
    most = max(levels[-1], max(look["milliseconds"] for look in looks), 0.001)
    bottom = top + LATENCY_HEIGHT
    for place, look in enumerate(points):
        if look["state"] != "going":
            until = points[place + 1]["at"] if place + 1 < len(points) else look["at"]
            x = LEFT + look["at"] * scale
            parts.append(bar(x, top, (until - look["at"]) * scale, LATENCY_HEIGHT, look["state"], look["state"]))
    parts.append(label(LEFT - 12, top + 4, "probe latency", "name", "end"))
    for level in levels[1:]:
        y = bottom - level / most * LATENCY_HEIGHT
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        if y > top + 14:
            parts.append(label(LEFT - 12, y + 4, f"{level:g} ms", "value", "end"))
    path = " ".join(
        f"{LEFT + look['at'] * scale:.1f},{bottom - look['milliseconds'] / most * LATENCY_HEIGHT:.1f}"
        for look in points
    )
    parts.append(f'<polyline class="latency" points="{path}"/>')
    return bottom
