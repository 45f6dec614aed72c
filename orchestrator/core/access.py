"""How one service reaches the cluster through one of its ports: settings that suit it, and what does not work there.

Pure: passwords are named by their source and never held. `access_formats` writes it for drivers.

`search_path` is never part of a connection: PgBouncer refuses it among the start-up options, and a SET would stay
behind in the session that the next client gets. It is a setting of the role (or the schema is named like the role), so
that every session on every node begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from orchestrator.core.desired.limits import standard_ports
from orchestrator.core.desired.services import ServiceSpec
from orchestrator.core.desired.spec import ClusterSpec
from orchestrator.core.errors import Refused

PortName = Literal["direct", "pooled", "balanced", "balanced-pooled"]
PORTS: tuple[PortName, ...] = get_args(PortName)
CONNECT_TIMEOUT = 10  # seconds
# Azure's load balancers forget a connection that is silent for four minutes; probes begin well before that.
KEEPALIVES = {"keepalives": "1", "keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "3"}
TCP_USER_TIMEOUT = 30_000  # milliseconds: how long sent data may stay without an answer after a node is gone
# A transaction that waits for its client holds up the cut-over of a moving schema, and every writer behind it.
IDLE_IN_TRANSACTION = 60_000  # milliseconds
# A balanced connection stays on its node: only new connections reach nodes that were added.
MAX_LIFETIME = 300  # seconds


class UnknownService(Refused):
    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        here = f"Services there: {', '.join(known)}." if known else "It has no services."
        super().__init__(f"The stack file declares no service {name!r}. {here}")


class PortNotOffered(Refused):
    def __init__(self, port: str, offered: tuple[str, ...], lab: bool) -> None:
        why = (
            "this cluster's endpoint in the stack file does not name it"
            if lab
            else "elastic-cluster:pgbouncer.enabled is false"
        )
        super().__init__(f"The {port} port is not offered: {why}. Ports there: {', '.join(offered)}.")


@dataclass(frozen=True, slots=True)
class Use:
    """Whether something works through a port, and the reason or the way to mend it."""

    what: str
    works: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """`password_env` or `password_file` says where the password lies; a generated one lies in a file."""

    service: str
    port_name: PortName
    host: str
    port: int
    database: str
    user: str
    schema: str
    sslmode: str
    prepared_statements: bool
    pool_mode: str | None
    password_env: str | None
    password_file: str | None

    @property
    def pooled(self) -> bool:
        return self.port_name.endswith("pooled")

    @property
    def shared(self) -> bool:
        """A session is shared with other clients between transactions."""
        return self.pool_mode in {"transaction", "statement"}

    @property
    def balanced(self) -> bool:
        return self.port_name.startswith("balanced")

    @property
    def verified(self) -> bool:
        return self.sslmode.startswith("verify")


def access(spec: ClusterSpec, service_name: str, port: PortName, password_file: str | None) -> Access:
    """`password_file` is where a generated password is kept. Raises UnknownService or PortNotOffered."""
    service = _service(spec, service_name)
    offered = offered_ports(spec)
    if port not in offered:
        raise PortNotOffered(port, tuple(offered), spec.endpoint is not None)
    place = spec.endpoint
    pooled = port.endswith("pooled")
    mode = spec.pgbouncer.pool_mode if pooled else None
    # The lab runs the PgBouncer that is installed, which may be older than 1.21 and know no prepared statements.
    keeps = spec.pgbouncer.max_prepared_statements > 0 and (place is None or place.engine is None)
    source = service.password
    return Access(
        service=service.name,
        port_name=port,
        host=place.host if place else f"{spec.name}.postgres.database.azure.com",
        port=offered[port],
        database=spec.database,
        user=service.role_name,
        schema=service.schema_name,
        sslmode=place.sslmode if place else "verify-full",
        prepared_statements=mode in {None, "session"} or (mode == "transaction" and keeps),
        pool_mode=mode,
        password_env=source.env,
        password_file=source.file or (None if source.env else password_file),
    )


def _service(spec: ClusterSpec, name: str) -> ServiceSpec:
    for service in spec.services:
        if name == service.name:
            return service
    raise UnknownService(name, tuple(service.name for service in spec.services))


def offered_ports(spec: ClusterSpec) -> dict[PortName, int]:
    """Names and numbers of the ports that the cluster answers on."""
    numbers: Mapping[str, int | None] = spec.endpoint.ports.model_dump() if spec.endpoint else standard_ports()
    found: dict[PortName, int] = {}
    for name in PORTS:
        number = numbers.get(name.replace("-", "_"))
        if number is not None and (spec.pgbouncer.enabled or not name.endswith("pooled")):
            found[name] = number
    return found


def connection_settings(access: Access) -> dict[str, str]:
    """Parameters of libpq, in its own words, without host, port, database, user and password."""
    settings = {"sslmode": access.sslmode}
    if access.verified:
        settings["sslrootcert"] = "system"
    settings |= {"connect_timeout": str(CONNECT_TIMEOUT), "tcp_user_timeout": str(TCP_USER_TIMEOUT), **KEEPALIVES}
    settings["application_name"] = access.service
    if access.balanced:
        settings["load_balance_hosts"] = "random"
    if not access.pooled:
        settings["options"] = f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION}"
    return settings


def uses(access: Access) -> tuple[Use, ...]:
    """What works through the port. `orchestrator doctor` proves it, the tests do so on real Citus and PgBouncer."""
    direct = "use the direct port"
    shared = f"PgBouncer gives the session to another client after each transaction; {direct}"
    spread = f"every connection may end on another node, and this is known on one node only; {direct}"
    session = shared if access.shared else ""
    return (
        Use("queries and changes of rows", True),
        Use("DDL, roles and cluster functions", not access.balanced, _ddl(access)),
        Use("protocol-level prepared statements", access.prepared_statements, _prepared(access)),
        Use("PREPARE as a statement", not access.shared, session),
        Use("LISTEN/NOTIFY", not access.shared and not access.balanced, session or (access.balanced and spread) or ""),
        Use(
            "session advisory locks",
            not access.shared and not access.balanced,
            session or (access.balanced and spread) or "",
        ),
        Use("SET without LOCAL, temporary tables, WITH HOLD cursors", not access.shared, session),
        Use(
            "serial columns (int)",
            not access.balanced,
            "nodes other than the coordinator refuse nextval for int; use bigint GENERATED ALWAYS AS IDENTITY"
            if access.balanced
            else "",
        ),
    )


def _ddl(access: Access) -> str:
    if access.balanced:
        return "nodes other than the coordinator answer `operation is not allowed on this node`; use the direct port"
    return ""


def _prepared(access: Access) -> str:
    if access.prepared_statements:
        return ""
    return (
        "turn them off in the driver (psycopg: prepare_threshold=None), or have PgBouncer keep them: "
        "version 1.21 or newer with pgbouncer.max_prepared_statements above 0"
    )


def notes(access: Access) -> tuple[str, ...]:
    """What has to be known beside the settings: one sentence each."""
    found = [f"{use.what} do not work through the {access.port_name} port: {use.reason}" for use in uses(access)
             if not use.works]  # fmt: skip
    found.append(f"search_path begins with {access.schema}: `orchestrator apply` sets it for the role, on every node")
    if access.pooled:
        found.append(
            "PgBouncer takes no start-up options: set idle_in_transaction_session_timeout for the role "
            f"(ALTER ROLE ... SET), {IDLE_IN_TRANSACTION} ms for instance"
        )
    if access.balanced:
        found.append(
            f"let the driver's pool renew connections after {MAX_LIFETIME} s: "
            "a connection stays on its node, and nodes that are added get new ones only"
        )
    if access.verified:
        found.append(
            "sslrootcert=system needs libpq 16 or newer; with an older one name the file of the system's "
            "certificates, /etc/ssl/certs/ca-certificates.crt on Debian"
        )
    if access.balanced:
        found.append("load_balance_hosts needs libpq 16 or newer; leave it out with an older one")
    return tuple(found)
