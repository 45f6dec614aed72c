"""Names that are SQL, formats, patterns or paths to somebody: used literally on a real server, or refused by key."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from orchestrator.lab.engine import EngineName
from tests.e2e.test_scale_out import connect
from tests.fix_lab import Project, engine_of
from tests.fix_project import _project

ENGINES: tuple[EngineName, ...] = ("native", "embedded")
DROP = "DROP TABLE canary.t"
NAMES = (
    f"a'; {DROP}; --",
    f"'||({DROP})||'",
    "%s %(x)s 100%",
    "{key} {} {0}",
    "$1 $$ $x$",
    "Ünïcödé ☃ 数据",
    "Upper CASE",
    "back\\slash\\",
    "[/red] <b>&amp;</b>",
    "../../etc",
    "$(touch pwned) `touch pwned` ;Host=h&",
    "é" * 31 + "z",  # 63 bytes in 32 characters
)
# Tables and columns that no key of the stack file names may have any character; these two are only in migrations.
TABLE, OTHER = f"t\"'; {DROP}; --\n%s", "o\";'{} %(x)s"
COLUMN, REFERENCE = "c'{key} $1 %", "r\\'{} %(x)s Ü"
FILE = "001 '; %s {key} $1 \\ ☃.sql"
QUOTED, QUOTED_OTHER = TABLE.replace('"', '""'), OTHER.replace('"', '""')
TENANT = f'CREATE TABLE "{QUOTED}" ("{QUOTED_OTHER}" bigint PRIMARY KEY, "{COLUMN}" text);'
ROWS = (
    f'CREATE TABLE "{REFERENCE}" (id int PRIMARY KEY);\n'
    f'CREATE TABLE "{QUOTED}" ("{COLUMN}" bigint, id int REFERENCES "{REFERENCE}", PRIMARY KEY ("{COLUMN}", id));'
)
FIRST_NODE = (
    "SELECT shardid FROM pg_dist_partition JOIN pg_dist_shard USING (logicalrelid)"
    " JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)"
    " WHERE partmethod = 'n' AND repmodel = 's' AND nodeid = 1"
)


@pytest.fixture(scope="module", params=ENGINES)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Iterator[Project]:
    """Two nodes and a table of the administrator that every hostile name tries to drop."""
    engine = engine_of(request, ENGINES)
    made = _project(tmp_path_factory.mktemp("hostile") / "project", lab_base)
    assert made.call("lab", "up", "--engine", engine, "--nodes", "2").returncode == 0
    for folder, text in (("tenant", TENANT), ("rows", ROWS)):
        (made.folder / "stacks" / folder).mkdir()
        (made.folder / "stacks" / folder / FILE).write_text(text, "utf-8")
    with connect(made) as admin:
        admin.execute("CREATE SCHEMA canary")
        admin.execute("CREATE TABLE canary.t AS SELECT 1 AS id")
    yield made
    made.call("lab", "down", "--delete")


def declare(project: Project, **values: Any) -> None:
    """The stack file of the lab with these keys and no others' services."""
    document = yaml.safe_load(project.stack.read_text("utf-8"))
    config = document["config"]
    config["elastic-cluster:services"] = []
    for key in ("serviceTemplates", "serverParameters"):
        config.pop(f"elastic-cluster:{key}", None)
    config |= {f"elastic-cluster:{key}": value for key, value in values.items()}
    project.stack.write_text(yaml.safe_dump(document), "utf-8")


def services() -> list[dict[str, Any]]:
    """Name, role and schema differ in every service; the last is row-sharded and everybody may read it."""
    turned = zip(NAMES, NAMES[1:] + NAMES[:1], NAMES[2:] + NAMES[:2], strict=True)
    made = [{"name": name, "role": role, "schema": schema, "migrations": ["tenant"]} for name, role, schema in turned]
    made[0]["password"] = {"file": "pass'; %s {key} ☃"}
    rows = {"sharding": "row", "distributionColumn": COLUMN, "referenceTables": [REFERENCE], "migrations": ["rows"]}
    readers = [{"role": role, "privileges": ["SELECT", "INSERT"]} for role in NAMES]
    return [*made, {"name": f"Rows'; {DROP}; --", "grants": readers, **rows}]


