"""What `orchestrator lint` can find: its rules, one finding, and findings as JSON and SARIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]
PAGES = "docs/lint"
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


@dataclass(frozen=True, slots=True)
class Rule:
    """`docs/lint/<id>.md` explains it."""

    id: str
    name: str
    level: Level
    summary: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` to `last_line` is the statement, `fingerprint` what its first line is recognised by when others change."""

    rule: str
    path: str
    line: int
    message: str
    last_line: int = 0
    column: int = 1
    end_column: int = 1
    fingerprint: str = ""


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("EC000", "syntax", "error", "PostgreSQL's own parser does not understand the statement"),
        Rule("EC001", "sql-prepare", "error", "PREPARE, EXECUTE or DEALLOCATE through a pooled port"),
        Rule("EC002", "listen", "error", "LISTEN or NOTIFY where the other side is not in the same session or node"),
        Rule("EC003", "load", "error", "LOAD through a pooled port"),
        Rule("EC004", "advisory-lock", "error", "an advisory lock that does not hold where the port leads"),
        Rule("EC005", "session-setting", "error", "SET without LOCAL through a pooled port"),
        Rule("EC006", "temporary-table", "error", "a temporary table through a pooled port"),
        Rule("EC007", "with-hold-cursor", "error", "a WITH HOLD cursor through a pooled port"),
        Rule("EC101", "unique-without-distribution-column", "error", "a key that Citus cannot enforce"),
        Rule("EC102", "foreign-key", "error", "a foreign key that cannot be distributed"),
        Rule("EC103", "cross-schema", "error", "one query over the data of two services"),
        Rule("EC104", "serial", "warning", "a key of type int that nodes other than the coordinator cannot number"),
        Rule("EC105", "not-on-distributed", "error", "a trigger or inheritance on a distributed table"),
        Rule("EC201", "fan-out", "warning", "no value for the distribution column: every shard is asked"),
        Rule("EC202", "join-without-distribution-column", "error", "distributed tables joined by other columns"),
        Rule(
            "EC301",
            "ddl-through-balanced",
            "error",
            "DDL, or a table that only the coordinator has, through a port that leads to any node",
        ),
        Rule("EC401", "blocks-cutover", "warning", "a lock that stops writers and the cut-over of a moving shard"),
    )
}


def findings_json(findings: Sequence[Finding], statements: int) -> dict[str, Any]:
    return {"statements": statements, "findings": [asdict(finding) for finding in findings]}


def sarif(findings: Sequence[Finding], version: str) -> dict[str, Any]:
    """SARIF 2.1.0 with all that GitHub's code scanning requires. Paths are URIs: relative to the repository's root."""
    used = sorted({finding.rule for finding in findings})
    driver = {
        "name": "orchestrator lint",
        "version": version,
        "rules": [
            {
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": f"orchestrator lint, {rule.name}: {rule.summary}."},
                "help": {"text": f"{rule.summary}. See {PAGES}/{rule.id}.md."},
                "defaultConfiguration": {"level": rule.level},
            }
            for rule in (RULES[name] for name in used)
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, used) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, used: Sequence[str]) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": max(finding.line, finding.last_line),
        "endColumn": finding.end_column,
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": used.index(finding.rule),
        "level": RULES[finding.rule].level,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": finding.path}, "region": region}}],
        "partialFingerprints": {"primaryLocationLineHash": finding.fingerprint},
    }
