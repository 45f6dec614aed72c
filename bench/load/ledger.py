"""The accounting: what was sent and how it was answered, against what is in the cluster afterwards. Pure.

A write is *acknowledged* (the commit was answered), *refused* (the server answered with an error that tells that
nothing was done) or *unknown* (the answer was lost, or the error does not tell). An acknowledged write has to be there
once; a refused one must not be there; an unknown one may be there once or not at all, and is neither lost nor doubled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Answer = Literal["acknowledged", "refused", "unknown"]
CODES: dict[Answer, int] = {"acknowledged": 1, "refused": 2, "unknown": 3}
ACKNOWLEDGED, REFUSED, UNKNOWN = CODES.values()


def answer_of(sqlstate: str | None) -> Answer:
    """What an error says about the transaction. Without SQLSTATE the connection was lost before the answer.

    Class 08 can come from a node's connection to another one during the commit; 57P is a server that goes away; 40003
    says itself that the completion is unknown.
    """
    if sqlstate is None or sqlstate.startswith(("08", "57P")) or sqlstate == "40003":
        return "unknown"
    return "refused"


@dataclass(slots=True)
class Ledger:
    """One writer's writes. Inserts are numbered from 0; additions to a counter are only counted, for each tenant."""

    writer: int
    inserts: bytearray = field(default_factory=bytearray)
    added: Counter[int] = field(default_factory=Counter)
    perhaps_added: Counter[int] = field(default_factory=Counter)

    def note(self, inserts: int, tenant: int, additions: int, answer: Answer) -> None:
        self.inserts.extend(CODES[answer] for _ in range(inserts))
        if answer == "acknowledged":
            self.added[tenant] += additions
        elif answer == "unknown":
            self.perhaps_added[tenant] += additions


@dataclass(slots=True)
class Account:
    """The result. Everything but `acknowledged`, `unknown` and `unknown_done` has to be 0."""

    acknowledged: int = 0
    unknown: int = 0
    unknown_done: int = 0
    lost: int = 0
    doubled: int = 0
    refused_but_done: int = 0
    never_sent: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.refused_but_done or self.never_sent)

    def __add__(self, other: Account) -> Account:
        return Account(*(getattr(self, name) + getattr(other, name) for name in Account.__slots__))


def account_inserts(ledger: Ledger, found: Iterable[int]) -> Account:
    """`found` are the numbers of this writer's rows as they are in the cluster, in any order, one for each row."""
    times = bytearray(len(ledger.inserts))
    account = Account()
    for number in found:
        if not 0 <= number < len(times):
            account.never_sent += 1
        elif times[number] < 255:
            times[number] += 1
    for code, count in zip(ledger.inserts, times, strict=True):
        account.acknowledged += code == ACKNOWLEDGED
        account.unknown += code == UNKNOWN
        account.unknown_done += code == UNKNOWN and count > 0
        account.lost += code == ACKNOWLEDGED and count == 0
        account.refused_but_done += code == REFUSED and count > 0
        account.doubled += max(0, count - 1)
    return account


def account_counters(ledger: Ledger, values: Mapping[int, int]) -> Account:
    """`values` are this writer's counters, for each tenant: not less than acknowledged, not more than perhaps done."""
    account = Account()
    for tenant in ledger.added.keys() | ledger.perhaps_added.keys() | values.keys():
        sure, perhaps = ledger.added[tenant], ledger.perhaps_added[tenant]
        value = values.get(tenant, 0)
        account.acknowledged += sure
        account.unknown += perhaps
        account.unknown_done += min(perhaps, max(0, value - sure))
        account.lost += max(0, sure - value)
        account.doubled += max(0, value - sure - perhaps)
    return account


def quantiles(seconds: Sequence[float]) -> dict[str, Any]:
    """Milliseconds: p50, p99 and the largest, and of how many."""
    if not seconds:
        return {"count": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)

    return {"count": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1)}


@dataclass(frozen=True, slots=True)
class Move:
    """A move as the run's events told it; times on the clients' clock."""

    shard_id: int
    name: str
    mode: str
    began: float
    ended: float


def longest_wait(move: Move, waits: Iterable[tuple[float, float]]) -> float:
    """The longest time, in seconds, that a write to what moves waited while it moved: (sent, answered) of each."""
    return max((until - since for since, until in waits if since < move.ended and until > move.began), default=0.0)
