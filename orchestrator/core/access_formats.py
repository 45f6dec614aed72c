"""Writes an Access in the words of libpq, SQLAlchemy, pgjdbc, Npgsql and node-postgres.

A password appears only where one is handed in. Grammars: PostgreSQL documentation, "Connection Strings"; SQLAlchemy,
"Database URLs"; pgJDBC, "Connecting to the Database"; Npgsql, "Connection String Parameters"; node-postgres, "Client"
and "Pool".
"""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import quote, urlencode

from orchestrator.core import access as rules
from orchestrator.core.access import Access, connection_settings, notes, uses

FORMATS = ("dsn", "env", "json", "yaml", "sqlalchemy", "jdbc", "dotnet", "node")
# libpq's parameters that have an environment variable; the rest have none (PostgreSQL, "Environment Variables").
_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
}


def write(access: Access, form: str, password: str | None = None, passfile: str | None = None) -> str:
    """One of FORMATS but yaml, which needs a library; `document` is what json and yaml hold."""
    if form == "json":
        return json.dumps(document(access, password, passfile), indent=2)
    writers = {"dsn": _dsn, "sqlalchemy": _sqlalchemy, "jdbc": _jdbc, "dotnet": _dotnet, "node": _node, "env": _env}
    return writers[form](access, password, passfile)


def document(access: Access, password: str | None, passfile: str | None) -> dict[str, Any]:
    """`libpq` can be given to psycopg.connect as it is, `psycopg` beside it; `pool` is for psycopg_pool."""
    return {
        "service": access.service,
        "port_name": access.port_name,
        "libpq": _parameters(access, password, passfile),
        "psycopg": {"prepare_threshold": 5 if access.prepared_statements else None},
        "pool": {"max_lifetime": rules.MAX_LIFETIME if access.balanced else 3600, "max_idle": 120},
        "search_path": access.schema,
        "password": password_source(access),
        "uses": [{"what": use.what, "works": use.works, "reason": use.reason} for use in uses(access)],
        "notes": list(notes(access)),
    }


def password_source(access: Access) -> dict[str, str]:
    if access.password_env is not None:
        return {"env": access.password_env}
    return {"file": access.password_file or ""}


def passfile_line(access: Access, password: str) -> str:
    """PostgreSQL, "The Password File": colons and backslashes are escaped."""
    parts = (access.host, str(access.port), access.database, access.user, password)
    return ":".join(part.replace("\\", "\\\\").replace(":", "\\:") for part in parts)


def _parameters(access: Access, password: str | None, passfile: str | None) -> dict[str, str]:
    found = {"host": access.host, "port": str(access.port), "dbname": access.database, "user": access.user}
    found |= connection_settings(access)
    if password is not None:
        found["password"] = password
    if passfile is not None:
        found["passfile"] = passfile
    return found


def _url(scheme: str, access: Access, password: str | None, query: dict[str, str]) -> str:
    secret = "" if password is None else ":" + quote(password, safe="")
    place = f"{quote(access.user, safe='')}{secret}@{access.host}:{access.port}"
    return f"{scheme}://{place}/{quote(access.database, safe='')}?{urlencode(query, quote_via=quote)}"


def _query(access: Access, passfile: str | None) -> dict[str, str]:
    return connection_settings(access) | ({"passfile": passfile} if passfile else {})


def _dsn(access: Access, password: str | None, passfile: str | None) -> str:
    return _url("postgresql", access, password, _query(access, passfile))


def _sqlalchemy(access: Access, password: str | None, passfile: str | None) -> str:
    """The dialect hands the query to libpq; `prepare_threshold` cannot be said in it (see `sqlalchemy_note`)."""
    return _url("postgresql+psycopg", access, password, _query(access, passfile))


def driver_notes(access: Access, form: str) -> tuple[str, ...]:
    """What the form cannot say."""
    if form == "sqlalchemy":
        found = []
        if not access.prepared_statements:
            found.append('create_engine(url, connect_args={"prepare_threshold": None})')
        if access.balanced:
            found.append(f"create_engine(url, pool_recycle={rules.MAX_LIFETIME})")
        return tuple(found)
    if form == "dsn" and not access.prepared_statements:
        return ("psycopg.connect(dsn, prepare_threshold=None); asyncpg: statement_cache_size=0",)
    if form == "jdbc" and access.balanced:
        return (f"HikariCP: maxLifetime={rules.MAX_LIFETIME}000",)
    return ()


