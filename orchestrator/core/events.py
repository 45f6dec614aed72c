"""What a run tells its views, as a fixed list of types. Views render one stream of them; nothing else leaves a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Steps are numbered from 1 within a run. `kind` is the name of the step's type."""

    number: int
    of: int
    title: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class StepProgress:
    """`done` of `total` moves or nodes, bytes where known, `seconds_left` as far as it can be told from this step."""

    number: int
    text: str
    done: int | None = None
    total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    number: int
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class StepFailed:
    number: int
    title: str
    error: str


@dataclass(frozen=True, slots=True)
class MovesTimed:
    """A rebalance job has ended: seconds to its first move, seconds for all of them, and what one took.

    `fixed_seconds` and `seconds_per_byte` are absent where these moves could not tell them apart.
    """

    number: int
    job_id: int
    moves: int
    moved_bytes: int
    lead_seconds: float
    seconds: float
    fixed_seconds: float | None = None
    seconds_per_byte: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that is neither progress nor failure."""

    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Asks the driver to come back after `seconds`; the driver answers with the time in seconds since the start.

    `timeout` counts from `since`, in seconds since the start; without one from the beginning of the step.
    """

    seconds: float
    reason: str
    timeout: float
    since: float | None = None


Event: TypeAlias = StepStarted | StepProgress | StepSucceeded | StepFailed | MovesTimed | Notice

EVENT_TYPES = {
    StepStarted: "step_started",
    StepProgress: "step_progress",
    StepSucceeded: "step_succeeded",
    StepFailed: "step_failed",
    MovesTimed: "moves_timed",
    Notice: "notice",
}


def to_json(event: Event) -> dict[str, Any]:
    """One JSON object; absent values are left out."""
    return {"type": EVENT_TYPES[type(event)]} | {
        key: value for key, value in asdict(event).items() if value is not None
    }
