"""What earlier runs on this cluster took. Kept in the cluster itself, read with its state; data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunTiming:
    """One run; times in seconds, None where the run had no such part or it could not be told.

    `settings_seconds` is raising and putting back the executor settings; `lead_seconds` the time from the start of the
    job to its first move; `fixed_seconds` and `seconds_per_byte` what a move took by itself and for its bytes.
    """

    transfer_mode: str
    nodes_before: int
    nodes_after: int
    shard_groups: int
    moves: int
    moved_bytes: int
    at_once: int
    per_node: int
    resize_seconds: float | None
    join_seconds: float | None
    settings_seconds: float | None
    lead_seconds: float | None
    moves_seconds: float | None
    fixed_seconds: float | None
    seconds_per_byte: float | None
    estimated_seconds: float
    seconds: float
