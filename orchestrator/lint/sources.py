"""Statements in SQL files and in the strings that Python sources hand to a database driver, with their lines.

`-- noqa` and `# noqa` on a line of a statement silence all rules there, `noqa: EC001, EC201` those.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.core.checks.findings import Finding
from orchestrator.core.errors import Refused
from orchestrator.lint.tree import Statement

# Calls whose first argument is SQL: psycopg, asyncpg, SQLAlchemy, Django.
CALLS = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchone", "stream", "text", "raw"})
_NOQA = re.compile(r"(?:--|#)\s*noqa(?::\s*(?P<rules>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"%(?:\((?P<name>\w+)\))?[sbt]|(?<![:\w]):(?P<bind>[A-Za-z_]\w*)")
_SPACE = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STARTS = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(select|insert|update|delete|with|create|alter|drop|set|reset|prepare|execute|deallocate|"
    r"listen|unlisten|notify|load|lock|declare|truncate|grant|revoke|begin|copy|explain|merge|reindex|values)\b",
    re.I,
)


class UnreadableSource(Refused):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be checked: {reason}.")


@dataclass
class Source:
    """One file: its statements, what could not be parsed, and the rules that each line silences (None: all)."""

    path: str
    statements: list[Statement] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    text: str = ""
    noqa: dict[int, frozenset[str] | None] = field(default_factory=dict)

    def silences(self, rule: str, first: int, last: int) -> bool:
        for line in range(first, last + 1):
            if line in self.noqa and (self.noqa[line] is None or rule in (self.noqa[line] or ())):
                return True
        return False


def find_files(paths: tuple[Path, ...]) -> list[Path]:
    """SQL and Python files; folders are searched, but for hidden ones. Raises UnreadableSource."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (item for item in path.rglob("*") if item.suffix in {".sql", ".py"} and item.is_file())
            found += sorted(item for item in inside if not _left_out(item.relative_to(path)))
        elif path.is_file():
            found.append(path)
        else:
            raise UnreadableSource(path, "there is no such file or folder")
    return found


def _left_out(path: Path) -> bool:
    return any(part.startswith(".") or part in {"node_modules", "venv", "__pycache__"} for part in path.parts)


def read_source(path: Path, port: str | None, schema: str | None) -> Source:
    """`port` None: direct for SQL files, pooled for what services send. Raises UnreadableSource."""
    try:
        text = path.read_text("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableSource(path, str(getattr(error, "strerror", None) or "it is not UTF-8")) from error
    source = Source(str(path), text=text)
    for number, line in enumerate(text.split("\n"), 1):
        if silent := _NOQA.search(line):
            rules = silent["rules"]
            source.noqa[number] = frozenset(re.split(r"[,\s]+", rules.upper())) if rules else None
    if path.suffix == ".py":
        _python(source, text, port or "pooled", schema)
    else:
        # Commands of psql, such as \connect, are not PostgreSQL's; their lines stay so that numbers are right.
        plain = re.sub(r"^\\.*$", "", text, flags=re.MULTILINE)
        _parse(source, plain, 1, port or "direct", schema, None)
    return source


def _parse(source: Source, text: str, line: int, port: str, schema: str | None, last: int | None) -> bool:
    """`last` is the last line of the call in Python. False: it is no SQL."""
    from pglast import parse_sql  # here, because importing it takes longer than all the rest
    from pglast.parser import ParseError

    try:
        parsed = parse_sql(text)
    except ParseError as error:
        if last is None:
            at = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else 0
            where = line + text.count("\n", 0, at)
            source.problems.append(Finding("EC000", source.path, where, str(error.args[0])))
        return False
    for raw in parsed:
        begin = raw.stmt_location or 0
        end = begin + raw.stmt_len if raw.stmt_len else len(text.rstrip())
        space = _SPACE.match(text, begin)
        begin = space.end() if space else begin
        first = line + text.count("\n", 0, begin)
        final = last or line + text.count("\n", 0, end)
        source.statements.append(Statement(source.path, first, final, port, schema, raw.stmt))
    return True


def _python(source: Source, text: str, port: str, schema: str | None) -> None:
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        source.problems.append(Finding("EC000", source.path, error.lineno or 1, f"no Python: {error.msg}"))
        return
    constants = dict(_constants(module))
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and call.args and _called(call) in CALLS:
            found = _sql_of(call.args[0], constants)
            if found is None or not _STARTS.match(found):
                continue
            for filler in ("$1", "placeholder"):
                if _parse(source, _fill(found, filler), call.args[0].lineno, port, schema, call.end_lineno):
                    break


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _constants(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


_HOLE = "\x00"


def _sql_of(node: ast.expr, constants: dict[str, ast.expr]) -> str | None:
    """The text with a hole for everything that is only known at run time."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else _HOLE for part in node.values)
    if isinstance(node, ast.Name) and node.id in constants:
        return _sql_of(constants[node.id], {name: value for name, value in constants.items() if name != node.id})
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [_sql_of(side, constants) for side in (node.left, node.right)]
        return None if parts == [None, None] else "".join(part or _HOLE for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _sql_of(node.left, constants)
    if isinstance(node, ast.Call):
        return _sql_of_call(node, constants)
    return None


def _sql_of_call(node: ast.Call, constants: dict[str, ast.expr]) -> str | None:
    """psycopg's sql.SQL(...).format(...), and text(...), whose own call is read by itself."""
    if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        inner = _sql_of(node.func.value, constants)
        return None if inner is None else re.sub(r"\{[^{}]*\}", _HOLE, inner)
    if _called(node) == "SQL" and node.args:
        return _sql_of(node.args[0], constants)
    return None


def _fill(text: str, filler: str) -> str:
    """Placeholders of drivers as PostgreSQL's own: the same name is the same parameter."""
    numbers: dict[str, int] = {}

    def parameter(match: re.Match[str]) -> Any:
        name = match["name"] or match["bind"] or "%s"
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return _PLACEHOLDER.sub(parameter, text).replace("%%", "%").replace(_HOLE, filler)
