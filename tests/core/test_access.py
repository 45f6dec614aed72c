"""Connections of services: what each port needs, what each driver is told, and that no password is told unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.core.access import PORTS, Access, PortNotOffered, UnknownService, access, notes, uses
from orchestrator.core.access_formats import FORMATS, document, driver_notes, passfile_line, write
from orchestrator.core.desired.spec import ClusterSpec


def spec(**extra: Any) -> ClusterSpec:
    base: dict[str, Any] = {
        "name": "contoso",
        "resourceGroup": "rg",
        "location": "northeurope",
        "database": "citus",
        "services": [
            {"name": "user", "role": "user_service", "password": {"env": "USER_PASSWORD"}},
            {"name": "odd; name", "role": "odd role", "schema": "odd"},
        ],
    }
    return ClusterSpec.model_validate(base | extra)


def of(port: str, **extra: Any) -> Access:
    return access(spec(**extra), "user", port, "kept/file")  # type: ignore[arg-type]


def works(found: Access) -> set[str]:
    return {use.what for use in uses(found) if use.works}


@pytest.mark.parametrize(("port", "number"), list(zip(PORTS, (5432, 6432, 7432, 8432), strict=True)))
def test_ports_of_azure_verify_the_server(port: str, number: int) -> None:
    dsn = write(of(port), "dsn")
    assert dsn.startswith(f"postgresql://user_service@contoso.postgres.database.azure.com:{number}/citus?")
    assert "sslmode=verify-full&sslrootcert=system" in dsn
    assert "keepalives_idle=60" in dsn
    assert ("load_balance_hosts=random" in dsn) == port.startswith("balanced")
    assert ("options=" in dsn) == (not port.endswith("pooled"))
    assert any("libpq 16" in note and "ca-certificates.crt" in note for note in notes(of(port)))


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "yaml"])
@pytest.mark.parametrize("port", PORTS)
def test_no_format_has_a_password_unless_it_is_handed_in(form: str, port: str) -> None:
    assert "s3cret" not in write(of(port), form)
    assert "s3cret" in write(of(port), form, "s3cret")


def test_the_password_is_named_by_its_source() -> None:
    assert document(of("direct"), None, None)["password"] == {"env": "USER_PASSWORD"}
    generated = access(spec(), "odd; name", "direct", "kept/file")
    assert document(generated, None, None)["password"] == {"file": "kept/file"}
    assert 'PGPASSWORD="${USER_PASSWORD:?}"' in write(of("direct"), "env")
    assert "PGPASSWORD" not in write(of("direct"), "env", None, "/passfile")


def test_prepared_statements_follow_the_pooler() -> None:
    assert of("direct").prepared_statements
    assert of("balanced").prepared_statements
    assert of("pooled").prepared_statements
    none = {"pgbouncer": {"maxPreparedStatements": 0}}
    assert not of("pooled", **none).prepared_statements
    assert of("direct", **none).prepared_statements
    assert of("pooled", pgbouncer={"maxPreparedStatements": 0, "poolMode": "session"}).prepared_statements
    assert "prepareThreshold=0" in write(of("pooled", **none), "jdbc")
    assert "Max Auto Prepare=0" in write(of("pooled", **none), "dotnet")
    assert any("prepare_threshold" in note for note in driver_notes(of("pooled", **none), "sqlalchemy"))
    assert "prepareThreshold" not in write(of("pooled"), "jdbc")


def test_what_does_not_suit_a_port_is_said() -> None:
    assert {use.what for use in uses(of("direct")) if not use.works} == set()
    assert "DDL, roles and cluster functions" not in works(of("balanced"))
    assert "DDL, roles and cluster functions" in works(of("pooled"))
    for port in ("pooled", "balanced", "balanced-pooled"):
        assert "LISTEN/NOTIFY" not in works(of(port))
    assert "LISTEN/NOTIFY" in works(of("pooled", pgbouncer={"poolMode": "session"}))
    assert all(use.reason for port in PORTS for use in uses(of(port)) if not use.works)


def test_npgsql_and_pgjdbc_are_told_what_the_port_needs() -> None:
    dotnet = dict(pair.split("=", 1) for pair in write(of("balanced-pooled"), "dotnet").split(";"))
    assert dotnet["SSL Mode"] == "VerifyFull"
    assert dotnet["No Reset On Close"] == "true"
    assert dotnet["Connection Lifetime"] == "300"
    assert "No Reset On Close" not in write(of("direct"), "dotnet")
    assert "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory" in write(of("direct"), "jdbc")


def test_odd_names_are_quoted() -> None:
    odd = access(spec(), "odd; name", "direct", "kept/file")
    assert "//odd%20role@" in write(odd, "dsn")
    assert 'Application Name="odd; name"' in write(odd, "dotnet")
    assert "ApplicationName=odd%3B%20name" in write(odd, "jdbc")
    assert json.loads(write(odd, "node"))["user"] == "odd role"
    assert passfile_line(odd, "a:b\\c").endswith(r":odd role:a\:b\\c")


def test_a_password_with_signs_of_a_url_survives() -> None:
    from sqlalchemy import make_url

    password = "p@ss/w:rd?#%&"
    assert make_url(write(of("direct"), "sqlalchemy", password)).password == password


def test_what_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(UnknownService, match=r"no service 'users'.*user, odd; name"):
        access(spec(), "users", "direct", None)
    with pytest.raises(PortNotOffered, match=r"pgbouncer\.enabled is false.*direct, balanced"):
        of("pooled", pgbouncer={"enabled": False})
