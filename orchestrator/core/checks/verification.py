"""What is noted before shards move, and what must hold when they have: sequences and the ledger of probe writes. Pure.

Only what others cannot have brought about by ordinary statements is a problem: a sequence of a service goes forward
while the service works, a row of the probe belongs to the probe alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

MOST_NAMED = 10
# Citus gives each worker 2^48 values of a bigint sequence; those of smaller types are used up on workers (13.2).
NODE_RANGE = 2**48


@dataclass(frozen=True, slots=True)
class SequenceState:
    """`last` is None while no value was taken, or where the administrator may not look."""

    last: int | None
    increment: int
    minimum: int
    maximum: int
    cycles: bool


@dataclass(frozen=True, slots=True)
class NodeSequences:
    """The sequences of distributed tables on one node, by their full names. `error` is why there is no answer."""

    node_id: int
    name: str
    group_id: int = -1
    sequences: Mapping[str, SequenceState] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of check at the end: how much was looked at, what was not as it was, and what people should know."""

    mode: str
    schemas: int = 0
    tables: int = 0
    rows: int = 0
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    note: str = ""


def sequence_problems(before: Sequence[NodeSequences], after: Sequence[NodeSequences]) -> tuple[str, ...]:
    """Sequences that were set back or are gone on a node, and nodes that would hand out the same values."""
    found = [*_set_back(before, after), *_gone(before, after), *_shared(after)]
    return _named(found)


def lost_writes(acknowledged: Sequence[int], found: Mapping[str, frozenset[int]]) -> tuple[str, ...]:
    """`found` is what each node finds of the probe's writes; every acknowledged one has to be found by all of them."""
    lines = []
    for node, numbers in found.items():
        if lost := [number for number in acknowledged if number not in numbers]:
            shown = ", ".join(map(str, lost[:5])) + (" ..." if len(lost) > 5 else "")
            lines.append(
                f"{len(lost)} of {len(acknowledged)} acknowledged probe writes are gone, asked through node {node}: "
                f"number {shown}"
            )
    return _named(lines)


def _named(found: list[str]) -> tuple[str, ...]:
    if len(found) > MOST_NAMED:
        return (*found[:MOST_NAMED], f"and {len(found) - MOST_NAMED} more like these")
    return tuple(found)


def _set_back(before: Sequence[NodeSequences], after: Sequence[NodeSequences]) -> Iterator[str]:
    earlier = {node.node_id: node.sequences for node in before if node.sequences is not None}
    for node in after:
        known = earlier.get(node.node_id, {})
        for name, now in (node.sequences or {}).items():
            was = known.get(name)
            if was is None or was.last is None or was.cycles or now.cycles or was.increment != now.increment:
                continue
            if now.last is None:
                yield f"sequence {name} on node {node.name} is back at its start; its last value was {was.last}"
            elif (now.last - was.last) * now.increment < 0:
                yield f"sequence {name} on node {node.name} was set back from {was.last} to {now.last}"


def _gone(before: Sequence[NodeSequences], after: Sequence[NodeSequences]) -> Iterator[str]:
    """What is gone from the coordinator too was dropped by somebody."""
    kept = next((node.sequences.keys() for node in after if node.group_id == 0 and node.sequences is not None), ())
    earlier = {node.node_id: node.sequences for node in before if node.sequences is not None}
    for node in after:
        if node.sequences is None:
            continue
        for name in earlier.get(node.node_id, {}):
            if name in kept and name not in node.sequences:
                yield f"sequence {name} is missing on node {node.name}"


def _shared(nodes: Sequence[NodeSequences]) -> Iterator[str]:
    """The coordinator's range holds those of all others; it takes its values from the beginning of it."""
    ranges: dict[str, list[tuple[str, SequenceState]]] = {}
    for node in nodes:
        for name, state in (node.sequences or {}).items():
            if node.group_id > 0 and state.maximum > NODE_RANGE:
                ranges.setdefault(name, []).append((node.name, state))
    for name, owners in ranges.items():
        for (first, one), (second, other) in combinations(owners, 2):
            # Citus' ranges touch: the end of one is the beginning of the next.
            if one.minimum < other.maximum and other.minimum < one.maximum:
                yield f"nodes {first} and {second} hand out the same values of sequence {name}"
                break
