"""What a real Citus and a real PgBouncer do with a statement of the corpus: the labels come from here, not from a rule.

Each `probe` of an entry names the experiment; every experiment cleans up after itself.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

CORPUS = Path(__file__).parent.parent / "data" / "lint-corpus"
PASSWORD = "lint-password"
ALL_SHARDS = 8
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


@dataclass(frozen=True)
class Place:
    """Where to ask: ports on the loopback address, the administrator's login, and one node that is not the first."""

    direct: int
    pooled: int
    worker: int
    database: str
    admin: str
    password: str

    def connect(self, port: int, role: str | None = None) -> Any:
        password = self.password if role is None else PASSWORD
        return psycopg.connect(
            host="127.0.0.1", port=port, dbname=self.database, user=role or self.admin, password=password,
            sslmode="disable", autocommit=True, prepare_threshold=None,
        )  # fmt: skip


def corpus() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CORPUS / "corpus.json").read_text("utf-8"))
    return found


def prepare(place: Place) -> None:
    clean(place)
    with place.connect(place.direct) as admin:
        admin.execute(f"CREATE ROLE lint_probe LOGIN PASSWORD '{PASSWORD}'")
        admin.execute("CREATE ROLE lint_other")
        for grant in ("lint_probe TO CURRENT_USER", "lint_other TO CURRENT_USER", "lint_other TO lint_probe"):
            admin.execute(f"GRANT {grant}")
        for statement in (CORPUS / "prelude.sql").read_text("utf-8").split(";"):
            if statement.strip():
                admin.execute(statement)
        for schema in ("lr", "la", "lb"):
            admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO lint_probe")
            admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO lint_probe")


def clean(place: Place) -> None:
    """Also what a pool still has of the probe's sessions: they would outlive the role, and fail."""
    with place.connect(place.direct) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'lint_probe'")
        for schema in ("lx", "lr", "la", "lb", "lint_new", "lint_renamed"):
            admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        for role in ("lint_probe", "lint_other", "lint_new_role"):
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                with suppress(psycopg.errors.InsufficientPrivilege):
                    admin.execute(f"GRANT {role} TO CURRENT_USER")
                    admin.execute(f"DROP OWNED BY {role}")
                admin.execute(f"DROP ROLE {role}")


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
    _fresh(place)
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


def table(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    _fresh(place)
    with place.connect(place.direct) as admin:
        try:
            with admin.transaction(force_rollback=True):
                for statement in entry["sql"].split("; "):
                    admin.execute(statement)
        except psycopg.Error as error:
            return [_table_rule(str(error))], str(error).split("\n")[0]
    return [], "done"


def _table_rule(text: str) -> str:
    known = {
        "foreign key": "EC102", "referenced table": "EC102", "unique indexes on non-partition": "EC101",
        "cannot create constraint on": "EC101", "triggers are not supported": "EC105", "inherit": "EC105",
        "unique index on expressions": "EC101",
    }  # fmt: skip
    lower = text.lower()
    found = [rule for words, rule in known.items() if words.lower() in lower]
    assert found, text
    return found[0]


def numbering(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    _fresh(place)
    with place.connect(place.direct) as admin, place.connect(place.worker) as worker:
        try:
            for statement in entry["sql"].split("; "):
                admin.execute(statement)
            worker.execute(entry["insert"])
        except psycopg.Error as error:
            return ["EC104"], str(error).split("\n")[0]
        finally:
            admin.execute(entry.get("drop", "DROP TABLE IF EXISTS lx.a"))
    return [], "numbered on another node"


def plan(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """EXPLAIN says how many shards are asked; tenants' schemas that meet in a query make it EC103."""
    _fresh(place)
    schemas = set(re.findall(r"\b(la|lb|lr)\.", entry["sql"])) - ({"lr"} if "countries" in entry["sql"] else set())
    across = len(schemas) > 1
    with place.connect(place.direct) as admin:
        try:
            lines = [row[0] for row in admin.execute(f"EXPLAIN (COSTS OFF) {entry['sql']}").fetchall()]
        except psycopg.Error as error:
            return [_plan_rule(str(error), across)], str(error).split("\n")[0]
    text = "\n".join(lines)
    tasks = max([int(count) for count in re.findall(r"Task Count: (\d+)", text)], default=0)
    if across and "pull to coordinator" in text:
        return ["EC103"], "pull to coordinator"
    return (["EC201"] if tasks >= ALL_SHARDS else []), f"{tasks} tasks"


def _plan_rule(text: str, across: bool) -> str:
    if "FOR UPDATE" in text or "partition column" in text or "partition value" in text:
        return "EC201"
    known = (
        "repartition",
        "co-located",
        "colocated",
        "complex joins",
        "cannot perform",
        "non-distribution",
        "cartesian",
    )
    assert any(words in text for words in known), text
    return "EC103" if across else "EC202"


def cutover(place: Place, entry: dict[str, Any]) -> tuple[list[str], str]:
    """Left open in a transaction: does a writer wait for it, and does the move of the schema?"""
    _fresh(place)
    with place.connect(place.direct) as holder, place.connect(place.direct) as other:
        other.execute("SET lock_timeout = 400")
        source, *rest = other.execute(
            "SELECT groupid FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid) "
            "WHERE logicalrelid = 'la.t'::regclass"
        ).fetchone()
        target = other.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> %s ORDER BY nodeid LIMIT 1", [source]
        ).fetchone()
        assert not rest
        with holder.transaction(force_rollback=True):
            holder.execute(entry["sql"])
            writer = _waits(other, "INSERT INTO la.t VALUES (99, 99)")
            move = f"SELECT citus_schema_move('la', '{target[0]}', {target[1]}, 'block_writes')"
            moving = writer and _waits(other, move)
    said = "writers and the move wait" if moving else "writers do not wait"
    return (["EC401"], said) if moving else ([], said)


def _waits(connection: Any, statement: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.Error as error:
        if "lock timeout" in str(error):
            return True
        raise
    return False


def _fresh(place: Place) -> None:
    with place.connect(place.direct) as admin:
        admin.execute("DROP SCHEMA IF EXISTS lx CASCADE")
        admin.execute("CREATE SCHEMA lx")
        for schema in ("lint_new", "lint_renamed"):
            admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