def seen(project: Project) -> dict[str, Any]:
    """What hostile names could have changed: relations with owner and way of spreading, roles, schemas, the canary."""
    with connect(project) as admin:
        return {
            "tables": set(
                admin.execute(
                    "SELECT space.nspname, class.relname, owner.rolname, part.partmethod::text, part.repmodel::text"
                    " FROM pg_class class JOIN pg_namespace space ON space.oid = class.relnamespace"
                    " JOIN pg_roles owner ON owner.oid = class.relowner"
                    " LEFT JOIN pg_dist_partition part ON part.logicalrelid = class.oid WHERE class.relkind = 'r'"
                    " AND space.nspname !~ '^(pg_|information_schema|citus|columnar|orchestrator)'"
                ).fetchall()
            ),
            "roles": {row[0] for row in admin.execute("SELECT rolname FROM pg_roles").fetchall()},
            "schemas": {row[0] for row in admin.execute("SELECT nspname FROM pg_namespace").fetchall()},
            "canary": admin.execute("SELECT id FROM canary.t").fetchall(),
        }


@pytest.fixture(scope="module")
def applied(lab: Project) -> Project:
    """Everything that is hostile and allowed, made by one apply."""
    secret = lab.folder / "pass'; %s {key} ☃"
    secret.write_text("it's %s {key} \\ secret\n", "utf-8")
    secret.chmod(0o600)
    declare(lab, services=services())
    done = lab.call("apply", "--yes")
    assert done.returncode == 0, done.stderr
    return lab


def test_hostile_names_are_made_literally_and_drop_nothing(applied: Project) -> None:
    declared = services()
    found = seen(applied)
    tenants = {(one["schema"], TABLE, one["role"], "n", "s") for one in declared[:-1]}
    rows = declared[-1]["name"]
    shared = {(rows, TABLE, rows, "h", "s"), (rows, REFERENCE, rows, "n", "t")}
    mine = {row for row in found["tables"] if row[0] in {*NAMES, rows}}
    assert mine == tenants | shared
    assert found["roles"] >= {*NAMES, rows}
    assert found["canary"] == [(1,)]
    with connect(applied) as admin:
        ran = admin.execute("SELECT service, name FROM orchestrator.migration").fetchall()
        assert set(ran) == {(one["name"], FILE) for one in declared}
        column = admin.execute(
            "SELECT column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition WHERE partmethod = 'h'"
        )
        assert column.fetchone() == (COLUMN,)
    again = applied.call("apply", "--yes", "--json")
    assert json.loads(again.stdout)["outcome"] == "nothing to do", again.stdout
    assert applied.call("plan", "--check").returncode == 0


def test_every_hostile_role_can_log_in_and_work_with_what_connection_prints(applied: Project) -> None:
    rows = services()[-1]["name"]
    for one in services()[:-1]:
        printed = applied.call("connection", one["name"], "--port", "direct", "--format", "json", "--show-password")
        assert printed.returncode == 0, printed.stderr
        found = json.loads(printed.stdout)
        with psycopg.connect(**found["libpq"], **found["psycopg"]) as role:
            assert role.execute("SELECT current_user, current_schema").fetchone() == (one["role"], one["schema"])
            insert = sql.SQL("INSERT INTO {} VALUES (1, 'x')").format(sql.Identifier(TABLE))
            role.execute(insert)
            shared = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(rows, TABLE))
            assert role.execute(shared).fetchone() == (0,)
        env = applied.call("connection", one["name"], "--format", "env")
        script = f'set -e\n{env.stdout}\nprintf %s "$PGUSER"'
        shell = subprocess.run(["bash", "-c", script], cwd=applied.folder, capture_output=True, text=True, check=False)
        assert (shell.stdout, shell.stderr) == (one["role"], "")
    assert not (applied.folder / "pwned").exists()


