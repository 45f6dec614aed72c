"""What pins mean for a rebalance: who can make its moves, and what people are told. Pure.

Citus has no word for a tenant that stays: its job plans by itself, and only a superuser may give it a strategy that
forbids nodes. So with pins the moves are planned here (`placement.predict`) and are made directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.core.errors import Refused
from orchestrator.core.moves.ways import Choice, Moves
from orchestrator.core.observed.pins import Pin
from orchestrator.core.observed.state import ClusterState, Strategy
from orchestrator.core.planning.placement import held_pins

# Strategies whose cost function is known; others are predicted as if every shard group cost the same.
KNOWN = frozenset({"by_disk_size", "by_shard_count"})
SHOWN = 3


class PinsForbid(Refused):
    def __init__(self, pins: Sequence[Pin], reason: str, fix: str) -> None:
        super().__init__(
            f"{_names(pins)} {'is' if len(pins) == 1 else 'are'} pinned: {reason}. Nothing was changed. {fix}, "
            "or let go with `orchestrator isolate TENANT --release`."
        )


def refuse_what_pins_forbid(state: ClusterState, strategy: Strategy, moves: Moves) -> None:
    """Raises PinsForbid for a rebalance that would take a pinned tenant from its node."""
    held = tuple(held_pins(state.shard_groups, state.nodes, state.pins).values())
    if held and moves == "job":
        raise PinsForbid(
            held, "Citus' own job does not know that and would move what it likes", "Leave out --moves job"
        )
    if held and strategy.name not in KNOWN:
        reason = f"what strategy {strategy.name} makes of the others cannot be planned here"
        raise PinsForbid(held, reason, f"Use --strategy {' or '.join(sorted(KNOWN))}")


def with_pins(choice: Choice, held: Mapping[int, Pin]) -> Choice:
    """The choice with the reason that pins give it."""
    if not held:
        return choice
    who = f"{len(held)} tenant{' is' if len(held) == 1 else 's are'}"
    return replace(choice, why=f"Moves: direct, because {who} pinned, which Citus' own job does not know.")


def pin_notes(state: ClusterState) -> tuple[str, ...]:
    """Who stays where it is, and whose pin holds nothing."""
    held = held_pins(state.shard_groups, state.nodes, state.pins)
    stay = [pin for pin in state.pins if pin.shard_id in held]
    lost = [pin for pin in state.pins if pin.shard_id not in held]
    notes = []
    if stay:
        verb = "is pinned and stays on its node" if len(stay) == 1 else "are pinned and stay on their nodes"
        notes.append(f"{_names(stay)} {verb} (`orchestrator tenants`).")
    if lost:
        whose = "the pin holds" if len(lost) == 1 else "the pins hold"
        notes.append(
            f"{_names(lost)}: {whose} nothing, because there is no such shard group or node now. Run "
            "`orchestrator isolate` again, or let go with --release."
        )
    return tuple(notes)


def _names(pins: Sequence[Pin]) -> str:
    names = [pin.tenant.title for pin in pins[:SHOWN]]
    if len(pins) > SHOWN:
        names.append(f"{len(pins) - SHOWN} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
