"""Microsoft's microservices tutorial and scale-out how-to, statement by statement, on every engine.

What comes back today is compared with the documents; where it differs, the test says what really comes back.
The documents: "Tutorial: Design for microservices with elastic clusters" and "Scale Out", both of 2025-11-18.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fix_lab import Cluster

SERVICES = ("user_service", "time_service", "ping_service")
PLACEMENT = """
  SELECT nodename,nodeport, table_name, pg_size_pretty(sum(shard_size))
  FROM citus_shards
  GROUP BY nodename,nodeport, table_name;
"""
TABLES = {
    "user_service": """
CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    email VARCHAR(255) NOT NULL
);
""",
    "time_service": """
CREATE TABLE query_details (
    id SERIAL PRIMARY KEY,
    ip_address INET NOT NULL,
    query_time TIMESTAMP NOT NULL
);
""",
    "ping_service": """
CREATE TABLE ping_results (
    id SERIAL PRIMARY KEY,
    host VARCHAR(255) NOT NULL,
    result TEXT NOT NULL
);
""",
}


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """The lab's administrator, who is no superuser, as Azure's is not."""
    with cluster.connect() as connection:
        yield connection
        for service in SERVICES:
            connection.execute(f"DROP SCHEMA IF EXISTS {service} CASCADE")
        for service in SERVICES:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (service,)).fetchone():
                connection.execute(f"DROP OWNED BY {service} CASCADE")
                connection.execute(f"DROP ROLE {service}")


def create_roles(admin: psycopg.Connection[Any]) -> None:
    for service in SERVICES:
        admin.execute(f"CREATE USER {service};")
    if admin.info.server_version < 160000:
        # Before PostgreSQL 16 nothing makes the creator a member, and the tutorial's next statement needs that.
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match='must be member of role "user_service"'):
            admin.execute("CREATE SCHEMA AUTHORIZATION user_service;")
        for service in SERVICES:
            admin.execute(f"GRANT {service} TO CURRENT_USER")


def notices_of(connection: psycopg.Connection[Any], statement: str) -> tuple[list[str], Any]:
    seen: list[str] = []
    connection.add_notice_handler(handler := lambda note: seen.append(note.message_primary or ""))
    try:
        cursor = connection.execute(statement)
        return seen, cursor.fetchone() if cursor.description else None
    finally:
        connection.remove_notice_handler(handler)


def schemas(admin: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    rows = admin.execute("SELECT * FROM citus_schemas;").fetchall()
    return [(str(name), owner) for name, _, _, owner in rows if str(name) in SERVICES]


def test_tutorial_distributing_schemas_by_function(admin: psycopg.Connection[Any], cluster: Cluster) -> None:
    create_roles(admin)
    admin.execute("CREATE SCHEMA AUTHORIZATION user_service;")
    admin.execute("CREATE SCHEMA AUTHORIZATION time_service;")
    admin.execute("CREATE SCHEMA AUTHORIZATION ping_service;")
    assert notices_of(admin, "SELECT citus_schema_distribute('user_service');")[0] == [
        "distributing the schema user_service"
    ]
    admin.execute("SELECT citus_schema_distribute('time_service');")
    admin.execute("SELECT citus_schema_distribute('ping_service');")
    assert schemas(admin) == [(service, service) for service in SERVICES]
    the_rest_of_the_tutorial(admin, cluster)


def test_tutorial_distributing_schemas_by_setting(admin: psycopg.Connection[Any], cluster: Cluster) -> None:
    create_roles(admin)
    admin.execute("SET citus.enable_schema_based_sharding TO ON;")
    admin.execute("CREATE SCHEMA AUTHORIZATION user_service;")
    admin.execute("CREATE SCHEMA AUTHORIZATION time_service;")
    admin.execute("CREATE SCHEMA AUTHORIZATION ping_service;")
    assert schemas(admin) == [(service, service) for service in SERVICES]
    the_rest_of_the_tutorial(admin, cluster)


def the_rest_of_the_tutorial(admin: psycopg.Connection[Any], cluster: Cluster) -> None:
    """The tutorial's `\\c citus user_service` asks for a password, which its CREATE USER never set."""
    with pytest.raises(psycopg.OperationalError, match=r"password authentication failed|no password supplied"):
        cluster.connect("user_service")
    for service, statement in TABLES.items():
        admin.execute(f"ALTER USER {service} PASSWORD 'tutorial-{service}'")
        with cluster.connect(service, f"tutorial-{service}") as session:
            session.execute(statement)
    people = ", ".join(f"('Person {n}', 'p{n}@example.com')" for n in range(1000))
    fill = {
        "user_service": f"INSERT INTO users (name, email) VALUES {people}",
        "time_service": "INSERT INTO query_details (ip_address, query_time) VALUES ('127.0.0.1', now())",
        "ping_service": "INSERT INTO ping_results (host, result) VALUES ('example.com', 'ok')",
    }
    for service, statement in fill.items():
        with cluster.connect(service, f"tutorial-{service}") as session:
            session.execute(statement)
    sizes = {str(row[0]): row[2] for row in admin.execute("SELECT * FROM citus_schemas;").fetchall()}
    assert all(sizes[service].endswith("kB") for service in SERVICES), sizes
    before = [row for row in admin.execute(PLACEMENT).fetchall() if str(row[2]).split(".")[0] in SERVICES]
    assert {str(row[2]) for row in before} == {
        "user_service.users",
        "time_service.query_details",
        "ping_service.ping_results",
    }
    assert {row[0] for row in before} <= {"localhost", *(row[0] for row in admin.execute("SELECT * FROM citus_nodes"))}
    # The tutorial shows `Scheduled 1 moves as job 1`. Since the base cost of 100 MB for each shard group, moving one
    # of three small schemas gains too little: Citus 13.2 answers NULL and moves nothing.
    said, answer = notices_of(admin, "SELECT citus_rebalance_start();")
    assert answer == (None,)
    assert "No moves available for rebalancing" in said
    after = [row for row in admin.execute(PLACEMENT).fetchall() if str(row[2]).split(".")[0] in SERVICES]
    assert sorted(map(str, after)) == sorted(map(str, before))


