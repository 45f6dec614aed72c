"""Services from a template and a list of keys: pure. What the keys are, the caller has found out.

A service of a template is made anew whenever it is looked at, so thousands take hardly more memory than their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from orchestrator.core.desired.services import PLACEHOLDER, KeyRange, ServiceSpec, ServiceTemplate
from orchestrator.core.errors import Problem
from orchestrator.core.lazy import Lazy

# One line of a file, or one value of a query: longer than any name that it could become part of.
LONGEST_KEY = 63


# Fields that a key can be put into without reading the whole service again, by their names in the stack file.
_NAMES = {"name": "name", "role": "role", "schema": "schema_", "schema_": "schema_"}


def keys_of_range(wanted: KeyRange) -> list[str]:
    return [str(number).zfill(wanted.width) for number in range(wanted.first, wanted.last + 1)]


def keys_of_text(text: str) -> list[str]:
    """One key on each line; empty lines and those that begin with # are passed over."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def expand(template: ServiceTemplate, keys: Sequence[str], where: str) -> tuple[Sequence[ServiceSpec], list[Problem]]:
    """One service for every key, and what is wrong: each kind of mistake once, with the first key that has it."""
    problems: dict[str, Problem] = {}
    for key in keys:
        if not 0 < len(key) <= LONGEST_KEY:
            fix = f"keys have 1 to {LONGEST_KEY} characters; correct it in the list"
            problems.setdefault("key", Problem(where, f"{key[:20]!r} cannot be a key", fix))
            continue
        try:
            _made(template.service, key)
        except ValidationError as error:
            for detail in error.errors():
                place = ".".join(["service", *map(str, detail["loc"])])
                text = str(detail["msg"]).removeprefix("Value error, ")
                problems.setdefault(place, Problem(f"{where}.{place}", f"{text} (key {key!r})", "correct the template"))
    twice = _twice(keys)
    if twice is not None:
        problems["twice"] = Problem(where, f"key {twice!r} is in the list twice", "remove one of them")
    services = Lazy(keys, _maker(template.service, keys[0])) if keys and not problems else ()
    return services, list(problems.values())


def _maker(values: dict[str, Any], first: str) -> Callable[[str], ServiceSpec]:
    """What makes the service of a key. Each has been made once before, so that nothing is wrong with it."""
    own = {name: value for name, value in values.items() if PLACEHOLDER in str(value)}
    names = {_NAMES[name]: value for name, value in own.items() if name in _NAMES and isinstance(value, str)}
    if len(names) < len(own):
        return lambda key: _made(values, key)
    model = _made(values, first)
    return lambda key: model.model_copy(update={name: text.replace(PLACEHOLDER, key) for name, text in names.items()})


def _made(values: dict[str, Any], key: str) -> ServiceSpec:
    return ServiceSpec.model_validate(_filled(values, key))


def _filled(value: Any, key: str) -> Any:
    """The template's value with the key in place; a key is text and is never read as a template itself."""
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, key)
    if isinstance(value, dict):
        return {name: _filled(item, key) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, key) for item in value]
    return value


def _twice(keys: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None
