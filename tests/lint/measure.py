"""The rules against the labels of the corpus."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pglast import parse_sql

from orchestrator.lint.run import statement_findings
from orchestrator.lint.tables import Tables, gather
from orchestrator.lint.tree import Statement
from tests.lint.place import CORPUS


def found_in(entry: dict[str, Any]) -> set[str]:
    """What the linter says of one entry, with the prelude's tables known as those that were there before."""
    tables = Tables()
    gather(_parsed((CORPUS / "prelude.sql").read_text("utf-8"), "direct"), tables)
    for table in tables.known:
        table.made = None
    before = [statement for text in entry.get("setup", ()) for statement in _parsed(text, entry["port"])]
    statements = _parsed(entry["sql"], entry["port"])
    gather(before + statements, tables)
    found = {rule for statement in statements for rule, _ in statement_findings(statement, tables)}
    # Every table statement locks its table; only the experiment with an open transaction is about that.
    return found if entry["probe"] == "cutover" else found - {"EC401"}


def _parsed(text: str, port: str) -> list[Statement]:
    return [Statement("corpus", 1, 1, port, None, raw.stmt) for raw in parse_sql(text)]


def measure(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Held-out statements are written and labelled before the rules are changed, and no rule is changed for them.

    `held_out` is the number of the set: what the latest one taught goes into rules only with another one written first.
    """
    latest = max(entry.get("held_out", 0) for entry in entries)
    return {
        "command": "uv run --extra lab python bench/lint.py",
        "statements": len(entries),
        "held_out": _score([entry for entry in entries if entry.get("held_out") == latest]),
        "held_out_before": {
            str(number): _score([entry for entry in entries if entry.get("held_out") == number])
            for number in range(1, latest)
        },
        "seen_while_written": _score([entry for entry in entries if not entry.get("held_out")]),
        "rules": _by_rule(entries),
        "wrong": [miss for entry in entries if (miss := _miss(entry))],
    }


def _score(entries: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = [(found_in(entry), set(entry["rules"])) for entry in entries]
    right = sum(len(found & true) for found, true in pairs)
    said, labelled = sum(len(found) for found, _ in pairs), sum(len(true) for _, true in pairs)
    return {
        "statements": len(entries),
        "labelled": labelled,
        "found": said,
        "right": right,
        "precision": round(right / said, 3),
        "recall": round(right / labelled, 3),
    }


def _by_rule(entries: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        found, true = found_in(entry), set(entry["rules"])
        for rule in found | true:
            here = {"found": rule in found, "labelled": rule in true, "right": rule in found & true}
            counts.setdefault(rule, Counter()).update({name: int(value) for name, value in here.items()})
    return {rule: dict(counts[rule]) for rule in sorted(counts)}


def _miss(entry: dict[str, Any]) -> dict[str, Any] | None:
    found, true = found_in(entry), set(entry["rules"])
    said = {"sql": entry["sql"], "port": entry["port"], "found": sorted(found), "label": sorted(true)}
    return None if found == true else said
