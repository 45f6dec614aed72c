"""`--fail-on`: conditions under which a preview ends with an exit code of its own, for pipelines.

10 `worse` (the bytes end up less even), 11 `cost>N%` (or the cost cannot be told), 12 `replace` (a declared value needs
a new server). Where several hold, the one named first decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.core.errors import Refused
from orchestrator.core.outlook.preview import Preview

WORSE, COST, REPLACE = 10, 11, 12
_COST = re.compile(r"^cost>(\d+(?:\.\d+)?)%$")


@dataclass(frozen=True, slots=True)
class Gate:
    """`percent` is the most that the monthly cost may rise; only `cost` has it."""

    name: str
    percent: float = 0.0


class GateUnknown(Refused):
    def __init__(self, text: str) -> None:
        super().__init__(f"--fail-on {text!r} is not a condition. Use worse, replace, or cost>20% (any number).")


def parse_gates(text: str) -> tuple[Gate, ...]:
    """Raises GateUnknown."""
    gates = []
    for part in (part.strip() for part in text.split(",")):
        cost = _COST.match(part.replace(" ", ""))
        if part in {"worse", "replace"}:
            gates.append(Gate(part))
        elif cost:
            gates.append(Gate("cost", float(cost[1])))
        else:
            raise GateUnknown(part)
    return tuple(gates)


def first_failure(preview: Preview, gates: tuple[Gate, ...]) -> tuple[int, str] | None:
    """The exit code and a sentence; None when the preview passes every gate."""
    return next((failed for gate in gates for failed in _failures(preview, gate)), None)


def _failures(preview: Preview, gate: Gate) -> Iterator[tuple[int, str]]:
    if gate.name == "replace" and preview.replacements:
        yield REPLACE, f"replace: {'; '.join(preview.replacements)} needs a new, empty server"
    for option in preview.options:
        if gate.name == "worse" and option.verdict.kind == "worse in bytes":
            yield WORSE, f"worse: with {option.nodes} nodes {option.verdict.reason}"
        ratio = option.cost.ratio
        if gate.name == "cost" and ratio is None:
            yield COST, f"cost: not known for {option.nodes} nodes; add prices to judge it"
        elif gate.name == "cost" and ratio is not None and (ratio - 1) * 100 > gate.percent:
            yield COST, f"cost: {option.nodes} nodes cost {(ratio - 1) * 100:+.0f} %, over {gate.percent:g} %"
