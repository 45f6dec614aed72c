"""Reads the questionnaire of `orchestrator advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.cli.stack.yamlfile import compose, construct, duplicates, problem
from orchestrator.cli.textfiles import UNUSABLE, reason
from orchestrator.core.advice.answers import Answers
from orchestrator.core.errors import Problem, SpecError


def read_answers(path: Path) -> Answers:
    """Raises SpecError with every problem, each with its line."""
    try:
        text = path.read_text("utf-8")
    except UNUSABLE as error:
        raise SpecError(str(path), [Problem(str(path), f"it cannot be read: {reason(error)}")]) from None
    return parse_answers(text, str(path))


def parse_answers(text: str, source: str) -> Answers:
    root = compose(text, source)
    if root is None:
        return Answers()
    if not isinstance(root, yaml.MappingNode):
        fix = "start from `orchestrator advise --questionnaire`"
        raise SpecError(source, [Problem(f"{source}:1", "these are no answers by key", fix)])
    if problems := list(duplicates(root, source)):
        raise SpecError(source, problems)
    # A part whose answers are all still comments is there, and empty.
    values: dict[str, Any] = {key: value for key, value in construct(root).items() if value is not None}
    try:
        return Answers.model_validate(values)
    except ValidationError as error:
        raise SpecError(source, [problem(detail, root, source, Answers) for detail in error.errors()]) from None
