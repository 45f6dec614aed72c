"""Logins of the administrator, and what the cluster remembers of an operation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from azure.core.credentials import AccessToken
from azure.identity import CredentialUnavailableError
from psycopg import sql

from orchestrator.clients.azure.entra import SCOPE, EntraPassword, NoEntraToken
from orchestrator.clients.cluster.connection import Login, UnencryptedToken, administrator, connect
from orchestrator.clients.cluster.operations import OperationJournal
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import LoginRefused
from orchestrator.core.observed.server import Operation
from tests.fix_lab import Cluster

PRINCIPAL = "ops@contoso.com"


@dataclass
class Entra:
    """Gives out tokens that last an hour."""

    now: float = 1000.0
    asked: list[str] = field(default_factory=list)

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        assert scopes == (SCOPE,)
        self.asked.append(f"token-{len(self.asked) + 1}")
        return AccessToken(self.asked[-1], int(self.now) + 3600)


def login(cluster: Cluster, password: Any) -> Login:
    return Login(cluster.host, cluster.port, cluster.database, PRINCIPAL, "disable", password)


def accept(cluster: Cluster, token: str) -> None:
    """The cluster takes this token, and no other any more."""
    with cluster.connect() as admin:
        there = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (PRINCIPAL,)).fetchone()
        verb = sql.SQL("ALTER ROLE" if there else "CREATE ROLE")
        admin.execute(sql.SQL("{} {} LOGIN PASSWORD {}").format(verb, sql.Identifier(PRINCIPAL), sql.Literal(token)))


def test_every_connection_logs_in_with_a_token_that_is_still_good(cluster: Cluster) -> None:
    entra = Entra()
    place = login(cluster, EntraPassword(lambda: entra, now=lambda: entra.now))
    accept(cluster, "token-1")
    for _ in range(2):
        with connect(place) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (PRINCIPAL,)
    assert entra.asked == ["token-1"]
    accept(cluster, "token-2")
    entra.now += 3600 - 299
    with connect(place) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (PRINCIPAL,)
    assert entra.asked == ["token-1", "token-2"]


def test_a_token_that_the_server_refuses_is_never_shown(cluster: Cluster) -> None:
    accept(cluster, "another")
    with pytest.raises(LoginRefused) as caught:
        connect(login(cluster, EntraPassword(Entra)))
    assert "token-1" not in str(caught.value)
    assert PRINCIPAL in str(caught.value)


def test_no_login_for_entra_says_how_to_log_in() -> None:
    class Nobody:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            raise CredentialUnavailableError("AzureCliCredential: not logged in.\nand more")

    with pytest.raises(NoEntraToken, match=r"not logged in\. Run `az login`.*databaseLogin"):
        EntraPassword(Nobody)()


def spec(**more: Any) -> ClusterSpec:
    return ClusterSpec.model_validate({"name": "elk1", "resourceGroup": "rg", "location": "northeurope"} | more)


def test_entra_needs_no_password_and_logs_in_as_the_named_role(tmp_path: Path) -> None:
    entra = spec(databaseLogin={"method": "entra", "role": PRINCIPAL})
    found = administrator(entra, tmp_path, {})
    assert (found.user, found.sslmode) == (PRINCIPAL, "verify-full")
    assert isinstance(found.password, EntraPassword)


def test_a_token_never_travels_unencrypted(tmp_path: Path) -> None:
    place = {"host": "10.0.0.5", "ports": {"direct": 5432}, "sslmode": "prefer"}
    entra = spec(databaseLogin={"method": "entra", "role": PRINCIPAL}, endpoint=place)
    with pytest.raises(UnencryptedToken, match="sslmode is prefer"):
        administrator(entra, tmp_path, {})


@pytest.mark.parametrize("wrong", [{"method": "entra"}, {"role": PRINCIPAL}])
def test_a_login_that_names_half_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="role"):
        spec(databaseLogin=wrong)


def test_an_operation_is_remembered_by_the_cluster_until_it_is_forgotten(cluster: Cluster) -> None:
    first, second = Operation("https://x/operation/1?s=a%2Fb", "resize"), Operation("https://x/2", "resize")

    def journal(connection: psycopg.Connection[Any]) -> OperationJournal:
        return OperationJournal(lambda: connection)

    with cluster.connect() as one:
        assert journal(one).unfinished() is None
        journal(one).forget()
        journal(one).remember(first)
        journal(one).remember(second)
        journal(one).remember(first)
    with cluster.connect() as another:
        assert journal(another).unfinished() == first
        journal(another).forget()
        assert journal(another).unfinished() is None


def test_a_login_shows_no_secret() -> None:
    assert "secret" not in repr(replace(Login("h", 1, "d", "u", "require", lambda: "secret")))
