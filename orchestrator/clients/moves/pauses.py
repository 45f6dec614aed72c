"""How long writers wait for a move with block_writes, bound as a whole: from the first lock to the end of the commit.

PostgreSQL's statement_timeout bounds one statement, and a move is several and a commit, which nothing can end half way.
So each statement gets what is left of the time, less what commits took so far in this run; where that is used up before
the commit, the move is rolled back. Times are the server's own: `now()` is when the transaction began.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

# What is kept for the commit before one was seen, and at most, as parts of the whole: more would leave no move time.
FIRST_COMMIT, MOST_FOR_COMMIT = 0.1, 0.5
# What a move says that was rolled back at the last moment; the statement fails because this is no number.
MARK = "no time is left for the commit"

_TIME_LEFT = "greatest(1, ceil({most} - 1000 * extract(epoch FROM clock_timestamp() - now())))::int::text"
# A value that changes is in the failing text: PostgreSQL would work out a constant before it looks at the condition.
_CHECK = sql.SQL(
    "SELECT CASE WHEN clock_timestamp() - now() <= {budget} * interval '1 ms' THEN 0"  # noqa: S608 - a constant
    " ELSE ({mark} || ' after ' || (clock_timestamp() - now()))::int END,"
    " set_config('statement_timeout', " + _TIME_LEFT + ", true),"
    " extract(epoch FROM now()) AS began_at, extract(epoch FROM clock_timestamp()) AS checked_at"
)
_LIMIT = sql.SQL("SELECT set_config('statement_timeout', " + _TIME_LEFT + ", true)")
_BEGAN = sql.SQL("SELECT extract(epoch FROM now()) AS began_at, extract(epoch FROM clock_timestamp()) AS checked_at")
# After the commit, in a transaction of its own.
COMMITTED = sql.SQL("SELECT extract(epoch FROM clock_timestamp()) AS committed_at")
_NAMES = (b"began_at", b"checked_at", b"committed_at")


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds from the beginning of a move to the end of its commit, and those of the commit alone."""

    whole: float
    commit: float


def reserve(commits: Collection[float], most: float) -> float:
    """What to keep of `most` seconds for the commit: as long as 99 of 100 took."""
    if not commits:
        return most * FIRST_COMMIT
    ordered = sorted(commits)
    return min(ordered[math.ceil(0.99 * len(ordered)) - 1], most * MOST_FOR_COMMIT)


def limit(budget: float) -> sql.Composable:
    """The next statement may take what is left of so many seconds."""
    return _LIMIT.format(most=sql.Literal(round(budget * 1000)))


def check(budget: float | None, most: float | None) -> sql.Composable:
    """Fails where the budget is used up; lets the commit, as far as it can be ended, take what is left of `most`."""
    if budget is None or most is None:
        return _BEGAN
    known = {"budget": round(budget * 1000), "most": round(most * 1000), "mark": MARK}
    return _CHECK.format(**{name: sql.Literal(value) for name, value in known.items()})


def times(result: PGresult) -> dict[bytes, float]:
    """The times that one of these statements tells; nothing of any other result."""
    if result.status != ExecStatus.TUPLES_OK or result.ntuples != 1:
        return {}
    found = {}
    for column in range(result.nfields):
        name, value = result.fname(column), result.get_value(0, column)
        if name in _NAMES and value is not None:
            found[name] = float(value)
    return found


def pause(told: Mapping[bytes, float]) -> Pause | None:
    """None where the move was not committed, or was not asked for its times."""
    if not all(name in told for name in _NAMES):
        return None
    began, checked, committed = (told[name] for name in _NAMES)
    return Pause(round(committed - began, 4), committed - checked)
