"""Faults that tests order from the emulator: Azure on a bad day, or worse than Azure ever was seen.

Every knob is one method or one field, may be used while the emulator runs, and is used up unless it says otherwise.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.lab.arm.protocol import ArmFault

# The connection is reset before the request has any effect, or after it had; the answer is cut off in its middle.
Break = Literal["reset-before", "reset-after", "garble"]


@dataclass(slots=True)
class Faults:
    """`min_duration`: seconds that every operation takes at least. `retry_after`: the header on 202 and on polls.

    `expire_operations`: polls answer 404, as ARM does for an operation it has forgotten. These three stay as set.
    """

    min_duration: float = 0.0
    retry_after: int | None = None
    expire_operations: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: list[tuple[str, str]] = field(default_factory=list)
    _busy: list[str] = field(default_factory=list)
    _requests: list[ArmFault] = field(default_factory=list)
    _requests_seen: int = 0
    _last_requests: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    _broken: dict[int, Break | ArmFault] = field(default_factory=dict)
    _ignored: int = 0
    _lost: int = 0
    _hangs: int = 0
    _hung: threading.Event = field(default_factory=threading.Event)
    _nodes: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._hung.set()
        self._nodes.set()

    # What tests order.

    def fail_next_operation(self, code: str, message: str) -> None:
        """The next operation is accepted, changes nothing and ends as Failed."""
        with self._lock:
            self._failures.append((code, message))

    def hang_next_operation(self) -> None:
        """The next operation stays InProgress until `release_operations`."""
        with self._lock:
            self._hangs += 1
            self._hung.clear()

    def release_operations(self) -> None:
        self._hung.set()

    def hold_nodes(self) -> None:
        """Resizes succeed at once, but no node joins before `release_nodes`. Stays as set."""
        self._nodes.clear()

    def release_nodes(self) -> None:
        self._nodes.set()

    def busy_writes(self, count: int, code: str = "ServerIsBusy") -> None:
        """The next `count` writes are refused with 409. Older servers say ArmBusy."""
        with self._lock:
            self._busy.extend([code] * count)

    def throttle(self, count: int = 1, retry_after: int | None = 1) -> None:
        """The next `count` requests, reads included, are refused with 429."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        text = "The request is being throttled as the limit has been reached for operations on this subscription."
        with self._lock:
            self._requests.extend([ArmFault(429, "TooManyRequests", text, headers)] * count)

    def error_once(self, status: int = 500, code: str = "InternalServerError") -> None:
        """The next request fails and has no effect."""
        text = "An unexpected error occured while processing the request."  # Azure's own spelling
        with self._lock:
            self._requests.append(ArmFault(status, code, text))

    def lose_next_reply(self) -> None:
        """The next write takes effect, then the connection is closed without an answer."""
        with self._lock:
            self._lost += 1

    def break_request(self, number: int, how: Break | ArmFault) -> None:
        """The request of that number, reads included and counted from 0 from the start, fails in this way."""
        with self._lock:
            self._broken[number] = how

    @property
    def requests_seen(self) -> int:
        return self._requests_seen

    @property
    def last_requests(self) -> tuple[str, ...]:
        """Method and path of up to a thousand requests, the latest at the end."""
        return tuple(self._last_requests)

    def ignore_next_resize(self) -> None:
        """The next change of the server succeeds without a change of its nodes, as Azure does with a scale-in."""
        with self._lock:
            self._ignored += 1

    # What the emulator asks.

    def take_break(self, request: str) -> Break | ArmFault | None:
        with self._lock:
            self._last_requests.append(request)
            number, self._requests_seen = self._requests_seen, self._requests_seen + 1
            return self._broken.pop(number, None)

    def take_ignored(self) -> bool:
        with self._lock:
            ignored, self._ignored = self._ignored > 0, max(0, self._ignored - 1)
        return ignored

    def check_request(self) -> None:
        with self._lock:
            fault = self._requests.pop(0) if self._requests else None
        if fault is not None:
            raise fault

    def take_busy(self) -> str | None:
        with self._lock:
            return self._busy.pop(0) if self._busy else None

    def take_lost_reply(self) -> bool:
        with self._lock:
            lost, self._lost = self._lost > 0, max(0, self._lost - 1)
        return lost

    def take_failure(self) -> tuple[str, str] | None:
        with self._lock:
            return self._failures.pop(0) if self._failures else None

    def take_hang(self) -> bool:
        with self._lock:
            hang, self._hangs = self._hangs > 0, max(0, self._hangs - 1)
        return hang

    def wait_released(self) -> None:
        self._hung.wait()

    @property
    def nodes_held(self) -> bool:
        return not self._nodes.is_set()

    def wait_nodes(self) -> None:
        self._nodes.wait()
