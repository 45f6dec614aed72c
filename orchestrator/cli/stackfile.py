"""Stack files: find, read, check, and change one value without touching anything else in the file.

The file is Pulumi's: keys under `config:`, ours as `elastic-cluster:<key>`. `pulumi config set` writes numbers and
booleans as strings, so those are accepted. Comments, secrets and other namespaces survive every change.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError

from orchestrator.cli.templates import expanded
from orchestrator.core.errors import Problem, SpecError, UnknownStack
from orchestrator.core.spec import NAMESPACE, ClusterSpec
from orchestrator.core.spec_azure import NOT_ON_CLUSTERS

Loc: TypeAlias = tuple[int | str, ...]
_PREFIX = NAMESPACE + ":"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML as Pulumi reads it: `on`, `yes` and `12:30` are text, as in YAML 1.2; dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] not in {"bool", "timestamp", "int"}]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))


@dataclass(frozen=True)
class StackFile:
    """One stack file that was read: its text as it is on disk, and the cluster that it declares."""

    stack: str
    path: Path
    text: str
    spec: ClusterSpec


def project_root(start: Path) -> Path:
    """The nearest folder upwards that holds a Pulumi.yaml; `start` itself where there is none."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file():
            return folder
    return start


def stack_path(root: Path, stack: str) -> Path:
    return root / "stacks" / f"Pulumi.{stack}.yaml"


def known_stacks(root: Path) -> list[str]:
    return sorted(path.name[len("Pulumi.") : -len(".yaml")] for path in (root / "stacks").glob("Pulumi.*.yaml"))


def load(root: Path, stack: str) -> StackFile:
    """Raises UnknownStack when there is no such file, SpecError with every problem found in it."""
    path = stack_path(root, stack)
    shown = str(path.relative_to(root))
    if not stack or "/" in stack or not path.is_file():
        raise UnknownStack(stack, shown, known_stacks(root))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(shown, [Problem(shown, str(error))]) from error
    return expanded(StackFile(stack, path, text, parse(text, shown)))


def parse(text: str, source: str) -> ClusterSpec:
    """The cluster that the text declares. Raises SpecError."""
    config = _config_node(text, source)
    problems = list(_duplicates(config, source))
    values: dict[str, Any] = {}
    for key, value in config.value:
        if key.value.startswith(_PREFIX):
            values[key.value[len(_PREFIX) :]] = _construct(value)
        elif ":" not in key.value:
            problems.append(
                Problem(
                    f"{source}:{_line(key)} {key.value}", "a key without a namespace", f"write {_PREFIX}{key.value}"
                )
            )
    if problems:
        raise SpecError(source, problems)
    try:
        return ClusterSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(source, [_problem(detail, config, source) for detail in error.errors()]) from None


def set_value(text: str, key: str, value: str) -> str:
    """The text with `elastic-cluster:<key>` set to a value that is already YAML; everything else stays as it is."""
    config = _config_node(text, key)
    for name, node in config.value:
        if name.value == _PREFIX + key:
            end: int = node.end_mark.index
            while end > node.start_mark.index and text[end - 1] in " \t\n":
                end -= 1
            start: int = node.start_mark.index
            return text[:start] + value + text[end:]
    if not config.value:
        return text.rstrip("\n") + f"\n  {_PREFIX}{key}: {value}\n"
    mark = config.value[0][0].start_mark
    before, after = text[: int(mark.index)], text[int(mark.index) :]
    return f"{before}{_PREFIX}{key}: {value}\n{' ' * int(mark.column)}{after}"


def save(file: StackFile, key: str, value: str) -> StackFile:
    """Write one value and read the file back. Raises SpecError when the file would no longer declare a cluster."""
    text = set_value(file.text, key, value)
    spec = parse(text, file.path.name)
    temporary = file.path.with_suffix(".yaml.new")
    temporary.write_text(text, "utf-8")
    temporary.replace(file.path)
    return StackFile(file.stack, file.path, text, spec)


def json_schema() -> dict[str, Any]:
    """JSON schema of a stack file, for editors: `config` with this project's keys, other namespaces left alone."""
    schema = ClusterSpec.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stack file of an elastic cluster (Pulumi.<stack>.yaml)",
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {
                "type": "object",
                "description": schema.get("description", ""),
                "required": [_PREFIX + key for key in schema["required"]],
                "properties": {_PREFIX + key: value for key, value in schema["properties"].items()},
                "patternProperties": {f"^(?!{NAMESPACE}:).+:": {}},
                "additionalProperties": False,
            },
        },
        "$defs": definitions,
    }


def _config_node(text: str, source: str) -> Any:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise SpecError(source, [Problem(where, f"not valid YAML: {getattr(error, 'problem', error)}")]) from None
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(source, [Problem(source, "no `config:` in it", "start from stacks/Pulumi.dev.yaml")])
    for key, value in root.value:
        if key.value == "config" and isinstance(value, yaml.MappingNode):
            return value
    raise SpecError(source, [Problem(source, "no `config:` with keys in it", "start from stacks/Pulumi.dev.yaml")])


def _construct(node: Any) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _duplicates(node: Any, source: str) -> Iterator[Problem]:
    """PyYAML lets the last of two equal keys win in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.value in seen:
                where = f"{source}:{_line(key)} {key.value}"
                yield Problem(where, f"the same key is already in line {seen[key.value]}", "keep one of them")
            seen[key.value] = _line(key)
            yield from _duplicates(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicates(item, source)


def _problem(detail: Any, config: Any, source: str) -> Problem:
    loc: Loc = detail["loc"]
    line = _line_of(config, loc)
    name = _PREFIX + _dotted(loc) if loc else "config"
    where = f"{source}:{line} {name}" if line else f"{source} {name}"
    if detail["type"] == "extra_forbidden":
        never = NOT_ON_CLUSTERS.get(str(loc[-1]))
        return Problem(where, never) if never else Problem(where, "unknown key", _did_you_mean(loc))
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


def _line_of(config: Any, loc: Sequence[int | str]) -> int | None:
    """The line of the innermost part of `loc` that the file has."""
    node, line = config, None
    for depth, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            wanted = _PREFIX + str(part) if depth == 0 else part
            found = [(key, value) for key, value in node.value if key.value == wanted]
            if not found:
                break
            line, node = _line(found[0][0]), found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
        else:
            break
    return line


def _did_you_mean(loc: Loc) -> str:
    known = _known_keys(ClusterSpec.model_json_schema(by_alias=True), loc[:-1])
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
