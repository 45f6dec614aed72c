"""Options whose choices are written out, so that help need not load what they choose among, have all of them."""

from __future__ import annotations

from typing import get_args

import click
import pytest

from orchestrator.cli.app import cli
from orchestrator.cli.moving.options import Ceiling
from orchestrator.core.access import PORTS
from orchestrator.core.access_formats import FORMATS
from orchestrator.core.checks.drill import Failover
from orchestrator.core.moves.ways import Moves
from orchestrator.core.planning.steps import TransferMode, Verify
from orchestrator.lab.engine import EngineName


def choices(option: str, *verb: str) -> tuple[str, ...]:
    command: click.Command = cli
    for name in verb:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    found = next(parameter for parameter in command.params if option in parameter.opts)
    assert isinstance(found.type, click.Choice)
    return tuple(found.type.choices)


@pytest.mark.parametrize(
    ("option", "verb", "known"),
    [
        ("--format", ("connection",), FORMATS),
        ("--port", ("connection",), PORTS),
        ("--port", ("lint",), PORTS),
        ("--failover", ("doctor",), get_args(Failover)),
        ("--transfer-mode", ("rebalance",), get_args(TransferMode)),
        ("--verify", ("isolate",), get_args(Verify)),
        ("--moves", ("scale-out",), get_args(Moves)),
        ("--engine", ("lab", "up"), ("auto", *get_args(EngineName))),
    ],
)
def test_choices(option: str, verb: tuple[str, ...], known: tuple[str, ...]) -> None:
    assert set(choices(option, *verb)) == set(known)


@pytest.mark.parametrize(
    ("text", "limit"), [("20", {"max_p99": 20.0}), ("0.5", {"max_p99": 0.5}), ("2x", {"times": 2.0})]
)
def test_a_ceiling_is_milliseconds_or_a_multiple_of_what_is_usual(text: str, limit: dict[str, float]) -> None:
    assert Ceiling().convert(text, None, None) == limit


@pytest.mark.parametrize("text", ["0", "-1", "1x", "0.5x", "x", "two", "nan", "inf", "2 x 3"])
def test_what_is_no_ceiling_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write milliseconds above 0, or a multiple above 1 like 2x"):
        Ceiling().convert(text, None, None)
