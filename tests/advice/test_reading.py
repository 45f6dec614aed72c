"""What is understood of statements and URLs before anything is decided."""

from __future__ import annotations

import pytest

from orchestrator.clients.advice.advice_login import UrlRefused, login_of
from orchestrator.core.advice.facts import Column, Key, Recorded, Table, Usage
from orchestrator.core.advice.filling import Filled, Unfillable
from orchestrator.lint.filling import fill
from orchestrator.lint.usage import usages


def table(schema: str, name: str, *columns: str) -> Table:
    return Table(
        schema,
        name,
        10,
        1000,
        tuple(Column(one, "bigint", True) for one in columns),
        (Key(f"{name}_pkey", ("id",), True),),
    )


TABLES = (
    table("public", "orders", "id", "tenant", "state"),
    table("public", "items", "id", "order_id", "tenant"),
    table("a", "orders", "id", "tenant"),
    table("b", "orders", "id", "tenant"),
)


def read(text: str, *schemas: str) -> Usage | None:
    return next(iter(usages([Recorded(text, 3, 0.5, 10, schemas or ("public",))], TABLES)), None)


def held(text: str) -> set[tuple[frozenset[str], bool]]:
    """Classes as sets of `table.column`, and whether they are pinned."""
    usage = read(text)
    assert usage is not None
    return {
        (frozenset(f"{query.sources[source].split('.')[1]}.{column}" for source, column in one.columns), one.pinned)
        for query in usage.queries
        for one in query.classes
    }


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("SELECT * FROM orders WHERE tenant = $1", {(frozenset({"orders.tenant"}), True)}),
        ("SELECT * FROM orders WHERE id IN ($1, $2)", {(frozenset({"orders.id"}), True)}),
        ("SELECT * FROM orders WHERE id > $1", set()),
        (
            "SELECT * FROM orders o JOIN items i ON i.order_id = o.id",
            {(frozenset({"orders.id", "items.order_id"}), False)},
        ),
        (
            "SELECT * FROM orders JOIN items USING (tenant) WHERE orders.tenant = $1",
            {(frozenset({"orders.tenant", "items.tenant"}), True)},
        ),
        ("UPDATE orders SET state = $1 WHERE tenant = $2", {(frozenset({"orders.tenant"}), True)}),
        (
            "INSERT INTO orders (id, tenant) VALUES ($1, $2)",
            {(frozenset({"orders.id"}), True), (frozenset({"orders.tenant"}), True)},
        ),
        (
            "SELECT id FROM orders WHERE tenant = $1 UNION ALL SELECT id FROM items WHERE order_id = $2",
            {(frozenset({"orders.tenant"}), True), (frozenset({"items.order_id"}), True)},
        ),
    ],
)
def test_what_a_statement_holds_equal(text: str, classes: set[tuple[frozenset[str], bool]]) -> None:
    assert held(text) == classes


def test_names_are_looked_up_where_the_role_would() -> None:
    for schema in ("a", "b", "public"):
        usage = read("SELECT * FROM orders WHERE id = $1", schema, "public")
        assert usage is not None
        assert usage.tables == {f"{schema}.orders"}


def test_what_is_over_no_table_of_the_user_is_left_out() -> None:
    assert read("SELECT * FROM pg_class") is None
    assert read("SELEC nothing") is None
    assert read("SET TRANSACTION READ ONLY") is None
    listening = read("LISTEN news")
    assert listening is not None
    assert listening.pooled


def test_a_statement_is_filled_or_left_out_with_a_reason() -> None:
    known = {one.title: one for one in TABLES}

    def filled(text: str) -> Filled | Unfillable:
        usage = read(text)
        assert usage is not None
        return fill(usage, known)

    found = filled("UPDATE orders SET state = $1 WHERE tenant = $2 AND id = ANY ($3)")
    assert isinstance(found, Filled)
    assert [(one.number, one.column, one.how) for one in found.parameters] == [
        (1, "state", "row"), (2, "tenant", "row"), (3, "id", "array"),
    ]  # fmt: skip
    found = filled("INSERT INTO orders (id, tenant) VALUES ($1, $2)")
    assert isinstance(found, Filled)
    assert [one.how for one in found.parameters] == ["fresh", "new"]
    for text, reason in (
        ("UPDATE orders SET state = $1 WHERE lower(state::text) = $2", "$2 belongs to no column"),
        ("UPDATE orders o SET state = $1 FROM items i WHERE i.order_id = o.id", "over several tables"),
        ("WITH x AS (DELETE FROM orders WHERE id = $1 RETURNING id) SELECT count(*) FROM x", "no plain"),
    ):
        usage = read(text)
        left = fill(usage, known) if usage else Unfillable(text, "no plain")
        assert isinstance(left, Unfillable)
        assert reason in left.reason


def test_a_password_in_the_url_is_taken_from_the_environment_only() -> None:
    url = "postgresql://reader:secret@db.example.com/shop"
    login = login_of(url, True, {})
    assert (login.host, login.port, login.database, login.user) == ("db.example.com", 5432, "shop", "reader")
    assert login.password() == "secret"
    assert "secret" not in repr(login)
    with pytest.raises(UrlRefused) as caught:
        login_of(url, False, {})
    assert "secret" not in str(caught.value)


def test_a_server_elsewhere_has_to_prove_its_name() -> None:
    assert login_of("postgresql://r@db.example.com/shop", False, {}).sslmode == "verify-full"
    assert login_of("postgresql://r@db.example.com/shop?sslmode=require", False, {}).sslmode == "require"
    assert login_of("postgresql://r@127.0.0.1/shop", False, {}).sslmode == "prefer"
    assert login_of("postgresql://r@h/d", False, {"PGPASSWORD": "p"}).password() == "p"


@pytest.mark.parametrize("url", ["postgresql://", "nonsense here", "postgresql:///shop"])
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        login_of(url, False, {})


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("h:abc/d", "one host and one port"),
        ("h1,h2/d", "one host and one port"),
        ("h1:5432,h2:5433/d", "one host and one port"),
        ("h/d?sslrootcert=/own/ca.pem", "PGSSLROOTCERT"),
        ("h/d?options=-csearch_path%3Dx&target_session_attrs=read-write", "PGOPTIONS, PGTARGETSESSIONATTRS"),
    ],
)
def test_what_a_url_says_is_used_or_refused(rest: str, said: str) -> None:
    with pytest.raises(UrlRefused, match=said):
        login_of(f"postgresql://r@{rest}", False, {})


def test_what_makes_no_difference_is_let_through() -> None:
    assert login_of("postgresql://r@h/d?application_name=x&connect_timeout=5", False, {}).host == "h"
