"""The benchmark: what is run, that nothing stays, and what is said to be used up."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.advice.bench import Step, flat, knee
from orchestrator.core.advice.saturation import saturated, verdict
from tests.advice.shapes import BY_COLUMN
from tests.fix_lab import Project
from tests.fix_plain import Plain
from tests.fix_standin import await_true

SCRIPT = """-- one transfer; the semicolon; here is a comment
\\set scale 3
\\set account random(1, 100 * :scale)
\\set amount random(-5, 5)
BEGIN;
UPDATE accounts SET balance = balance + :amount, note = ':amount; it''s text' WHERE id = :account;
INSERT INTO history (account, amount)
VALUES (:account, :amount::bigint);
END;
"""


@pytest.fixture
def bank(plain: Plain) -> Plain:
    plain.run([
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint, note text)",
        "INSERT INTO accounts SELECT i, 0, '' FROM generate_series(1, 300) i",
        "CREATE TABLE history (account bigint, amount bigint)",
    ])  # fmt: skip
    return plain


def contents(plain: Plain, *tables: str) -> list[Any]:
    with closing(plain.connect()) as connection:
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode()).fetchall() for table in tables]


def test_a_script_runs_and_is_rolled_back(project: Project, bank: Plain) -> None:
    (project.folder / "s.sql").write_text(SCRIPT)
    before = contents(bank, "accounts", "history")
    run = project.call(
        "advise", "--benchmark", "--script", "s.sql", "--seconds", "1", "--max-clients", "2", "--yes", "--json",
        env=bank.environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    steps = json.loads(run.stdout)["steps"]
    assert [step["clients"] for step in steps] == [1, 2]
    assert all(step["transactions"] > 10 and not step["errors"] for step in steps), steps
    assert all(step["wal_bytes"] > 0 for step in steps)
    assert "2 clients:" in run.stderr
    assert contents(bank, "accounts", "history") == before


def test_what_is_to_be_kept_is_kept(project: Project, bank: Plain) -> None:
    (project.folder / "s.sql").write_text(SCRIPT)
    run = project.call(
        "advise", "--benchmark", "--script", "s.sql", "--seconds", "1", "--max-clients", "1", "--yes", "--json",
        "--commit", env=bank.environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    accounts, history = contents(bank, "accounts", "history")
    assert len(history) >= json.loads(run.stdout)["steps"][0]["transactions"]
    assert sum(row[1] for row in accounts) == sum(row[1] for row in history)
    assert {row[2] for row in accounts} == {"", ":amount; it's text"}


def test_the_users_own_statements_run_with_values_that_are_there(
    project: Project, plain_databases: Callable[[], Plain]
) -> None:
    plain = BY_COLUMN.make(plain_databases())
    tables = ("orders", "order_items", "invoices", "tenants")
    before = contents(plain, *tables)
    run = project.call(
        "advise", "--benchmark", "--seconds", "1", "--max-clients", "2", "--yes", "--json", env=plain.environment
    )
    assert run.returncode == 0, run.stderr
    assert "Runs: UPDATE orders SET status = $1 WHERE tenant_id = $2 AND id = $3 (20 calls)." in run.stderr
    assert "Left out: INSERT INTO orders VALUES" in run.stderr
    for step in json.loads(run.stdout)["steps"]:
        assert step["transactions"] > 10
        assert step["errors"] == {}
    assert contents(plain, *tables) == before


def test_inserted_rows_get_keys_that_are_not_there_yet(project: Project, bank: Plain) -> None:
    insert = "INSERT INTO accounts (id, balance, note) VALUES ({0}, {0}, 'x')"
    bank.run([insert.format(number) for number in range(1000, 1020)])
    run = project.call(
        "advise", "--benchmark", "--seconds", "1", "--max-clients", "1", "--yes", "--json", env=bank.environment
    )
    assert run.returncode == 0, run.stderr
    step = json.loads(run.stdout)["steps"][0]
    assert step["transactions"] > 10
    assert step["errors"] == {}


def test_nobody_is_asked_nothing_is_run(project: Project, bank: Plain) -> None:
    (project.folder / "s.sql").write_text(SCRIPT)
    run = project.call("advise", "--benchmark", "--script", "s.sql", env=bank.environment)
    assert run.returncode == 2
    assert "--yes" in run.stderr
    assert contents(bank, "history") == [[]]


def test_an_interruption_ends_every_transaction_and_connection(project: Project, bank: Plain) -> None:
    (project.folder / "s.sql").write_text(SCRIPT)
    made = replace(project, environment=project.environment | bank.environment)
    run = made.start("advise", "--benchmark", "--script", "s.sql", "--seconds", "60", "--yes")
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orchestrator benchmark'"
    with closing(bank.connect()) as connection:

        def there() -> int:
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        await_true(lambda: there() >= 3, 60)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
        assert run.returncode == 130, err
        assert "Traceback" not in err
        await_true(lambda: there() == 0)
    assert contents(bank, "history") == [[]]


def test_an_interruption_ends_statements_that_wait_for_somebody_elses_lock(project: Project, bank: Plain) -> None:
    (project.folder / "s.sql").write_text("UPDATE accounts SET balance = 1 WHERE id = 1;\n")
    made = replace(project, environment=project.environment | bank.environment)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orchestrator benchmark'"
    with closing(bank.connect()) as holder, closing(bank.connect()) as connection:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM accounts WHERE id = 1 FOR UPDATE")
        run = made.start("advise", "--benchmark", "--script", "s.sql", "--seconds", "60", "--yes")

        def there(more: str = "") -> int:
            row = connection.execute((query + more).encode()).fetchone()
            return int(row[0]) if row else 0

        await_true(lambda: there(" AND wait_event_type = 'Lock'") == 1, 60)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
        assert run.returncode == 130, err
        await_true(lambda: there() == 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("\\sleep 5 ms", "s.sql:2: \\sleep is not supported"),
        ("\\set x random_gaussian(1, 5, 2.5)", "s.sql:2: \\set x cannot be computed"),
        ("\\set x :nowhere + 1", "s.sql:2: :nowhere has no value yet"),
        ("SELECT :nowhere;", "s.sql:2: :nowhere has no value"),
        ("\\set x 1.5", "s.sql:2: \\set x cannot be computed"),
    ],
)
def test_what_pgbench_knows_and_this_does_not_is_refused(project: Project, bank: Plain, line: str, said: str) -> None:
    (project.folder / "s.sql").write_text(f"SELECT 1;\n{line}\n")
    run = project.call("advise", "--benchmark", "--script", "s.sql", "--yes", env=bank.environment)
    assert run.returncode == 2
    assert said in run.stderr


def test_options_that_would_be_ignored_are_refused(project: Project) -> None:
    assert "only goes with --benchmark" in project.call("advise", "--commit").stderr
    assert "does not go with --benchmark" in project.call("advise", "--benchmark", "--watch", "5").stderr


def step(clients: int, rate: float, **more: Any) -> Step:
    return Step(clients, 10.0, int(rate * 10), **more)


def test_the_knee_is_where_more_clients_bring_no_more() -> None:
    steps = [step(1, 100), step(2, 195), step(4, 300), step(8, 305), step(16, 310)]
    assert flat(steps)
    assert knee(steps).clients == 4
    assert not flat(steps[:3])


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"cpu": 0.97, "driver": 0.5}, "cpu"),
        ({"cpu": 0.97, "driver": 0.95}, "client"),
        ({"cpu": 0.5, "driver": 0.3, "waits": {"IO:WalSync": 50, "CPU": 50}}, "wal"),
        ({"cpu": 0.5, "driver": 0.3, "waits": {"IO:WALSync": 20, "LWLock:WALWrite": 20, "CPU": 60}}, "wal"),
        ({"cpu": 0.5, "driver": 0.3, "waits": {"IPC:SyncRep": 50, "CPU": 50}}, "wal"),
        ({"cpu": 0.5, "driver": 0.3, "waits": {"Lock:transactionid": 50, "CPU": 50}}, "locks"),
        ({"driver": 0.3, "waits": {"IO:DataFileRead": 90, "CPU": 10}}, "disk"),
        ({"driver": 0.3, "waits": {"IO:AioIoCompletion": 60, "IO:WalSync": 30, "CPU": 10}}, "disk"),
        ({"driver": 0.3, "waits": {"LWLock:LockManager": 90, "CPU": 10}}, "unknown"),
        # While the processor is full, what waits for WAL waits for a turn on it; while others fill it, it does not.
        ({"cpu": 0.97, "server": 0.8, "waits": {"LWLock:WALWrite": 50, "CPU": 50}}, "cpu"),
        ({"cpu": 0.97, "server": 0.2, "waits": {"LWLock:WALWrite": 50, "CPU": 50}}, "wal"),
        # One of two vCores is all that it may use.
        ({"cpu": 0.55, "server": 0.97}, "cpu"),
    ],
)
def test_what_is_used_up_is_named(more: dict[str, Any], what: str) -> None:
    steps = [step(1, 100), step(2, 101), step(4, 102, **more)]
    assert saturated(steps) == what
    assert saturated(steps[:2]) == "none"


def test_a_server_that_takes_no_more_clients_is_not_called_unsaturated() -> None:
    steps = [step(1, 100), step(2, 200), step(4, 400, full=True)]
    assert saturated(steps) == "connections"
    assert "4 clients were the most. The throughput was still rising" in verdict(steps)[0]


def test_nobody_says_that_the_throughput_rises_where_it_did_not() -> None:
    assert "was still rising" in verdict([step(1, 100), step(2, 200)])[0]
    assert "nobody can say" in verdict([step(1, 100), step(2, 99)])[0]


def test_what_sessions_wait_for_is_said_where_it_does_not_hold_them_up_yet() -> None:
    said = verdict([step(1, 100), step(2, 200), step(4, 400, waits={"IO:WALSync": 9, "CPU": 1})])
    assert "wait mostly for IO:WALSync (90 %)" in said[0]


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        ({"Lock:tuple": 60, "Lock:transactionid": 30}, "the same rows"),
        ({"Lock:relation": 90, "CPU": 10}, "whole tables"),
        ({"Lock:extend": 40, "CPU": 60}, "the same table longer"),
        ({"Lock:advisory": 40, "CPU": 60}, "advisory locks"),
    ],
)
def test_the_kind_of_lock_is_named(waits: dict[str, int], said: str) -> None:
    assert said in verdict([step(1, 100), step(2, 101), step(4, 102, waits=waits)])[0]


def test_a_server_that_waits_for_its_clients_is_not_the_limit() -> None:
    """Waits count by all clients: of two that are at work, one that waits for a lock holds nobody else up."""
    waits = {"CPU": 10, "Lock:transactionid": 10}
    steps = [step(1, 100), step(2, 101), step(4, 102, driver=0.3, looks=50, waits=waits)]
    assert saturated(steps) == "client"
    assert "90 % of them were not at work" in verdict(steps)[0]


def test_a_full_processor_is_named_although_the_throughput_still_rose() -> None:
    assert saturated([step(1, 100), step(2, 200, cpu=0.98, server=0.9)]) == "cpu"
    assert saturated([step(1, 100), step(2, 200, cpu=0.98, server=0.2)]) == "none"


def test_other_programs_on_the_machine_are_told_of() -> None:
    said = " ".join(verdict([step(1, 100), step(2, 101), step(4, 102, cpu=0.99, server=0.3, own=0.1)]))
    assert "Other programs took 59 %" in said


def test_what_this_command_took_of_the_servers_machine_is_said() -> None:
    said = " ".join(verdict([step(1, 100), step(2, 101), step(4, 102, cpu=0.99, server=0.7, own=0.25)]))
    assert "took 25 % of its processor" in said


def test_a_standby_that_is_waited_for_is_named() -> None:
    waits = {"IPC:SyncRep": 80, "LWLock:WALWrite": 10, "CPU": 10}
    assert "the standby" in " ".join(verdict([step(1, 100), step(2, 101), step(4, 102, waits=waits)]))


def test_azures_cpu_of_the_step_that_was_held_counts() -> None:
    assert saturated([step(1, 100), step(2, 103, cpu=0.95), step(4, 102)]) == "cpu"


def test_the_signal_for_a_cluster_is_only_cpu_or_wal() -> None:
    flat_steps = [step(1, 100), step(2, 101)]
    assert any("peak.saturated: cpu" in one for one in verdict([*flat_steps, step(4, 102, cpu=0.99)]))
    assert not any("peak.saturated" in one for one in verdict([*flat_steps, step(4, 102, driver=0.99)]))