def test_hostile_names_are_moved_and_moved_back_and_stay_what_they_are(applied: Project, tmp_path: Path) -> None:
    before, page = seen(applied), tmp_path / "run.html"
    with connect(applied) as admin:
        for (shard,) in admin.execute(FIRST_NODE).fetchall():
            admin.execute("SELECT citus_move_shard_placement(%s, 1, 2, 'block_writes')", [shard])
    wanted = ("--strategy", "by_shard_count", "--moves", "direct", "--verify", "full")
    moved = applied.call("rebalance", "--yes", *wanted, "--report", str(page))
    assert moved.returncode == 0, moved.stderr
    with connect(applied) as admin:
        names = {row[0] for row in admin.execute("SELECT name FROM orchestrator.run_move").fetchall()}
        assert len(names & set(NAMES)) >= 3, names
    assert "<b>&amp;</b>" not in page.read_text("utf-8")
    undone = applied.call("rebalance", "--undo", "1", "--yes")
    assert undone.returncode == 0, undone.stderr
    for verb in ("status", "preflight", "runs"):
        shown = applied.call(verb)
        assert shown.returncode == 0, shown.stderr
    assert seen(applied) == before


REFUSED: dict[str, dict[str, Any]] = {
    "services[0].name: 'x\"": {"services": [{"name": f'x"; {DROP}; --'}]},
    "services[0].name: 'a\\nb'": {"services": [{"name": "a\nb"}]},
    "services[0].name: string should have at least 1": {"services": [{"name": ""}]},
    "services[0].role: 'a\\x00b'": {"services": [{"name": "a", "role": "a\0b"}]},
    "services[0].role: 'a\\x1b[2Jb'": {"services": [{"name": "a", "role": "a\x1b[2Jb"}]},
    f"'{'s' * 64}' is 64 bytes long": {"services": [{"name": "a", "schema": "s" * 64}]},
    f"'{'é' * 32}' is 64 bytes long": {"services": [{"name": "a", "schema": "é" * 32}]},
    "services[0]: schema $user": {"services": [{"name": "a", "schema": "$user"}]},
    "services[0]: PostgreSQL has no role named none": {"services": [{"name": "none"}]},
    "no role named public": {"services": [{"name": "a", "role": "public", "schema": "a"}]},
    "services[0].distributionColumn": {
        "services": [{"name": "a", "sharding": "row", "distributionColumn": f'c"); {DROP}; --'}]
    },
    "services[0].referenceTables[1]": {
        "services": [{"name": "a", "sharding": "row", "distributionColumn": "c", "referenceTables": ["r", "r\0"]}]
    },
    "services[0].grants[0].role: ": {"services": [{"name": "a", "grants": [{"role": f'b"; {DROP}; --'}]}]},
    "there is no role public": {"services": [{"name": "a", "grants": [{"role": "public"}]}]},
    f"there is no role b'; {DROP}; --": {"services": [{"name": "a", "grants": [{"role": f"b'; {DROP}; --"}]}]},
    "services[0].grants[0].privileges[0]": {
        "services": [{"name": "a", "grants": [{"role": "b", "privileges": ["SELECT ON canary.t TO b; --"]}]}]
    },
    "services[0].migrations[0]: a path": {"services": [{"name": "a", "migrations": ["x\0y"]}]},
    "no'such %s.sql does not exist": {"services": [{"name": "a", "migrations": ["no'such %s.sql"]}]},
    "services[0].password.env": {"services": [{"name": "a", "password": {"env": "X; env"}}]},
    "services[0].password.file: a path": {"services": [{"name": "a", "password": {"file": "x\0y"}}]},
    "no'such {key} cannot be read": {"services": [{"name": "a", "password": {"file": "no'such {key}"}}]},
    "keys.file: a path": {"serviceTemplates": [{"keys": {"file": "x\0y"}, "service": {"name": "{key}"}}]},
    "keys.range": {"serviceTemplates": [{"keys": {"range": f"1; {DROP}"}, "service": {"name": "{key}"}}]},
    "(key 'a\"b')": {"serviceTemplates": [{"keys": {"query": "SELECT 'a\"b'"}, "service": {"name": "{key}"}}]},
    "keys.query: ask the cluster for the keys of a service template: the query has more than one statement": {
        "serviceTemplates": [{"keys": {"query": f"SELECT 'k'; COMMIT; {DROP}"}, "service": {"name": "{key}"}}]
    },
    "cannot execute DROP TABLE in a read-only transaction": {
        "serviceTemplates": [{"keys": {"query": DROP}, "service": {"name": "{key}"}}]
    },
    "the query gives no rows": {"serviceTemplates": [{"keys": {"query": "COMMIT"}, "service": {"name": "{key}"}}]},
    "elastic-cluster:database": {"database": f"citus'; {DROP}; --"},
    "elastic-cluster:administratorLogin": {"administratorLogin": f'clusteradmin"; {DROP}; --'},
    "elastic-cluster:administratorPassword.file": {"administratorPassword": {"file": "x\0y"}},
    "elastic-cluster:databaseLogin.role": {"databaseLogin": {"method": "entra", "role": f'x"; {DROP}; --'}},
    "'../../x?a=b' is no name of a server parameter": {"serverParameters": {"../../x?a=b": "on"}},
    "work_mem: the value has a control character": {"serverParameters": {"work_mem": "4MB\nfsync = off"}},
}


