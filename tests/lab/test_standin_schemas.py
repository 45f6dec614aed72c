"""Distributed schemas and tables of the stand-in through DDL, and what each role sees of their sizes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fix_standin import Message, Standin

TUTORIAL = ("user_service", "time_service", "ping_service")


@pytest.fixture
def services(standin: Standin) -> Standin:
    """The tutorial's three services, made by the admin, their tables by themselves. user and ping are on node 2."""
    admin = standin.session("adm")
    for service in TUTORIAL:
        admin.run(f"CREATE USER {service}")
        admin.run(f"CREATE SCHEMA AUTHORIZATION {service}")
        admin.run(f"SELECT citus_schema_distribute('{service}')")
        standin.session(service).run("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    return standin


def test_an_admin_who_is_no_superuser_makes_moves_and_rebalances_services(services: Standin) -> None:
    admin = services.session("adm")
    services.add_node(7002)

    assert admin.run("SELECT schema_name::text, schema_size, schema_owner FROM citus_schemas") == [
        (service, "16 kB", service) for service in TUTORIAL
    ]
    admin.run("SELECT citus_schema_move('user_service', 'localhost', 7000, 'block_writes')")
    assert services.placement()["user_service"] == 7000
    assert admin.value("SELECT citus_rebalance_start()") == 1
    assert services.value("SELECT owner::text FROM pg_dist_background_task") == "adm"


def test_a_table_that_the_admin_has_no_part_in_blocks_rebalance_and_move(services: Standin) -> None:
    services.run("CREATE TABLE user_service.evil (id int PRIMARY KEY)")
    admin = services.session("adm")

    for statement in ("SELECT citus_rebalance_start()", "SELECT citus_schema_move('user_service', 'localhost', 7000)"):
        refusal = admin.refused(statement)
        assert (refusal.sqlstate, refusal.text) == ("42501", "must be owner of table evil")


def test_one_schema_without_usage_hides_all_sizes_of_its_node(services: Standin) -> None:
    """As recorded: null where usage is missing, and a plausible but wrong 0 for others on that node."""
    ping = services.session("ping_service")

    assert ping.run("SELECT schema_name::text, schema_size FROM citus_schemas") == [
        ("user_service", None),
        ("time_service", None),
        ("ping_service", "0 bytes"),
    ]
    assert ping.messages == [
        Message("WARNING", "42501", "permission denied for schema user_service"),
        Message("WARNING", "42501", "permission denied for schema time_service"),
    ]
    assert ping.value("SELECT count(shard_size) FROM citus_shards") == 0
    assert ping.value("SELECT count(*) FROM citus_tables") == 0
    assert ping.refused("SELECT * FROM get_rebalance_table_shards_plan()").sqlstate == "08006"
    ping.run("SELECT * FROM get_rebalance_table_shards_plan(rebalance_strategy => 'by_shard_count')")


@pytest.mark.parametrize("cure", ["GRANT pg_read_all_data TO ping_service", "GRANT USAGE ON SCHEMA {} TO ping_service"])
def test_usage_everywhere_shows_all_sizes(services: Standin, cure: str) -> None:
    for service in TUTORIAL:
        services.run(cure.format(service))

    ping = services.session("ping_service")
    assert ping.run("SELECT DISTINCT schema_size FROM citus_schemas") == [("16 kB",)]
    assert ping.messages == []


def test_a_query_that_reads_no_size_asks_for_none(services: Standin) -> None:
    ping = services.session("ping_service")

    ping.run("SELECT table_name, nodeport FROM citus_shards")

    assert ping.messages == []


def test_with_the_setting_on_every_new_schema_is_distributed(standin: Standin) -> None:
    standin.run("SET citus.enable_schema_based_sharding TO ON")
    standin.run("CREATE SCHEMA mine")

    assert standin.run("SELECT schema_name::text, schema_size FROM citus_schemas") == [("mine", "0 bytes")]
    assert standin.run("SELECT * FROM pg_dist_shard") == []
    refusal = standin.session().refused("CREATE SCHEMA other CREATE TABLE t (id int)")
    assert (refusal.sqlstate, refusal.text) == (
        "0A000",
        "cannot create distributed schema and table in a single statement",
    )
    assert standin.run("SELECT nspname FROM pg_namespace WHERE nspname = 'other'") == []


def test_a_role_may_have_the_setting_on_for_itself(standin: Standin) -> None:
    standin.session("adm").run("ALTER ROLE adm SET citus.enable_schema_based_sharding = on")
    with standin.connect("adm") as conn:
        conn.execute("CREATE SCHEMA mine")

    assert standin.value("SELECT count(*) FROM citus_schemas") == 1


def test_what_is_dropped_or_rolled_back_leaves_nothing(standin: Standin) -> None:
    standin.make_schemas("a", "b")
    standin.run("CREATE TABLE d (id int PRIMARY KEY)")
    standin.run("SELECT create_distributed_table('d', 'id')")
    with standin.session().conn.transaction(force_rollback=True):
        standin.make_schemas("c")
    standin.run("DROP TABLE a.t")
    standin.run("DROP SCHEMA a")
    standin.run("DROP SCHEMA b CASCADE")
    standin.run("DROP TABLE d")

    for table in ("partition", "shard", "placement", "colocation", "schema"):
        assert standin.run(f"SELECT * FROM pg_dist_{table}") == [], table


def test_a_table_that_leaves_its_schema_is_distributed_no_more(standin: Standin) -> None:
    standin.make_schemas("a", "b")
    standin.run("CREATE SCHEMA plain")

    standin.run("ALTER TABLE a.t SET SCHEMA plain")
    assert standin.session().messages[0].text == (
        "undistributing table t in distributed schema a before altering its schema"
    )
    assert set(standin.placement()) == {"b"}
    standin.run("DROP TABLE b.t")
    standin.run("ALTER TABLE plain.t SET SCHEMA b")
    assert standin.session().messages[0].text == "Moving t into distributed schema b"
    assert set(standin.placement()) == {"b"}


def test_all_tables_of_a_schema_lie_and_move_together(standin: Standin) -> None:
    standin.make_schemas("a")
    standin.run("CREATE TABLE a.second AS SELECT 1 AS id")
    standin.run("SELECT citus_schema_move('a', 1, 'block_writes')")

    assert standin.run("SELECT DISTINCT nodeport FROM citus_shards") == [(7000,)]


def test_a_schema_made_in_the_same_transaction_cannot_move(standin: Standin) -> None:
    with standin.session().conn.transaction(force_rollback=True):
        standin.make_schemas("a")
        refusal = standin.session().refused("SELECT citus_schema_move('a', 1)")

    assert (refusal.sqlstate, refusal.text) == ("3F000", 'schema "a" does not exist')


def test_odd_names_keep_their_shards_readable(standin: Standin) -> None:
    standin.run('CREATE SCHEMA "My-Svc.1"')
    standin.run("""SELECT citus_schema_distribute('"My-Svc.1"')""")
    standin.run('CREATE TABLE "My-Svc.1"."T" (id int PRIMARY KEY)')

    assert standin.run("SELECT shard_name, citus_table_type FROM citus_shards") == [('"My-Svc.1"."T_102008"', "schema")]
    assert standin.session().refused("SELECT citus_schema_distribute('My-Svc.1')").sqlstate == "42602"


def test_a_row_sharded_table_is_spread_and_its_bytes_add_up(standin: Standin) -> None:
    standin.run("CREATE TABLE events (tenant int, id bigint, PRIMARY KEY (tenant, id))")
    standin.run("INSERT INTO events SELECT i, i FROM generate_series(1, 3000) i")
    standin.run("SET citus.shard_count = 6")
    standin.run("SELECT create_distributed_table('events', 'tenant')")
    standin.run("CREATE TABLE more (tenant int PRIMARY KEY)")
    standin.run("SELECT create_distributed_table('more', 'tenant', colocate_with => 'events')")

    assert standin.run("SELECT nodeport, count(*) FROM citus_shards GROUP BY 1 ORDER BY 1") == [(7000, 6), (7001, 6)]
    assert standin.value("SELECT sum(shard_size) FROM citus_shards WHERE table_name = 'events'::regclass") == (
        standin.value("SELECT pg_total_relation_size('events')")
    )
    assert standin.run("SELECT table_name::text, distribution_column, shard_count FROM citus_tables") == [
        ("events", "tenant", 6),
        ("more", "tenant", 6),
    ]
    assert standin.value("SELECT count(DISTINCT colocation_id) FROM citus_tables") == 1


def test_partitions_follow_their_table(standin: Standin) -> None:
    standin.run("CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY RANGE (k)")
    standin.run("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)")
    standin.run("SELECT create_distributed_table('p', 'id', shard_count => 4)")
    standin.run("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)")

    assert standin.run("SELECT table_name::text, shard_count FROM citus_tables") == [("p", 4), ("p1", 4), ("p2", 4)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT citus_schema_distribute('plain')",
        "SELECT citus_schema_undistribute('a')",
        "SELECT citus_schema_move('a', 1)",
        "SELECT citus_add_node('localhost', 7009)",
        "SELECT citus_set_node_property('localhost', 7001, 'shouldhaveshards', true)",
        "SELECT citus_job_cancel(1)",
        "CREATE SCHEMA new",
        "DROP TABLE a.t",
        "ALTER TABLE a.t ADD COLUMN w int",
        "CREATE INDEX ON a.t (v)",
    ],
)
def test_only_the_coordinator_changes_the_cluster(standin: Standin, statement: str) -> None:
    standin.make_schemas("a")
    standin.run("CREATE SCHEMA plain")

    refusal = standin.session(node=2).refused(statement)

    assert (refusal.sqlstate, refusal.text, refusal.hint) == (
        "XX000",
        "operation is not allowed on this node",
        "Connect to the coordinator and run it again.",
    )


