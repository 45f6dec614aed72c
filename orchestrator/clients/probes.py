"""What a service meets at one port, proved on its own connections. Leaves nothing behind in a session of a pool.

Whether a session is kept between transactions decides about LISTEN, session locks, settings and temporary tables, so
that is what is proved, by the session's process id, and none of them is tried on sessions that others will get.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg

from orchestrator.clients.connection import trusted_certificates
from orchestrator.core.access import Access

Connection = psycopg.Connection[Any]
CONNECTIONS = 12  # of a balanced port: with two nodes all end on the same one once in 2048 times
_STATEMENT = b"orchestrator_doctor"


@dataclass(frozen=True, slots=True)
class Seen:
    """`nodes` are the node groups that answered, of `all_nodes`. `problem` is set where nothing else was seen."""

    problem: str = ""
    encrypted: bool = False
    role: str = ""
    schema: str | None = None
    nodes: tuple[int, ...] = ()
    all_nodes: int = 0
    session_kept: bool = False
    prepared_statements: bool = False


def probe(access: Access, parameters: Mapping[str, str], password: str) -> Seen:
    """Connects as the service. An error becomes `problem`: the other ports are still of interest."""
    words = dict(parameters) | {"password": password}
    if words.get("sslrootcert") == "system":
        trusted = trusted_certificates()
        words.pop("sslrootcert")
        words |= {"sslrootcert": trusted} if trusted else {}
    try:
        with ExitStack() as stack:
            opened = [_open(stack, words) for _ in range(CONNECTIONS if access.balanced else 2)]
            return _look(opened, access.pooled)
    except psycopg.Error as error:
        return Seen(problem=" ".join(str(error).split()))


def _open(stack: ExitStack, words: dict[str, str]) -> Connection:
    return stack.enter_context(psycopg.Connection.connect(**words, autocommit=True, prepare_threshold=None))  # type: ignore[arg-type]


def _look(opened: list[Connection], pooled: bool) -> Seen:
    first, second = opened[:2]
    who = first.execute("SELECT current_user::text, current_schema()::text").fetchone() or ("", None)
    total = first.execute("SELECT count(*) FROM pg_catalog.pg_dist_node WHERE isactive").fetchone() or (0,)
    nodes = {_one(connection, "SELECT groupid FROM pg_catalog.pg_dist_local_group") for connection in opened}
    kept = not pooled or _session_kept(first, second)
    return Seen(
        encrypted=bool(first.pgconn.ssl_in_use),
        role=who[0],
        schema=who[1],
        nodes=tuple(sorted(nodes)),
        all_nodes=int(total[0]),
        session_kept=kept,
        prepared_statements=kept or _renamed(first),
    )


def _session_kept(first: Connection, second: Connection) -> bool:
    """While another client is in a transaction on the session that the first one had, does the first still have it?"""
    before = _one(first, "SELECT pg_backend_pid()")
    with second.transaction():
        taken = _one(second, "SELECT pg_backend_pid()")
        return bool(taken != before and _one(first, "SELECT pg_backend_pid()") == before)


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