def test_how_to_scale_out(admin: psycopg.Connection[Any]) -> None:
    """The how-to's SQL, after data made it worthwhile. What it leaves out: raising only this setting has no effect."""
    create_roles(admin)
    host, port = admin.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0").fetchone() or ("", 0)
    for service in SERVICES:
        admin.execute(f"CREATE SCHEMA AUTHORIZATION {service}")
        admin.execute(f"SELECT citus_schema_distribute('{service}')")
        admin.execute(f"CREATE TABLE {service}.t (id bigint PRIMARY KEY)")
        admin.execute(f"ALTER TABLE {service}.t OWNER TO {service}")
        place = f"SELECT nodename, nodeport FROM citus_shards WHERE table_name = '{service}.t'::regclass"
        if admin.execute(place).fetchone() != (host, port):
            admin.execute(f"SELECT citus_schema_move('{service}', '{host}', {port}, 'block_writes')")
    try:
        admin.execute("ALTER SYSTEM SET citus.max_background_task_executors_per_node = 2;")
        admin.execute("SELECT pg_reload_conf();")
        said, answer = notices_of(admin, "SELECT citus_rebalance_start();")
        assert answer is not None
        assert answer[0] is not None
        assert any(text.startswith("Scheduled 1 moves as job") for text in said), said
        deadline = time.monotonic() + 60
        state = None
        while state != "finished" and time.monotonic() < deadline:
            state = admin.execute("SELECT state FROM citus_rebalance_status()").fetchone()[0]  # type: ignore[index]
            admin.execute("SELECT pg_sleep(0.1)")
        assert state == "finished"
        assert admin.execute("SELECT current_setting('citus.max_background_task_executors')").fetchone() == ("1",)
    finally:
        admin.execute("ALTER SYSTEM RESET citus.max_background_task_executors_per_node")
        admin.execute("SELECT pg_reload_conf()")
