"""Metrics that have been measured of the server: the emulator shows them, whoever runs it records them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Value:
    metric: str
    at: datetime
    value: float
    node: str = ""


@dataclass(slots=True)
class MetricStore:
    """`dimension`: Azure's reference names none for flexible servers; the older Citus service had `ServerName`."""

    dimension: str | None = None
    values: list[Value] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, metric: str, at: datetime, value: float, node: str = "") -> None:
        with self.lock:
            self.values.append(Value(metric, at, value, node))