def _env(access: Access, password: str | None, passfile: str | None) -> str:
    """For a shell: `eval "$(orchestrator connection ... --format env)"`. The password is read where it lies."""
    found = {"PGHOST": access.host, "PGPORT": str(access.port), "PGDATABASE": access.database, "PGUSER": access.user}
    settings = _query(access, passfile)
    found |= {_VARIABLES[name]: value for name, value in settings.items() if name in _VARIABLES}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
    if password is not None:
        lines.append(f"export PGPASSWORD={shlex.quote(password)}")
    elif passfile is None and access.password_env is not None:
        lines.append(f'export PGPASSWORD="${{{access.password_env}:?}}"')
    elif passfile is None:
        lines.append(f'export PGPASSWORD="$(cat {shlex.quote(access.password_file or "")})"')
    return "\n".join(lines)


def _jdbc(access: Access, password: str | None, _passfile: str | None) -> str:
    """pgJDBC reads PGPASSFILE and PGPASSWORD itself. DefaultJavaSSLFactory trusts what the JVM trusts."""
    query = {"user": access.user}
    if password is not None:
        query["password"] = password
    query["sslmode"] = access.sslmode
    if access.verified:
        query["sslfactory"] = "org.postgresql.ssl.DefaultJavaSSLFactory"
    query |= {
        "connectTimeout": str(rules.CONNECT_TIMEOUT),
        "tcpKeepAlive": "true",
        "ApplicationName": access.service,
    }
    if not access.prepared_statements:
        query["prepareThreshold"] = "0"
    if access.balanced:
        query["loadBalanceHosts"] = "true"
    if not access.pooled:
        query["options"] = connection_settings(access)["options"]
    text = urlencode(query, quote_via=quote)
    return f"jdbc:postgresql://{access.host}:{access.port}/{quote(access.database, safe='')}?{text}"


def _dotnet(access: Access, password: str | None, passfile: str | None) -> str:
    """Npgsql verifies against the system's certificates; it reads PGPASSFILE and PGPASSWORD where neither is given."""
    modes = {"verify-full": "VerifyFull", "verify-ca": "VerifyCA"}
    pairs = {
        "Host": access.host,
        "Port": str(access.port),
        "Database": access.database,
        "Username": access.user,
        "Password": password,
        "Passfile": passfile,
        "SSL Mode": modes.get(access.sslmode, access.sslmode.capitalize()),
        "Timeout": str(rules.CONNECT_TIMEOUT),
        "Tcp Keepalive": "true",
        "Tcp Keepalive Time": rules.KEEPALIVES["keepalives_idle"],
        "Tcp Keepalive Interval": rules.KEEPALIVES["keepalives_interval"],
        "Application Name": access.service,
        "Max Auto Prepare": "20" if access.prepared_statements else "0",
        # DISCARD ALL would reach a session that already serves somebody else.
        "No Reset On Close": "true" if access.shared else None,
        "Connection Lifetime": str(rules.MAX_LIFETIME) if access.balanced else None,
        "Options": None if access.pooled else connection_settings(access)["options"],
    }
    return ";".join(f"{name}={_dotnet_value(value)}" for name, value in pairs.items() if value is not None)


def _dotnet_value(value: str) -> str:
    """DbConnectionStringBuilder's rules: quoted where it has a special character, quotes doubled."""
    if value and not any(character in value for character in ";='\" "):
        return value
    return '"' + value.replace('"', '""') + '"'


def _node(access: Access, password: str | None, _passfile: str | None) -> str:
    """For `new pg.Pool(...)`. It prepares only statements that are given a name; it reads PGPASSWORD and PGPASSFILE."""
    verified = {"rejectUnauthorized": True, "servername": access.host}
    tls: Any = verified if access.verified else {"rejectUnauthorized": False}
    found: dict[str, Any] = {
        "host": access.host,
        "port": access.port,
        "database": access.database,
        "user": access.user,
        "ssl": False if access.sslmode == "disable" else tls,
        "keepAlive": True,
        "keepAliveInitialDelayMillis": int(rules.KEEPALIVES["keepalives_idle"]) * 1000,
        "connectionTimeoutMillis": rules.CONNECT_TIMEOUT * 1000,
        "application_name": access.service,
    }
    if password is not None:
        found["password"] = password
    if access.balanced:
        found["maxLifetimeSeconds"] = rules.MAX_LIFETIME
    if not access.pooled:
        found["options"] = connection_settings(access)["options"]
    return json.dumps(found, indent=2)
