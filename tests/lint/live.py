"""What a real Citus and a real PgBouncer do with a statement of the corpus: the labels come from here, not from a rule.

Each `probe` of an entry names the experiment; every experiment cleans up after itself.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import Any

import psycopg

from tests.lint.live_tables import cutover, numbering, plan, table
from tests.lint.place import Place, fresh, prepare

STATE = """
    SELECT (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS "EC001",
           (SELECT count(*) FROM pg_listening_channels()) AS "EC002",
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
                AND objsubid IN (1, 2) AND NOT (classid = 0 AND objid > 1000)) AS "EC004",
           (SELECT string_agg(name || '=' || setting, E'\n' ORDER BY name) || current_user FROM pg_settings
                WHERE name NOT LIKE 'transaction%'
                AND name NOT LIKE 'plpgsql.%') || coalesce(current_setting('my.tenant', true), '') AS "EC005",
           (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r') AS "EC006",
           (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS "EC007"
"""
OTHER = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('v', 'S')"


def label(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """The rules that the engine shows to be broken, and what it said or did."""
    probes = {
        "session": session, "ddl": ddl, "query": query, "listen": listen, "notify": notify, "lock": lock,
        "table": table, "numbering": numbering, "plan": plan, "cutover": cutover,
    }  # fmt: skip
    return probes[entry["probe"]](place, entry)


def session(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """Two sessions of the pool: the setup leaves its traces in the first, which another client then keeps busy."""
    _end_sessions(place)
    with ExitStack() as stack:
        baseline = _state(stack.enter_context(_pooled(place)))
        client = stack.enter_context(_pooled(place))
        for statement in entry.get("setup", ()):
            client.execute(statement)
        if entry.get("setup"):
            busy = stack.enter_context(_pooled(place))
            busy.execute("BEGIN")
        warned: list[str] = []
        client.add_notice_handler(lambda note: warned.append(note.message_primary or ""))
        try:
            if entry.get("in_transaction"):
                with client.transaction():
                    client.execute(entry["sql"])
            else:
                client.execute(entry["sql"])
        except psycopg.Error as error:
            return _session_error(str(error))
        if any("you don't own a lock" in text for text in warned):
            return ["EC004"], warned[0]
        if entry.get("setup"):
            return [], "works in another session"
        return _left_behind(place, baseline)


def _left_behind(place: Place, baseline: dict[str, Any]) -> tuple[list[str], str]:
    with _pooled(place) as next_client:
        after = _state(next_client)
        hidden = next_client.execute(OTHER).fetchone()[0]
    rules = [rule for rule in baseline if baseline[rule] != after[rule]]
    if hidden:
        return ["EC006"], "the next client's session has a temporary view or sequence"
    return rules, "the next client finds it in its session" if rules else "the next client finds nothing of it"


def _session_error(text: str) -> tuple[list[str], str]:
    known = {
        "prepared statement": "EC001", "access to library": "EC003", "could not access file": "EC003",
        "cursor": "EC007", "relation": "EC006",
    }  # fmt: skip
    first = text.split("\n")[0]
    return [next(rule for words, rule in known.items() if words in text)], first


def _pooled(place: Place) -> Any:
    return place.connect(place.pooled, "lint_probe")


def _state(client: Any) -> dict[str, Any]:
    cursor = client.execute(STATE)
    return dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))


def _end_sessions(place: Place) -> None:
    """The next client of the pool gets a new session."""
    with place.connect(place.direct) as admin:
        mine = "FROM pg_stat_activity WHERE usename = 'lint_probe' AND backend_type = 'client backend'"
        admin.execute(f"SELECT pg_terminate_backend(pid) {mine}")
        deadline = time.monotonic() + 10
        while admin.execute(f"SELECT 1 {mine}").fetchone() is not None and time.monotonic() < deadline:
            admin.execute("SELECT pg_stat_clear_snapshot()")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), _pooled(place) as client:
            client.execute("SELECT 1")
            return


# What a node's catalogs hold of what users make: names, columns, rights, comments, and everything with an owner.
CATALOG = """
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT concat('class', relname, relnamespace::regnamespace, relowner, relacl, relrowsecurity) AS line
        FROM pg_class WHERE oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_(toast|temp)'
        UNION ALL
        SELECT concat('attribute', attrelid::regclass, attname, atttypid, attnotnull) FROM pg_attribute a
        JOIN pg_class c ON c.oid = attrelid
        WHERE attrelid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_(toast|temp)'
        UNION ALL SELECT concat('schema', nspname, nspowner, nspacl) FROM pg_namespace
            WHERE nspname !~ '^pg_(toast|temp)'
        UNION ALL SELECT concat('function', oid::regprocedure, proowner, proacl, procost) FROM pg_proc
        UNION ALL SELECT concat('role', oid, rolname, rolcanlogin) FROM pg_roles
        UNION ALL SELECT concat('member', roleid, member) FROM pg_auth_members
        UNION ALL SELECT concat('setting', s) FROM pg_db_role_setting s
        UNION ALL SELECT concat('comment', objoid, objsubid, description) FROM pg_description WHERE objoid >= 2200
        UNION ALL SELECT concat('type', typname, typnamespace) FROM pg_type
            WHERE oid >= 16384 AND typnamespace::regnamespace::text !~ '^pg_(toast|temp)'
        UNION ALL SELECT concat('rule', rulename, ev_class) FROM pg_rewrite WHERE oid >= 16384
        UNION ALL SELECT concat('policy', polname, polrelid) FROM pg_policy
        UNION ALL SELECT concat('trigger', tgname, tgrelid, tgenabled) FROM pg_trigger
        UNION ALL SELECT concat('cast', castsource, casttarget) FROM pg_cast WHERE oid >= 16384
        UNION ALL SELECT concat('operator', oprname, oprnamespace) FROM pg_operator WHERE oid >= 16384
        UNION ALL SELECT concat('collation', collname) FROM pg_collation WHERE oid >= 16384
        UNION ALL SELECT concat('search', cfgname) FROM pg_ts_config WHERE oid >= 16384
        UNION ALL SELECT concat('statistics', stxname, stxrelid) FROM pg_statistic_ext
        UNION ALL SELECT concat('default', defaclrole, defaclnamespace, defaclacl) FROM pg_default_acl
        UNION ALL SELECT concat('publication', pubname) FROM pg_publication
        UNION ALL SELECT concat('extension', extname) FROM pg_extension
    ) lines
"""


def ddl(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """On a node that is not the coordinator: refused, or done there while the coordinator knows nothing of it."""
    fresh(place)
    with place.connect(place.worker) as worker, place.connect(place.direct) as coordinator:
        before, there = (node.execute(CATALOG).fetchone() for node in (coordinator, worker))
        try:
            worker.execute(entry["sql"])
        except psycopg.Error as error:
            return ["EC301"], str(error).split("\n")[0]
        changed = coordinator.execute(CATALOG).fetchone() != before
        alone = worker.execute(CATALOG).fetchone() != there and not changed
        if alone:
            with suppress(psycopg.Error):
                worker.execute("DROP SCHEMA IF EXISTS lint_new CASCADE")
    if alone or changed:
        prepare(place)
    return (["EC301"], "only this node knows of it") if alone else ([], "done, as on the coordinator")


def query(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    with place.connect(place.worker) as worker, worker.transaction(force_rollback=True):
        worker.execute(entry["sql"])
    return [], "works"


def listen(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    channel = entry["sql"].split(" ", 1)[1]
    with place.connect(place.worker) as worker, place.connect(place.direct) as coordinator:
        worker.execute(entry["sql"])
        coordinator.execute(f"NOTIFY {channel}")
        heard = list(worker.notifies(timeout=0.3, stop_after=1))
    return ([], "heard") if heard else (["EC002"], "not heard from the coordinator")


def notify(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    with place.connect(place.worker) as worker, place.connect(place.direct) as coordinator:
        coordinator.execute(f"LISTEN {entry['channel']}")
        worker.execute(entry["sql"])
        heard = list(coordinator.notifies(timeout=0.3, stop_after=1))
    return ([], "heard") if heard else (["EC002"], "not heard on the coordinator")


def lock(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    with place.connect(place.worker) as worker, place.connect(place.direct) as coordinator:
        coordinator.execute("BEGIN")
        coordinator.execute(entry["sql"])
        worker.execute("SET lock_timeout = 300")
        try:
            taken = worker.execute(entry["sql"]).fetchone()[0] in (True, "")
        except psycopg.errors.LockNotAvailable:
            return [], "the second one waits"
    return (["EC004"], "both nodes gave the lock") if taken else ([], "the second one is refused")
