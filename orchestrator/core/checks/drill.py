"""The reconnect drill: what applications notice while the cluster restarts. Data, how samples fold, and the advice.

A *plain* client keeps one connection and tries again only with its next request, as a service without retries does. A
*retrying* one runs each request again, on a new connection, until it works: what `PATIENCE` and the pauses say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

Failover = Literal["planned", "forced"]
EVERY = 0.05  # seconds from the end of one request to the next
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries; each pause is twice the one before
PATIENCE = 30.0  # seconds for which a request is tried again
# What goes away by itself when a server is back. Errors without SQLSTATE are the client library's: refused, reset.
PASSING_STATES = ("57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "08P01")


@dataclass(frozen=True, slots=True)
class Failure:
    """`sqlstate` is empty where no server said anything. `at_commit`: nobody knows whether the work was done."""

    sqlstate: str
    text: str
    at_commit: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it began and ended, in seconds since the drill's start. Without `failure` it was answered.

    `tries` are the failed ones of a retrying client that were mended by another.
    """

    began: float
    ended: float
    failure: Failure | None = None
    tries: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """One kind of failure, and how often it was seen."""

    sqlstate: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Outage:
    """What one client noticed. `seconds` from the first failed request to the next answer; None: it never came back."""

    requests: int
    failed: int
    seconds: float | None
    longest: float
    at_commit: int
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class PortDrill:
    """Both clients of one service at one port."""

    service: str
    port: str
    number: int
    plain: Outage
    retrying: Outage


def outage(samples: Sequence[Sample]) -> Outage:
    failed = [sample for sample in samples if sample.failure is not None]
    failures = [sample.failure for sample in failed if sample.failure] + [one for s in samples for one in s.tries]
    kinds = Counter((failure.sqlstate, failure.text) for failure in failures)
    return Outage(
        requests=len(samples),
        failed=len(failed),
        seconds=_away(samples),
        longest=max((sample.ended - sample.began for sample in samples), default=0.0),
        at_commit=sum(failure.at_commit for failure in failures),
        told=tuple(Told(state, text, count) for (state, text), count in kinds.items()),
    )


def _away(samples: Sequence[Sample]) -> float | None:
    failed = [place for place, sample in enumerate(samples) if sample.failure is not None]
    if not failed:
        return 0.0
    after = samples[failed[-1] + 1 :]
    return after[0].ended - samples[failed[0]].began if after else None


def recovered(ports: Sequence[PortDrill]) -> bool:
    """Every client came back, and no request of a retrying one was lost."""
    clients = [client for port in ports for client in (port.plain, port.retrying)]
    return all(client.seconds is not None for client in clients) and not any(port.retrying.failed for port in ports)


def longest_away(ports: Sequence[PortDrill]) -> float:
    """Seconds: of the plain clients, and of what a retrying one had to wait for an answer."""
    return max((max(port.plain.seconds or 0.0, port.retrying.longest) for port in ports), default=0.0)


def advice(ports: Sequence[PortDrill]) -> tuple[str, ...]:
    """One sentence each, from what was seen."""
    clients = [client for port in ports for client in (port.plain, port.retrying)]
    states = sorted({told.sqlstate for client in clients for told in client.told} - {""})
    foreign = [state for state in states if state not in PASSING_STATES]
    gone = [f"{port.service}/{port.port}" for port in ports if port.plain.seconds is None]
    lost = [f"{port.service}/{port.port}" for port in ports if port.retrying.failed]
    hurt = any(client.failed or client.told for client in clients)
    took = longest_away(ports)
    found = [] if hurt else ["No request failed."]
    if gone:
        found.append(f"{', '.join(gone)} did not come back: run `orchestrator doctor`, and see the server's log.")
    if lost:
        found.append(f"{', '.join(lost)} lost requests after {PATIENCE:.0f} s of retries: this took {took:.0f} s.")
    if hurt:
        found += [_retry(states, max(PATIENCE, 3 * ceil(took))), _CHECK]
    if foreign:
        found.append(f"{', '.join(foreign)} are not errors of a restart: see the server's log.")
    if any(client.at_commit for client in clients):
        found.append(_AT_COMMIT)
    if any(port.port.endswith("pooled") and port.plain.failed for port in ports):
        found.append("The pooled ports went away with the server: PgBouncer does not hide a restart, retries do.")
    return tuple(found)


_CHECK = (
    "Have the pool try a connection before it hands it out (psycopg_pool: check=ConnectionPool.check_connection; "
    "SQLAlchemy: pool_pre_ping=True), so that broken ones are not served to the next requests."
)
_AT_COMMIT = (
    "Some transactions broke off at their COMMIT: nobody knows whether they happened. Never run such a one again "
    "blindly; look first, or make it idempotent (INSERT ... ON CONFLICT DO NOTHING with a key of your own)."
)


def _retry(states: Sequence[str], patience: float) -> str:
    """`patience` in seconds: well above what this restart took, because the next one may take longer."""
    those = f"{', '.join(states)} or without SQLSTATE" if states else "without SQLSTATE"
    return (
        f"Run a transaction again that failed before its COMMIT with an error of these: {those}. On a new connection, "
        f"after {FIRST_PAUSE} s, each pause twice the last, up to {LONGEST_PAUSE:.0f} s, for {patience:.0f} s at least."
    )


def drill_json(ports: Sequence[PortDrill]) -> dict[str, Any]:
    return {
        "recovered": recovered(ports),
        "longest_seconds": round(longest_away(ports), 3),
        "ports": [asdict(port) for port in ports],
        "advice": list(advice(ports)),
    }
