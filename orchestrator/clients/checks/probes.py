"""What a service meets at one port, proved on its own connections. Leaves nothing behind in a session of a pool.

Where a session is kept between transactions, LISTEN, locks and settings are tried on it. Where it is shared with other
clients they are not, because what they leave would stay with others: there the session's process id tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil, log
from typing import Any

import psycopg

from orchestrator.clients.cluster.connection import trusted_certificates
from orchestrator.core.access import Access

Connection = psycopg.Connection[Any]
_STATEMENT = b"orchestrator_doctor"
_CHANNEL = "orchestrator_doctor"
_LOCK = 0x6F726368_646F6374  # "orchdoct"
_HEARD_WITHIN = 2.0  # seconds
# A node that takes its share of connections is missed by all of them once in this many examinations.
_MISSED_ONCE_IN = 10_000
_NODES = "SELECT groupid FROM pg_catalog.pg_dist_node WHERE isactive AND noderole = 'primary' ORDER BY groupid"
_GROUP = "SELECT groupid FROM pg_catalog.pg_dist_local_group"
# PgBouncer keeps these for each client and sets them anew.
_LEFT = """
    SELECT name FROM pg_catalog.pg_settings
    WHERE source = 'session' AND setting IS DISTINCT FROM reset_val
      AND lower(name) NOT IN ('client_encoding', 'datestyle', 'timezone', 'standard_conforming_strings',
                              'application_name', 'intervalstyle', 'is_superuser', 'session_authorization')
      AND name NOT LIKE 'transaction%'
    ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """`nodes` are the node groups that answered, of `all_nodes`, in `connections`. `problem`: nothing else was seen.

    `settings_left` are those that other clients' SET has left in sessions of the pool.
    """

    problem: str = ""
    encrypted: bool = False
    role: str = ""
    schema: str | None = None
    nodes: tuple[int, ...] = ()
    all_nodes: tuple[int, ...] = ()
    connections: int = 0
    session_kept: bool = False
    prepared_statements: bool = False
    notifies: bool = False
    locks: bool = False
    settings_left: tuple[str, ...] = ()


def probe(access: Access, parameters: Mapping[str, str], password: str) -> Seen:
    """Connects as the service. An error becomes `problem`: the other ports are still of interest."""
    words = dict(parameters) | {"password": password}
    if words.get("sslrootcert") == "system":
        trusted = trusted_certificates()
        words.pop("sslrootcert")
        words |= {"sslrootcert": trusted} if trusted else {}

    def open_one() -> Connection:
        return psycopg.Connection.connect(**words, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]

    try:
        with ExitStack() as stack:
            return _look(_reach(open_one, stack, access))
    except psycopg.Error as error:
        return Seen(problem=" ".join(str(error).split()))


@dataclass(frozen=True, slots=True)
class _Reached:
    """Open connections: two to one node, and one to every other node that answered, of `everybody`."""

    first: Connection
    beside: Connection
    nodes: Mapping[int, Connection]
    everybody: tuple[int, ...]
    tried: int

    @property
    def elsewhere(self) -> Connection:
        """On another node than the first one where the port leads to one."""
        return next((session for session in self.nodes.values() if session is not self.first), self.beside)


def _reach(open_one: Callable[[], Connection], stack: ExitStack, access: Access) -> _Reached:
    """A balanced port is tried until every node has answered, or until one that has not is hardly chance."""
    first = stack.enter_context(open_one())
    home = int(_one(first, _GROUP))
    everybody = tuple(int(row[0]) for row in first.execute(_NODES).fetchall())
    nodes, beside, tried = {home: first}, None, 1
    count = len(everybody)
    most = ceil(count * log(count * _MISSED_ONCE_IN)) if access.balanced and count > 1 else 2
    while tried < most and (beside is None or not set(everybody) <= set(nodes)):
        connection, tried = open_one(), tried + 1
        group = int(_one(connection, _GROUP)) if access.balanced else home
        if group not in nodes:
            nodes[group] = stack.enter_context(connection)
        elif group == home and beside is None:
            beside = stack.enter_context(connection)
        else:
            connection.close()
    return _Reached(first, beside or stack.enter_context(open_one()), nodes, everybody, tried)


def _look(reached: _Reached) -> Seen:
    first = reached.first
    who = first.execute("SELECT current_user::text, current_schema()::text").fetchone() or ("", None)
    kept = _session_kept(first, reached.beside)
    return Seen(
        encrypted=bool(first.pgconn.ssl_in_use),
        role=who[0],
        schema=who[1],
        nodes=tuple(sorted(reached.nodes)),
        all_nodes=reached.everybody,
        connections=reached.tried,
        session_kept=kept,
        prepared_statements=kept or _renamed(first),
        notifies=kept and _heard(first, reached.elsewhere),
        locks=kept and _excluded(first, reached.elsewhere),
        settings_left=() if kept else _left_behind(first, reached.beside),
    )


def _session_kept(first: Connection, second: Connection) -> bool:
    """While another client is in a transaction on the session that the first one had, does the first still have it?"""
    before = _one(first, "SELECT pg_backend_pid()")
    with second.transaction():
        _one(second, "SELECT pg_backend_pid()")
        return bool(_one(first, "SELECT pg_backend_pid()") == before)


def _heard(first: Connection, other: Connection) -> bool:
    first.execute(f"LISTEN {_CHANNEL}")
    try:
        other.execute(f"NOTIFY {_CHANNEL}")
        return any(True for _ in first.notifies(timeout=_HEARD_WITHIN, stop_after=1))
    finally:
        first.execute(f"UNLISTEN {_CHANNEL}")


def _excluded(first: Connection, other: Connection) -> bool:
    """Does a session's lock keep the other one out?"""
    if first.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
        return True
    try:
        taken = other.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() == (True,)
        if taken:
            other.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
        return not taken
    finally:
        first.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _left_behind(first: Connection, beside: Connection) -> tuple[str, ...]:
    """Two clients at once, each in a transaction, have two sessions of the pool: those that were used last."""
    with first.transaction(), beside.transaction():
        rows = [row for session in (first, beside) for row in session.execute(_LEFT).fetchall()]
    return tuple(sorted({str(row[0]) for row in rows}))


def _renamed(connection: Connection) -> bool:
    """PgBouncer 1.21 keeps prepared statements under names of its own; an older one passes ours through."""
    with connection.transaction():
        connection.pgconn.prepare(_STATEMENT, b"SELECT 1")
        rows = connection.execute("SELECT name FROM pg_catalog.pg_prepared_statements").fetchall()
        passed = any(name == _STATEMENT.decode() for (name,) in rows)
        if passed:
            connection.execute("DEALLOCATE orchestrator_doctor")
    return not passed and any(str(name).startswith("PGBOUNCER_") for (name,) in rows)


def _one(connection: Connection, query: Any) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
