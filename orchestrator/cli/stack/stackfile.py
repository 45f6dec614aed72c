"""Stack files: find, read, check, and change one value without touching anything else in the file.

The file is Pulumi's: keys under `config:`, ours as `elastic-cluster:<key>`. `pulumi config set` writes numbers and
booleans as strings, so those are accepted. Comments, secrets and other namespaces survive every change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.cli.stack.templates import expanded
from orchestrator.cli.stack.yamlfile import compose, construct, duplicates, line_of, problem
from orchestrator.cli.textfiles import UNUSABLE, reason, write_whole
from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec
from orchestrator.core.desired.spec_azure import NOT_ON_CLUSTERS
from orchestrator.core.errors import Problem, Refused, SpecError, UnknownStack

_PREFIX = NAMESPACE + ":"


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
    text = read(path, shown)
    return expanded(StackFile(stack, path, text, parse(text, shown)))


def read(path: Path, shown: str) -> str:
    """The text of a stack file, whatever it says. Raises SpecError."""
    try:
        return path.read_text("utf-8")
    except UNUSABLE as error:
        raise SpecError(shown, [Problem(shown, f"it cannot be read: {reason(error)}")]) from error


def parse(text: str, source: str) -> ClusterSpec:
    """The cluster that the text declares. Raises SpecError."""
    config = _config_node(text, source)
    problems = list(duplicates(config, source))
    values: dict[str, Any] = {}
    for key, value in config.value:
        if key.value.startswith(_PREFIX):
            values[key.value[len(_PREFIX) :]] = construct(value)
        elif ":" not in key.value:
            problems.append(
                Problem(
                    f"{source}:{line_of(key)} {key.value}", "a key without a namespace", f"write {_PREFIX}{key.value}"
                )
            )
    if problems:
        raise SpecError(source, problems)
    try:
        return ClusterSpec.model_validate(values)
    except ValidationError as error:
        found = [problem(detail, config, source, ClusterSpec, _PREFIX, NOT_ON_CLUSTERS) for detail in error.errors()]
        raise SpecError(source, found) from None


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
    """Write one value. Raises SpecError when the file would no longer declare a cluster, Refused where it cannot be."""
    text = set_value(file.text, key, value)
    spec = parse(text, file.path.name)
    try:
        write_whole(file.path, text)
    except OSError as error:
        raise Refused(
            f"{file.path} cannot be written: {reason(error)}. Nothing was changed: make it writable, or set "
            f"{_PREFIX}{key}: {value} in it by hand."
        ) from error
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
    root = compose(text, source)
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(source, [Problem(source, "no `config:` in it", "start from stacks/Pulumi.dev.yaml")])
    for key, value in root.value:
        if key.value == "config" and isinstance(value, yaml.MappingNode):
            return value
    raise SpecError(source, [Problem(source, "no `config:` with keys in it", "start from stacks/Pulumi.dev.yaml")])