def test_a_worker_answers_queries_and_takes_data(standin: Standin) -> None:
    standin.make_schemas("a", rows=3)
    worker = standin.session(node=2)

    worker.run("INSERT INTO a.t VALUES (4, 'from a worker')")
    worker.run("CREATE ROLE made_on_a_worker")

    assert worker.value("SELECT count(*) FROM a.t") == 4
    assert worker.run(
        "SELECT citus_is_coordinator(), citus_coordinator_nodeid(), groupid FROM pg_dist_local_group"
    ) == [(False, 1, 1)]
    assert worker.refused("CREATE TABLE a.x (id int)").text == (
        "cannot create tables in a distributed schema from a worker node"
    )


def test_statements_run_as_on_every_node(standin: Standin) -> None:
    def on_all(statement: str) -> list[tuple[Any, ...]]:
        return standin.run("SELECT * FROM run_command_on_all_nodes(%s)", statement)

    assert on_all("SELECT citus_is_coordinator()") == [(1, True, "t"), (2, True, "f")]
    assert on_all("SELECT 'a \"quoted\" one\\'") == [(n, True, 'a "quoted" one\\') for n in (1, 2)]
    assert on_all("SELECT NULL::text") == [(n, True, "") for n in (1, 2)]
    assert on_all("CREATE TABLE once ()") == [(n, True, "CREATE TABLE") for n in (1, 2)]
    assert on_all("SELECT 1/0") == [(n, False, "ERROR:  division by zero") for n in (1, 2)]
    assert standin.value("SELECT citus_is_coordinator()") is True


def test_settings_of_citus_are_listed_with_their_defaults(standin: Standin) -> None:
    assert standin.run(
        "SELECT setting, unit, context, boot_val, max_val FROM pg_settings"
        " WHERE name IN ('citus.max_background_task_executors', 'citus.background_task_queue_interval') ORDER BY name"
    ) == [("5000", "ms", "sighup", "5000", "604800000"), ("1", None, "sighup", "1", "1000")]
    assert standin.value("SHOW citus.rebalancer_by_disk_size_base_cost") == "100MB"


def test_the_stand_in_never_passes_for_citus(standin: Standin) -> None:
    assert "stand-in (placement simulated) on PostgreSQL 18" in standin.value("SELECT citus_version()")


def test_citus_cannot_be_installed_twice_or_dropped(standin: Standin) -> None:
    standin.session("adm").run("CREATE EXTENSION IF NOT EXISTS citus")

    assert standin.session("adm").messages[0].text == 'extension "citus" already exists, skipping'
    assert "required by the database system" in standin.session().refused("DROP EXTENSION citus CASCADE").text
