"""Scripts of pgbench, the common part of them: SQL, and `\\set name expression` with whole numbers and random(). Pure.

Everything else that pgbench knows is refused with its line, never ignored: a script that means something else would
measure something else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.core.errors import Refused

_VARIABLE = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
# What must stay as it is although it may hold a colon or a semicolon.
_PIECE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|::|:=|;", re.DOTALL)
_TRANSACTION = re.compile(r"\s*(begin|start\s+transaction|commit|end|rollback|abort)\b", re.IGNORECASE)
_KNOWN = "known here are SQL and \\set with whole numbers, + - * / % and random(from, to)"
Random = Callable[[int, int], int]


class ScriptRefused(Refused):
    def __init__(self, source: str, line: int, problem: str) -> None:
        super().__init__(f"{source}:{line}: {problem}; {_KNOWN}. Nothing was run.")


@dataclass(frozen=True, slots=True)
class Setting:
    """`\\set name expression`: the expression with its variables by name."""

    name: str
    expression: ast.expr


@dataclass(frozen=True, slots=True)
class Command:
    """One statement; `variables` are the values of $1, $2 and so on. `control` begins or ends a transaction."""

    text: str
    variables: tuple[str, ...]
    control: bool


@dataclass(frozen=True, slots=True)
class Script:
    steps: tuple[Setting | Command, ...]


def parse_script(text: str, source: str) -> Script:
    """Raises ScriptRefused."""
    steps: list[Setting | Command] = []
    known: set[str] = set()
    pending, began = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("\\"):
            if _without_comments(pending).strip():
                raise ScriptRefused(source, number, "a statement before it does not end with ;")
            steps.append(_setting(line.strip(), source, number, known))
            pending = ""
            continue
        if not pending.strip():
            began = number
        *whole, pending = _split(f"{pending}{line}\n")
        steps += [_command(one, source, began, known) for one in whole if _without_comments(one).strip()]
    if _without_comments(pending).strip():
        steps.append(_command(pending, source, began, known))
    if not any(isinstance(step, Command) and not step.control for step in steps):
        raise ScriptRefused(source, 1, "there is no statement in it")
    return Script(tuple(steps))


def _split(text: str) -> list[str]:
    """At semicolons that are no part of a string, a name or a comment. An open string waits for its end."""
    parts, last = [], 0
    for found in _PIECE.finditer(text):
        if found[0] == ";":
            parts.append(text[last : found.start()])
            last = found.end()
    return [*parts, text[last:]]


def _without_comments(text: str) -> str:
    return _PIECE.sub(lambda found: "" if found[0].startswith(("--", "/*")) else found[0], text)


def _setting(line: str, source: str, number: int, known: set[str]) -> Setting:
    words = line.split(None, 2)
    if words[0] != "\\set":
        raise ScriptRefused(source, number, f"{words[0]} is not supported")
    if len(words) < 3 or not words[1].isidentifier():
        raise ScriptRefused(source, number, "\\set needs a name and an expression")
    missing = [name for name in _VARIABLE.findall(words[2]) if name not in known]
    if missing:
        raise ScriptRefused(source, number, f":{missing[0]} has no value yet")
    # In pgbench / divides whole numbers.
    plain = _VARIABLE.sub(lambda found: found[1], words[2]).replace("/", "//")
    try:
        expression = ast.parse(plain, mode="eval").body
        evaluate(expression, dict.fromkeys(known, 1), lambda low, _: low)
    except ZeroDivisionError:
        pass
    except (SyntaxError, ValueError) as error:
        raise ScriptRefused(source, number, f"\\set {words[1]} cannot be computed ({error})") from None
    known.add(words[1])
    return Setting(words[1], expression)


def _command(text: str, source: str, number: int, known: set[str]) -> Command:
    """Variables become parameters; strings, names and comments stay."""
    variables: list[str] = []

    def parameter(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise ScriptRefused(source, number, f":{found[1]} has no value")
        if found[1] not in variables:
            variables.append(found[1])
        return f"${variables.index(found[1]) + 1}"

    done, last = "", 0
    for piece in _PIECE.finditer(text):
        done += _VARIABLE.sub(parameter, text[last : piece.start()]) + piece[0]
        last = piece.end()
    done = _without_comments(done + _VARIABLE.sub(parameter, text[last:])).strip()
    return Command(done, tuple(variables), _TRANSACTION.match(done) is not None)


def evaluate(node: ast.expr, values: Mapping[str, int], random: Random) -> int:
    """Raises ValueError for what is not supported."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -evaluate(node.operand, values, random)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](evaluate(node.left, values, random), evaluate(node.right, values, random))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "random":
        low, high = (evaluate(one, values, random) for one in node.args)
        if low > high:
            raise ValueError(f"random({low}, {high}) is empty")
        return random(low, high)
    raise ValueError(f"{ast.unparse(node)} is not supported")


def _quotient(left: int, right: int) -> int:
    """Towards zero, as in pgbench."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.FloorDiv: _quotient,
    ast.Mod: lambda left, right: left - right * _quotient(left, right),
}
