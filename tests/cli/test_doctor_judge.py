"""What doctor makes of what it saw at one port."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.cli.doctor.ports import judge
from orchestrator.clients.checks.probes import Seen
from orchestrator.core.access import Access, PortName

WELL = Seen(
    encrypted=True, role="user_service", schema="user_service", nodes=(0,), all_nodes=(0, 1, 2), connections=2,
    session_kept=True, prepared_statements=True, notifies=True, locks=True,
)  # fmt: skip
SPREAD = replace(WELL, nodes=(0, 1, 2), notifies=False, locks=False)
SHARED = replace(WELL, session_kept=False, notifies=False, locks=False)


def access(port: PortName = "direct", *, prepared: bool = True) -> Access:
    return Access(
        service="user", port_name=port, host="elk.postgres.database.azure.com", port=5432, database="postgres",
        user="user_service", schema="user_service", sslmode="verify-full", prepared_statements=prepared,
        pool_mode="transaction" if port.endswith("pooled") else None, password_env=None, password_file="x",
    )  # fmt: skip


def ill(port: Access, seen: Seen) -> list[str]:
    return [finding.what for finding in judge(port, seen) if not finding.ok]


@pytest.mark.parametrize(
    ("port", "seen"), [("direct", WELL), ("balanced", SPREAD), ("pooled", SHARED), ("balanced-pooled", SHARED)]
)
def test_what_each_port_is_there_for(port: PortName, seen: Seen) -> None:
    if port.startswith("balanced"):
        seen = replace(seen, nodes=seen.all_nodes)
    assert ill(access(port), seen) == []


@pytest.mark.parametrize(
    ("port", "seen", "what"),
    [
        ("direct", replace(WELL, encrypted=False), "TLS"),
        ("direct", replace(WELL, role="somebody"), "answers"),
        ("direct", replace(WELL, schema=None), "search_path"),
        ("direct", replace(WELL, nodes=(2,)), "nodes"),
        ("direct", replace(WELL, notifies=False), "LISTEN/NOTIFY"),
        ("direct", replace(WELL, locks=False), "advisory locks"),
        ("balanced", replace(SPREAD, nodes=(0, 1), connections=40), "nodes"),
        ("pooled", replace(SHARED, schema="public"), "search_path"),
        ("pooled", replace(SHARED, session_kept=True), "session"),
        ("pooled", replace(SHARED, settings_left=("search_path",)), "session settings"),
        ("pooled", replace(SHARED, prepared_statements=False), "prepared statements"),
    ],
)
def test_one_thing_that_is_wrong_is_one_finding(port: PortName, seen: Seen, what: str) -> None:
    assert ill(access(port), seen) == [what]


def test_prepared_statements_that_nobody_promised_are_no_finding() -> None:
    assert ill(access("pooled", prepared=False), replace(SHARED, prepared_statements=False)) == []


def test_a_node_that_is_never_reached_is_named_with_the_number_of_tries() -> None:
    found = [one for one in judge(access("balanced"), replace(SPREAD, nodes=(0, 2), connections=31)) if not one.ok]
    assert found[0].seen.startswith("2 of 3 nodes answered in 31 connections, never those of group 1:")


def test_a_lab_in_which_one_server_plays_all_nodes_is_not_blamed_for_it() -> None:
    seen = replace(SPREAD, nodes=(0,))
    assert [one.what for one in judge(access("balanced"), seen, simulated=True) if not one.ok] == []