ARGUMENTS = {
    ("rebalance", "--yes", "--strategy", f"x'; {DROP}; --"): "There is no rebalance strategy",
    ("rebalance", "--yes", "--strategy", 'x" %s {} \0'): "There is no rebalance strategy",
    ("rebalance", "--yes", "--undo", f"1; {DROP}"): "--undo",
    ("rebalance", "--yes", "--undo", "9" * 30): "There is no run",
    ("connection", f"x'; {DROP}; --", "--port", "direct", "--format", "dsn"): "declares no service",
    ("connection", "../../x %s {} \0", "--port", "direct", "--format", "dsn"): "declares no service",
    ("plan", "--stack", "../Pulumi"): "There is no stack",
}


def test_what_cannot_be_a_name_is_refused_by_its_key(lab: Project) -> None:
    text, before = lab.stack.read_text("utf-8"), seen(lab)
    for said, values in REFUSED.items():
        declare(lab, **values)
        done = lab.call("apply", "--yes")
        lab.stack.write_text(text, "utf-8")
        assert done.returncode == 2, (said, done.stdout, done.stderr)
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert seen(lab) == before


def test_hostile_arguments_are_refused(lab: Project) -> None:
    before = seen(lab)
    for arguments, said in ARGUMENTS.items():
        done = lab.call(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert seen(lab) == before


def test_keys_of_a_range_a_file_and_a_query_are_only_text(lab: Project) -> None:
    listed = lab.folder / "stacks" / "keys '; %s.txt"
    listed.write_text(f"k'; {DROP}; --\n%s\n{{key}}\n", "utf-8")
    templates = [
        {"keys": {"range": {"from": 1, "to": 2}}, "service": {"name": "r'%s {key}"}},
        {"keys": {"file": listed.name}, "service": {"name": "f{key}"}},
        {"keys": {"query": f"SELECT 'q''; {DROP}; -- %s {{key}}';"}, "service": {"name": "{key}"}},
    ]
    text = lab.stack.read_text("utf-8")
    try:
        declare(lab, serviceTemplates=templates)
        done = lab.call("apply", "--yes")
    finally:
        lab.stack.write_text(text, "utf-8")
    assert done.returncode == 0, done.stderr
    wanted = {"r'%s 1", "r'%s 2", f"fk'; {DROP}; --", "f%s", "f{key}", f"q'; {DROP}; -- %s {{key}}"}
    found = seen(lab)
    assert found["schemas"] >= wanted
    assert found["roles"] >= wanted
    assert found["canary"] == [(1,)]
