"""YAML that people write: read as Pulumi reads it, and each thing that is wrong is named with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel

from orchestrator.core.errors import Problem, SpecError

Loc: TypeAlias = tuple[int | str, ...]
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_Base):  # type: ignore[misc]
    """YAML as Pulumi reads it: `on`, `yes` and `12:30` are text, as in YAML 1.2; dates stay text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] not in {"bool", "timestamp", "int"}]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))


def compose(text: str, source: str) -> Any:
    """The text's nodes, None for an empty one. Raises SpecError."""
    try:
        return yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise SpecError(source, [Problem(where, f"not valid YAML: {getattr(error, 'problem', error)}")]) from None


def construct(node: Any) -> Any:
    loader = Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def line_of(node: Any) -> int:
    return int(node.start_mark.line) + 1


def duplicates(node: Any, source: str) -> Iterator[Problem]:
    """PyYAML lets the last of two equal keys win in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.value in seen:
                where = f"{source}:{line_of(key)} {key.value}"
                yield Problem(where, f"the same key is already in line {seen[key.value]}", "keep one of them")
            seen[key.value] = line_of(key)
            yield from duplicates(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from duplicates(item, source)


def problem(
    detail: Any,
    node: Any,
    source: str,
    model: type[BaseModel],
    prefix: str = "",
    never: Mapping[str, str] | None = None,
) -> Problem:
    """One of pydantic's errors about `node`, whose keys begin with `prefix`. `never`: keys that cannot be, and why."""
    loc: Loc = detail["loc"]
    line = _line_at(node, loc, prefix)
    name = prefix + _dotted(loc) if loc else "config"
    where = f"{source}:{line} {name}" if line else f"{source} {name}"
    if detail["type"] == "extra_forbidden":
        why = (never or {}).get(str(loc[-1]))
        return Problem(where, why) if why else Problem(where, "unknown key", _did_you_mean(loc, model))
    if detail["type"] == "missing":
        return Problem(where, "this key is missing", "add it")
    if detail["type"] == "value_error":
        return Problem(where, str(detail["msg"]).removeprefix("Value error, "))
    message = str(detail["msg"])
    shown = "" if isinstance(detail["input"], dict | list) or "assword" in name else f", not {detail['input']!r}"
    return Problem(where, message[:1].lower() + message[1:] + shown)


def _dotted(loc: Loc) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _line_at(node: Any, loc: Sequence[int | str], prefix: str) -> int | None:
    """The line of the innermost part of `loc` that the file has."""
    line = None
    for depth, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            wanted = prefix + str(part) if depth == 0 else part
            found = [(key, value) for key, value in node.value if key.value == wanted]
            if not found:
                break
            line, node = line_of(found[0][0]), found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = line_of(node)
        else:
            break
    return line


def _did_you_mean(loc: Loc, model: type[BaseModel]) -> str:
    known = _known_keys(model.model_json_schema(by_alias=True), loc[:-1])
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}" if known else "remove it"


def _known_keys(schema: dict[str, Any], loc: Loc) -> list[str]:
    definitions = schema.get("$defs", {})
    node: dict[str, Any] = schema
    for part in loc:
        node = node.get("properties", {}).get(part, {}) if isinstance(part, str) else node.get("items", {})
        for option in node.get("anyOf", []):
            node = option if "$ref" in option else node
        node = definitions.get(str(node.get("$ref", "")).rsplit("/", 1)[-1], node)
    return list(node.get("properties", {}))
