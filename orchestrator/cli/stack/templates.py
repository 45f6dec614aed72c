"""Service templates of a stack file, made into services: keys from a range, from a file, or from the cluster itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.textfiles import UNUSABLE, reason
from orchestrator.core.desired.services import Keys
from orchestrator.core.desired.spec import NAMESPACE, ClusterSpec, check_names
from orchestrator.core.desired.templates import expand, keys_of_range, keys_of_text
from orchestrator.core.errors import DatabaseError, Problem, SpecError
from orchestrator.core.lazy import Joined

if TYPE_CHECKING:
    from orchestrator.cli.stack.stackfile import StackFile

Query = Callable[[str], Sequence[str]]
_KEY = f"{NAMESPACE}:serviceTemplates"


def declares_services(spec: ClusterSpec) -> bool:
    return bool(spec.services or spec.service_templates)


def asks_cluster(spec: ClusterSpec) -> bool:
    return any(template.keys.query is not None for template in spec.service_templates)


def expanded(file: StackFile, query: Query | None = None) -> StackFile:
    """The services of every template beside those that are written out; templates that were used are gone from it.

    Without `query` those that ask the cluster stay templates. Raises SpecError.
    """
    parts, left, problems = [file.spec.services], [], []
    for number, template in enumerate(file.spec.service_templates):
        if template.keys.query is not None and query is None:
            left.append(template)
            continue
        where = f"{file.path.name} {_KEY}[{number}]"
        keys = _keys(template.keys, file.path.parent, query, where)
        found, wrong = ((), [keys]) if isinstance(keys, Problem) else expand(template, keys, where)
        parts.append(found)
        problems += wrong
    services = Joined(parts)
    if not problems:
        try:
            check_names(services, file.spec.administrator_login)
        except ValueError as error:
            problems.append(Problem(f"{file.path.name} {_KEY}", str(error), "correct the template or the list of keys"))
    if problems:
        raise SpecError(file.path.name, problems)
    made = {"services": services, "service_templates": tuple(left)}
    return replace(file, spec=file.spec.model_copy(update=made))


def _keys(keys: Keys, folder: Path, query: Query | None, where: str) -> Sequence[str] | Problem:
    if keys.range_ is not None:
        return keys_of_range(keys.range_)
    if keys.file is not None:
        try:
            return keys_of_text((folder / keys.file).read_text("utf-8"))
        except UNUSABLE as error:
            fix = "the path is relative to the folder of the stack file"
            return Problem(f"{where}.keys.file", f"{folder / keys.file} cannot be read: {reason(error)}", fix)
    try:
        return [] if query is None or keys.query is None else query(keys.query)
    except DatabaseError as error:
        return Problem(f"{where}.keys.query", error.message.rstrip("."), "correct the query")
