"""What must hold when shards have moved: sequences only go forward, and no acknowledged probe write is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.checks.verification import NodeSequences, SequenceState, lost_writes, sequence_problems

TOP = 2**63 - 1
COORDINATOR = SequenceState(40, 1, 1, TOP, cycles=False)


def worker(group: int, last: int | None = None) -> SequenceState:
    """As Citus makes it on the node of this group."""
    first = (group << 48) + 1
    return SequenceState(last, 1, first, first + 2**48, cycles=False)


def cluster(*states: SequenceState, name: str = "s.t_id_seq") -> tuple[NodeSequences, ...]:
    return tuple(NodeSequences(group + 1, f"n{group}", group, {name: state}) for group, state in enumerate(states))


BEFORE = cluster(COORDINATOR, worker(1, (1 << 48) + 7), worker(2))


def test_sequences_that_went_on_or_were_not_used_are_no_problem() -> None:
    assert sequence_problems(BEFORE, BEFORE) == ()
    later = cluster(replace(COORDINATOR, last=41), worker(1, (1 << 48) + 9), worker(2, (2 << 48) + 1))
    assert sequence_problems(BEFORE, later) == ()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (cluster(replace(COORDINATOR, last=39), *(worker(1, (1 << 48) + 7), worker(2))), "was set back from 40 to 39"),
        (cluster(COORDINATOR, worker(1), worker(2)), "on node n1 is back at its start"),
        ((*BEFORE[:2], NodeSequences(3, "n2", 2, {})), "sequence s.t_id_seq is missing on node n2"),
        (
            cluster(*(COORDINATOR, worker(1, (1 << 48) + 7), worker(1))),
            "n1 and n2 hand out the same values of sequence",
        ),
    ],
)
def test_a_sequence_that_is_not_as_it_must_be_is_named(after: tuple[NodeSequences, ...], said: str) -> None:
    (problem,) = sequence_problems(BEFORE, after)
    assert said in problem


def test_a_sequence_that_runs_downwards_or_in_circles_or_was_dropped_is_judged_by_its_own_rules() -> None:
    down = SequenceState(-3, -1, -TOP, -1, cycles=False)
    assert sequence_problems(cluster(down), cluster(replace(down, last=-9))) == ()
    assert len(sequence_problems(cluster(down), cluster(replace(down, last=-1)))) == 1
    circle = SequenceState(9, 1, 1, 10, cycles=True)
    assert sequence_problems(cluster(circle), cluster(replace(circle, last=1))) == ()
    assert sequence_problems(BEFORE, tuple(replace(node, sequences={}) for node in BEFORE)) == ()


def test_a_smaller_type_has_the_same_range_everywhere_and_is_used_up_on_workers() -> None:
    small = SequenceState(2**31 - 1, 1, 1, 2**31 - 1, cycles=False)
    assert sequence_problems(cluster(small, small, small), cluster(small, small, small)) == ()


def test_every_acknowledged_write_has_to_be_found_through_every_node() -> None:
    everything = frozenset(range(1, 9))
    assert lost_writes([1, 2, 3, 8], {"a": everything, "b": everything}) == ()
    (problem,) = lost_writes([1, 2, 3, 8], {"a": everything, "b": everything - {2, 8}})
    assert problem == "2 of 4 acknowledged probe writes are gone, asked through node b: number 2, 8"
