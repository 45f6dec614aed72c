"""Pieces of HTML. `text` is the only way in for words that were not written here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# Also those that turn the direction of writing: a name must not be able to rearrange a line.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def text(value: object) -> str:
    return html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """`head` and cells are HTML; the first cell of a row is its header. `numeric` columns are aligned to the right."""

    def kind(column: int) -> str:
        return ' class="n"' if column in numeric else ""

    columns = "".join(f'<th scope="col"{kind(number)}>{cell}</th>' for number, cell in enumerate(head))
    body = []
    for row in rows:
        cells = "".join(f"<td{kind(number)}>{cell}</td>" for number, cell in enumerate(row) if number)
        body.append(f'<tr><th scope="row"{kind(0)}>{row[0]}</th>{cells}</tr>')
    return scroller(
        caption,
        f"<table><caption>{text(caption)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>",
    )


def scroller(label: str, content: str) -> str:
    """What may be wider than the window scrolls by itself, with the keyboard too."""
    return f'<div class="wide" role="region" aria-label="{text(label)}" tabindex="0">{content}</div>'


def section(name: str, title: str, *content: str) -> str:
    parts = "".join(content)
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{text(title)}</h2>{parts}</section>'


def bullets(lines: Iterable[object]) -> str:
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def svg(name: str, width: float, height: float, title: str, description: str, content: Iterable[str]) -> str:
    return (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width:g} {height:g}">'
        f'<title id="{name}-t">{text(title)}</title><desc id="{name}-d">{text(description)}</desc>'
        f"{''.join(content)}</svg>"
    )


def bar(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    """Never thinner than what can be seen. `title` is what a pointer shows."""
    told = f"<title>{text(title)}</title>" if title else ""
    where = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.2):.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {where}>{told}</rect>'


def label(x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
