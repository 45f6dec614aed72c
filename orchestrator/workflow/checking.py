"""What surrounds the moves of a run: something is noted before them, and must hold when they have ended.

The moves' own events pass through here, so whoever checks is told of each move of Citus' job as soon as it was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from orchestrator.core.checks.verification import Finding
from orchestrator.core.errors import VerificationFailed
from orchestrator.core.events import MoveEnded, MoveStarted, Notice, Verified, Waiting
from orchestrator.workflow.protocols import Checks
from orchestrator.workflow.waiting import NO_TIMEOUT, Run, when_connected

T = TypeVar("T")
# A node that does not answer for a moment is no problem; what is lost stays lost.
LOOKS, BETWEEN_LOOKS = 3, 1.0


def checked(number: int, checks: Checks | None, moves: Run[T]) -> Run[T]:
    """The result of the moves. Raises VerificationFailed with everything that does not hold when they have ended."""
    if checks is None:
        return (yield from moves)
    for note in checks.begin():
        yield Notice(note)
    try:
        result = yield from _watched(checks, moves)
        findings = yield from when_connected(checks.end, "check what was moved")
        for _ in range(LOOKS - 1):
            if not any(found.problems for found in findings):
                break
            yield Waiting(BETWEEN_LOOKS, "look again at what is not as it was", NO_TIMEOUT)
            findings = yield from when_connected(checks.end, "check what was moved")
    finally:
        checks.close()
    yield from _told(number, findings)
    return result


def _watched(checks: Checks, moves: Run[T]) -> Run[T]:
    running: dict[int, MoveStarted] = {}
    answer: float | None = None
    try:
        while True:
            item = next(moves) if answer is None else moves.send(answer)
            if isinstance(item, MoveStarted):
                running[item.shard_id] = item
            elif isinstance(item, MoveEnded) and item.outcome == "done":
                checks.moved(running[item.shard_id], item.compared)
            answer = yield item
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        moves.close()


def _told(number: int, findings: Sequence[Finding]) -> Run[None]:
    problems: list[str] = []
    for found in findings:
        what = found.schemas, found.tables, found.rows, found.mode, found.seconds, found.problems, found.note
        yield Verified(number, *what)
        problems += found.problems
    if problems:
        raise VerificationFailed(problems)
