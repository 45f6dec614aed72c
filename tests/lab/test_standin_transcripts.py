"""Sessions recorded on real Citus 13.2 (PostgreSQL 15), run again on the stand-in: same rows, notices and errors.

What comes back otherwise is listed with its reason; anything else is a difference that nobody knows of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psycopg

from orchestrator.lab.engine import ADMIN_SETTINGS
from tests.fix_standin import Message, Session, Standin

DATA = Path(__file__).parent.parent / "data" / "citus-transcripts"
ON_WORKER = "from a worker node"

# Statement -> why the stand-in answers otherwise. A pattern, because some statements differ in one argument only.
KNOWN_DIFFERENCES: dict[str, str] = {
    r"select citus_backend_gpid\(\)": "contains a process id",
    r"create table (s_c\.c|public\.fkr).*": "a table with a key to a reference table stays an ordinary one",
    r"select citus_schema_undistribute\('a'\)": "as above",
    r"select table_name::text,citus_table_type,.*": "as above: it is not listed as a local table",
    r"select \* from pg_dist_shard where logicalrelid.*": "undistributing a table takes shard ids in Citus",
    r"select citus_schema_distribute\('m'\)": "the second time Citus takes the tables in another order",
    r"alter table m\.old add column c1 int check.*": "the server does not tell how a constraint was written",
    r"alter table m\.old alter column v set statistics.*": "unsupported subcommands are not refused",
    r"alter table m\.old disable trigger all": "as above",
    r"insert into user_service\.users.*": "sequences work on simulated workers",
    r"select count\(\*\) from user_service\.users": "the row of the insert above",
    r"select \* from citus_rebalance_status\(\)": "the job recorded before this is not there, or has other times",
    r"select \* from citus_job_list\(\)": "contains times",
    r"select \* from get_rebalance_table_shards_plan\(\)": "the recorded cluster placed schema foo on the other node",
    r"select citus_rebalance_start\(\)": "as above; what it refuses is tested apart",
    r"create schema authorization svc1": "PostgreSQL 16 and later word this as `must be able to SET ROLE`",
    r"grant svc\d to adm": "the lab's admin is a member of the roles it makes, as on Azure",
    r"select citus_version\(\)": "says that it is a stand-in",
    r"select count\(\*\) from citus_stat_activity": "counts other processes",
    r"select \* from citus_locks.*": "contains process ids",
    r"select \* from get_rebalance_table_shards_plan\(rebalance_strategy:='by_shard_count'\)": "as for the plan above",
    r"select citus_set_node_property\('localhost',7001,'shouldhaveshards',true\)": "no context of another node",
    r"select citus_schema_move\('admschema','localhost',7001\)": "the recorded cluster placed it there to begin with",
    r"drop schema s_dist cascade": "on a real node shards are tables of their own",
}


@dataclass
class Exchange:
    section: str
    role: str
    statement: str
    answer: list[str] = field(default_factory=list)

    @property
    def node(self) -> int:
        return 2 if self.section == ON_WORKER else 0


def recorded(name: str, database: str) -> Iterator[Exchange]:
    section, current = "", None
    text = (DATA / name).read_text("utf-8").replace("database citus", f"database {database}")
    for line in text.splitlines():
        if line.startswith("== "):
            section = line[3:]
        elif match := re.match(r"\[(\w+)\] (.*)", line):
            if current is not None:
                yield current
            current = Exchange(section, match[1], match[2])
        elif current is not None and re.match(r"   (ok|->|NOTICE|WARNING|ERROR)", line):
            current.answer.append(line.strip())
        elif current is not None and current.answer:
            current.answer[-1] += "\n" + line
    if current is not None:
        yield current


def shown(message: Message) -> str:
    text = f"{message.severity} {message.sqlstate}: {message.text}"
    return (
        text
        + (f" | DETAIL: {message.detail}" if message.detail else "")
        + (f" | HINT: {message.hint}" if message.hint else "")
    )


def answered(session: Session, statement: str) -> list[str]:
    session.messages.clear()
    try:
        cursor = session.conn.execute(statement.encode())
    except psycopg.Error as error:
        return [shown(message) for message in session.messages] + [shown(Message.of(error.diag))]
    last = f"ok {cursor.statusmessage}"
    if cursor.description:
        last = "-> " + " ".join(repr(row) for row in cursor.fetchall())
    return [shown(message) for message in session.messages] + [last]


def same(expected: str, actual: str) -> bool:
    """Rows are recorded with a header when there are several, and cut after some: `... 15 rows`."""
    if not expected.startswith("->"):
        return expected == actual
    expected = re.sub(r"^->( \['.*?'\])?\s*", "-> ", expected)
    cut = re.match(r"(.*) \.\.\. (\d+) rows$", expected)
    return actual.startswith(cut[1]) if cut else expected.strip() == actual.strip()


def tutorial(standin: Standin) -> None:
    """What was there when the recordings began: the three services of the microservices tutorial, with some data."""
    for service, table in (
        ("user_service", "users (id SERIAL PRIMARY KEY, name VARCHAR(255) NOT NULL, email VARCHAR(255) NOT NULL)"),
        (
            "time_service",
            "query_details (id SERIAL PRIMARY KEY, ip_address INET NOT NULL, query_time TIMESTAMP NOT NULL)",
        ),
        ("ping_service", "ping_results (id SERIAL PRIMARY KEY, host VARCHAR(255) NOT NULL, result TEXT NOT NULL)"),
    ):
        standin.run(f"CREATE USER {service}")
        standin.run(f"CREATE SCHEMA AUTHORIZATION {service}")
        standin.run(f"SELECT citus_schema_distribute('{service}')")
        standin.session(service).run(f"CREATE TABLE {table}")
    standin.session("user_service").run(
        "INSERT INTO users (name, email)"
        " SELECT 'John Doe ' || i, 'john' || i || '@example.com' FROM generate_series(1, 1000) i"
    )
    standin.session("time_service").run(
        "INSERT INTO query_details (ip_address, query_time) VALUES ('127.0.0.1', now())"
    )
    standin.session("ping_service").run("INSERT INTO ping_results (host, result) VALUES ('example.com', 'ok')")


GRANT_EVERY_OWNER = """DO $$ DECLARE owner text; BEGIN
    FOR owner IN SELECT DISTINCT schema_owner FROM citus_schemas WHERE schema_owner NOT IN ('adm', 'postgres') LOOP
        EXECUTE format('GRANT %I TO adm', owner);
    END LOOP; END $$"""


def recorded_before_privileges(standin: Standin) -> None:
    """The admin of the recordings could change no setting, and more had happened in the standin."""
    standin.run("REVOKE EXECUTE ON FUNCTION pg_reload_conf() FROM adm")
    for setting in ADMIN_SETTINGS:
        standin.run(f"REVOKE ALTER SYSTEM ON PARAMETER {setting} FROM adm")
    for name in ("tx1", "tx2", "pl1", "pl2", "ms1"):
        standin.run(f"CREATE USER {name}")
        standin.run(f"CREATE SCHEMA AUTHORIZATION {name}")
        standin.run(f"SELECT citus_schema_distribute('{name}')")
        if not name.startswith("pl"):
            standin.session(name).run("CREATE TABLE t (id bigint PRIMARY KEY)")
    standin.run("SELECT citus_schema_move('user_service', 1, 'block_writes')")
    standin.run("CALL citus_cleanup_orphaned_resources()")
    standin.run(
        "INSERT INTO citus_lab.background_job VALUES (0, 1, 'finished', 'rebalance', 'as recorded', now(), now())"
    )
    standin.run(
        "INSERT INTO citus_lab.background_task (groupid, job_id, task_id, owner, status, command)"
        " VALUES (0, 1, 1, 'postgres', 'done', 'SELECT 1')"
    )


def differences(standin: Standin, name: str, afterwards: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    found = []
    for said in recorded(name, standin.database):
        actual = answered(standin.session(said.role, said.node), said.statement)
        if said.statement in afterwards:
            standin.run(afterwards[said.statement])
        if any(re.fullmatch(pattern, said.statement) for pattern in KNOWN_DIFFERENCES):
            continue
        if len(actual) != len(said.answer) or not all(map(same, said.answer, actual)):
            found.append(
                "\n".join(
                    [
                        f"[{said.role}] {said.statement}",
                        *(f"  Citus: {line}" for line in said.answer),
                        *(f"  here:  {line}" for line in actual),
                    ]
                )
            )
    return found


def test_errors_of_citus_come_back_word_for_word(standin: Standin) -> None:
    tutorial(standin)

    found = differences(standin, "errors.txt")

    assert not found, "\n".join(found)


def test_tables_and_their_changes(standin: Standin) -> None:
    found = differences(standin, "tables.txt")

    assert not found, "\n".join(found)


def test_rights_of_an_admin_who_is_no_superuser(standin: Standin) -> None:
    tutorial(standin)
    differences(standin, "errors.txt")
    recorded_before_privileges(standin)

    found = differences(standin, "privileges.txt", {"drop schema s_dist cascade": GRANT_EVERY_OWNER})

    assert not found, "\n".join(found)
