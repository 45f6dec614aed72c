"""What a run tells its views, as a fixed list of types. Views render one stream of them; nothing else leaves a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias


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
    """The moves are over: seconds to the first one, seconds for all of them, and what one took.

    `job_id` is absent where no job of Citus made them, `fixed_seconds` and `seconds_per_byte` where these moves could
    not tell them apart. `mode` is the transfer mode of those direct moves that the two are of.
    """

    number: int
    job_id: int | None
    moves: int
    moved_bytes: int
    lead_seconds: float
    seconds: float
    fixed_seconds: float | None = None
    seconds_per_byte: float | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class MoveStarted:
    """A shard group begins to move. `source` and `target` are node ids; `bytes` is None where the size is unknown.

    `way` is who moves it: a task of Citus' background job, or a statement of ours.
    """

    number: int
    shard_id: int
    name: str
    source: int
    target: int
    bytes: int | None
    mode: str
    way: Literal["job", "direct"]


@dataclass(frozen=True, slots=True)
class TableCompared:
    """A table whose two copies were the same before its move was committed.

    `checksum` is the sum of its rows' hashes in digits, whatever their order; None says that `rows` are a sample.
    `rows` is None where there is no primary key to look a sample up by: then nothing was compared.
    """

    table: str
    rows: int | None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class MoveEnded:
    """`write_pause_seconds` is how long writes to the group can have waited, as far as that is known.

    `compared` has the tables that were read on both sides; it is empty where none were, and for Citus' own job.
    """

    number: int
    shard_id: int
    outcome: Literal["done", "failed"]
    seconds: float
    write_pause_seconds: float | None = None
    compared: tuple[TableCompared, ...] = ()


@dataclass(frozen=True, slots=True)
class LatencySeen:
    """One look of the probe statement, and what the run makes of it."""

    milliseconds: float
    state: Literal["going", "slowed", "paused"]


@dataclass(frozen=True, slots=True)
class Verified:
    """Data and metadata were compared with what was there before: what was looked at, and what was not as it was.

    `note` says of what that was, and what could not be looked at.
    """

    number: int
    schemas: int
    tables: int
    rows: int
    mode: str
    seconds: float
    problems: tuple[str, ...] = ()
    note: str = ""


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


MoveEvent: TypeAlias = MoveStarted | MoveEnded | MovesTimed
Event: TypeAlias = StepStarted | StepProgress | StepSucceeded | StepFailed | MoveEvent | LatencySeen | Verified | Notice

EVENT_TYPES = {
    StepStarted: "step_started",
    StepProgress: "step_progress",
    StepSucceeded: "step_succeeded",
    StepFailed: "step_failed",
    MoveStarted: "move_started",
    MoveEnded: "move_ended",
    MovesTimed: "moves_timed",
    LatencySeen: "latency_seen",
    Verified: "verified",
    Notice: "notice",
}


def to_json(event: Event) -> dict[str, Any]:
    """One JSON object; absent values are left out."""
    return {"type": EVENT_TYPES[type(event)]} | {
        key: value for key, value in asdict(event).items() if value is not None
    }
