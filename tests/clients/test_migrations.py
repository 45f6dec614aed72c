"""Migration files: what is read from them, and what is refused with its line before anything runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.clients.services.migrations import read_all_migrations, read_migrations
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.errors import SpecError
from orchestrator.core.planning.migrations import Migration, TableFacts


def read(folder: Path, *texts: str | bytes) -> tuple[Migration, ...]:
    names = []
    for number, text in enumerate(texts, 1):
        name = f"{number:03}.sql"
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        names.append(name)
    return read_migrations(ServiceSpec(name="shop", migrations=tuple(names)), folder)


def table(folder: Path, text: str, name: str = "t") -> TableFacts:
    [migration] = read(folder, text)
    return next(facts for facts in migration.tables if facts.name == name)


def refusal(folder: Path, *texts: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        read(folder, *texts)
    return caught.value.message


def test_statements_are_split_where_postgresql_splits_them(tmp_path: Path) -> None:
    text = (
        "-- first; not a statement – ünïcode\n"
        "CREATE TABLE t (a text DEFAULT ';');\n\n"
        "DO $body$ BEGIN PERFORM 1; END $body$;\n"
        "/* ; */ INSERT INTO t VALUES ('é;'';')"
    )
    [migration] = read(tmp_path, text)
    assert migration.statements == (
        "CREATE TABLE t (a text DEFAULT ';')",
        "DO $body$ BEGIN PERFORM 1; END $body$",
        "INSERT INTO t VALUES ('é;'';')",
    )
    assert migration.lines == (2, 4, 5)
    assert migration.opaque


def test_a_folder_is_read_in_the_order_of_its_names_and_files_where_they_are_listed(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("more/020.sql", "more/003.sql", "zero.sql", "more/readme.txt"):
        (tmp_path / name).write_text("SELECT 1;")
    service = ServiceSpec(name="shop", migrations=("zero.sql", "more"))
    assert [found.name for found in read_migrations(service, tmp_path)] == ["zero.sql", "003.sql", "020.sql"]


def test_the_checksum_is_of_the_text_whatever_its_line_ends(tmp_path: Path) -> None:
    [unix] = read(tmp_path, "SELECT 1;\nSELECT 2;\n")
    [windows] = read(tmp_path, "SELECT 1;\r\nSELECT 2;\r\n")
    [changed] = read(tmp_path, "SELECT 1;\nSELECT 3;\n")
    assert unix.sha256 == windows.sha256 == hashlib.sha256(b"SELECT 1;\nSELECT 2;\n").hexdigest()
    assert changed.sha256 != unix.sha256


def test_keys_of_a_table_are_found_wherever_they_are_written(tmp_path: Path) -> None:
    facts = table(
        tmp_path,
        "CREATE TABLE shop.t (id bigint PRIMARY KEY, mail text UNIQUE,\n  UNIQUE (id, mail));\n"
        "ALTER TABLE t ADD COLUMN tenant bigint, ADD CONSTRAINT pair UNIQUE (tenant, id);\n"
        "CREATE UNIQUE INDEX ON shop.t (tenant);\n"
        "CREATE INDEX ON t (mail);",
    )
    assert facts.schema is None, "the service's own schema may be named or not"
    assert facts.columns == ("id", "mail", "tenant")
    assert [(key.kind, key.columns, key.line) for key in facts.keys] == [
        ("primary key", ("id",), 1),
        ("unique constraint", ("mail",), 1),
        ("unique constraint", ("id", "mail"), 2),
        ("unique constraint", ("tenant", "id"), 3),
        ("unique index", ("tenant",), 4),
    ]
    assert facts.created
    assert not facts.partial


def test_foreign_keys_are_found_inline_for_tables_and_in_alter_table(tmp_path: Path) -> None:
    facts = table(
        tmp_path,
        "CREATE TABLE t (a int REFERENCES other.p (id), b int,\n  FOREIGN KEY (b) REFERENCES q);\n"
        "ALTER TABLE t ADD FOREIGN KEY (a, b) REFERENCES shop.r;",
    )
    assert [(key.to_schema, key.to_table, key.columns, key.line) for key in facts.references] == [
        ("other", "p", ("a",), 1),
        (None, "q", ("b",), 2),
        (None, "r", ("a", "b"), 3),
    ]


def test_inheritance_and_partitions_are_told_apart(tmp_path: Path) -> None:
    text = (
        "CREATE TABLE t (id int) PARTITION BY RANGE (id);\n"
        "CREATE TABLE part PARTITION OF t FOR VALUES FROM (1) TO (2);\nCREATE TABLE child () INHERITS (other);"
    )
    [migration] = read(tmp_path, text)
    assert {facts.name: (facts.inherits, facts.partition) for facts in migration.tables} == {
        "t": (False, False),
        "part": (False, True),
        "child": (True, False),
    }


def test_a_trigger_that_the_file_drops_again_does_not_count(tmp_path: Path) -> None:
    kept = "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();"
    [migration] = read(tmp_path, f"{kept}\n{kept.replace('TRIGGER a', 'TRIGGER b')}\nDROP TRIGGER a ON t;")
    assert migration.triggers == (("t", 2),)


def test_a_dropped_table_leaves_no_facts(tmp_path: Path) -> None:
    [migration] = read(tmp_path, "CREATE TABLE t (id int);\nDROP TABLE t;\nDROP TABLE IF EXISTS shop.old, other.x;")
    assert migration.tables == ()
    assert migration.drops == ("t", "old")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "ALTER TABLE t DROP COLUMN id",
        "ALTER TABLE t RENAME COLUMN id TO key",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t SET SCHEMA elsewhere",
        "DROP INDEX t_pkey",
    ],
)
def test_what_is_not_followed_makes_the_facts_partial(tmp_path: Path, change: str) -> None:
    assert table(tmp_path, f"CREATE TABLE t (id int PRIMARY KEY);\n{change};").partial


def test_tables_whose_columns_are_written_elsewhere_are_partial(tmp_path: Path) -> None:
    assert table(tmp_path, "CREATE TABLE t (LIKE other INCLUDING ALL);").partial
    assert table(tmp_path, "CREATE TABLE t AS SELECT 1 AS id;").partial


def test_temporary_tables_are_nobodys_business(tmp_path: Path) -> None:
    [migration] = read(tmp_path, "CREATE TEMP TABLE t (id int PRIMARY KEY);\nCREATE TEMP TABLE u AS SELECT 1;")
    assert migration.tables == ()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("BEGIN", "cannot end it"),
        ("COMMIT", "cannot end it"),
        ("ROLLBACK", "cannot end it"),
        ("PREPARE TRANSACTION 'x'", "cannot end it"),
        ("SET ROLE somebody", "cannot change it"),
        ("SET LOCAL ROLE somebody", "cannot change it"),
        ("RESET ROLE", "cannot change it"),
        ("SET SESSION AUTHORIZATION somebody", "cannot change it"),
        ("CREATE INDEX CONCURRENTLY ON t (id)", "CONCURRENTLY"),
        ("DROP INDEX CONCURRENTLY i", "CONCURRENTLY"),
        ("REINDEX TABLE CONCURRENTLY t", "CONCURRENTLY"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", "CONCURRENTLY"),
        ("VACUUM t", "VACUUM"),
        ("CREATE DATABASE x", "one database"),
        ("ALTER SYSTEM SET work_mem = '1GB'", "serverParameters"),
        ("COPY t FROM STDIN", "use INSERT"),
        ("DISCARD ALL", "DISCARD"),
    ],
)
def test_what_cannot_run_in_a_migration_is_named_with_its_line(tmp_path: Path, statement: str, said: str) -> None:
    message = refusal(tmp_path, f"SELECT 1;\n\n{statement};")
    assert f"{tmp_path / '001.sql'}:3: " in message
    assert said in message


@pytest.mark.parametrize(
    "statement",
    ["SAVEPOINT a", "RELEASE SAVEPOINT a", "SET LOCAL search_path TO x", "ALTER TYPE mood ADD VALUE 'meh'",
     "REFRESH MATERIALIZED VIEW CONCURRENTLY v", "CREATE EXTENSION IF NOT EXISTS pg_trgm"],
)  # fmt: skip
def test_what_a_transaction_allows_is_allowed(tmp_path: Path, statement: str) -> None:
    assert len(read(tmp_path, f"{statement};")) == 1


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "COMMIT;\nVACUUM;", "CREATE TABEL t ();", "SELECT 'ünï€';\n\nSELECT 1 FROM x y z")
    assert "001.sql:1: " in message
    assert "001.sql:2: " in message
    assert '002.sql:1: syntax error at or near "TABEL"' in message
    assert "003.sql:3: syntax error" in message


def test_a_command_of_psql_is_called_that(tmp_path: Path) -> None:
    assert "001.sql:2: \\copy is a command of psql" in refusal(tmp_path, "SELECT 1;\n\\copy t from 'x'\n")


def test_an_empty_file_and_one_with_only_comments_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "-- later\n")
    assert "001.sql: the file has no statement" in message
    assert "002.sql: the file has no statement" in message


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "001.sql:2: the file is not UTF-8" in refusal(tmp_path, b"SELECT 1;\nSELECT '\xff';")


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError) as caught:
        read_migrations(ServiceSpec(name="shop", migrations=("nowhere.sql", "empty")), tmp_path)
    assert f"{tmp_path / 'nowhere.sql'} does not exist" in caught.value.message
    assert "the folder has no .sql file" in caught.value.message


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "001.sql").write_text("SELECT 1;")
    with pytest.raises(SpecError, match="another migration of that name"):
        read_migrations(ServiceSpec(name="shop", migrations=("a", "b")), tmp_path)


def test_problems_of_all_services_are_told_together(tmp_path: Path) -> None:
    services = [ServiceSpec(name=name, migrations=(f"{name}.sql",)) for name in ("shop", "user")]
    with pytest.raises(SpecError) as caught:
        read_all_migrations(services, tmp_path)
    assert "shop.sql does not exist" in caught.value.message
    assert "user.sql does not exist" in caught.value.message
    for service in services:
        (tmp_path / f"{service.name}.sql").write_text("SELECT 1;")
    assert set(read_all_migrations(services, tmp_path)) == {"shop", "user"}
