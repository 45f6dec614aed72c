"""Functions, views and catalog tables have the signatures, columns and rights that were read from Citus 13.2."""

from __future__ import annotations

import re

from tests.fix_standin import Standin
from tests.lab.test_standin_transcripts import DATA

ABSENT = {
    "citus_add_clone_node",
    "citus_add_inactive_node",
    "citus_pause_node_within_txn",
    "citus_promote_clone_and_rebalance",
    "citus_stat_counters",
    "citus_stat_tenants_local",
    "citus_unmark_object_distributed",
    "citus_update_node",
    "create_distributed_table_concurrently",
    "get_snapshot_based_node_split_plan",
    "isolate_tenant_to_new_shard",
    "start_metadata_sync_to_all_nodes",
    "start_metadata_sync_to_node",
    "citus_shards_on_worker",
}
# A view here, a function too in Citus.
ABSENT_FUNCTIONS = ABSENT | {"citus_stat_tenants"}


def test_functions_have_citus_signatures_and_rights(standin: Standin) -> None:
    standin.run("CREATE ROLE nobody_special")
    here = {
        (name, arguments, result, public)
        for name, arguments, result, public in standin.run(
            "SELECT proname, pg_get_function_arguments(oid), coalesce(pg_get_function_result(oid), ''),"
            " has_function_privilege('nobody_special', oid, 'EXECUTE') FROM pg_proc"
            " WHERE pronamespace = 'pg_catalog'::regnamespace AND oid >= 16384"
        )
    }
    text = (DATA / "functions.txt").read_text("utf-8")
    in_citus = {
        (name, arguments, result, "PUBLIC" in rights or "{=X/" in rights)
        for name, arguments, result, rights in re.findall(r"^(\w+)\((.*)\) -> (.*?) \| (.*?) \|", text, re.MULTILINE)
        if name not in ABSENT_FUNCTIONS
    }

    assert in_citus - here == set()
    assert len(in_citus) > 45


def test_views_and_catalogs_have_citus_columns(standin: Standin) -> None:
    compared = 0
    for entry in (DATA / "relations.txt").read_text("utf-8").split("## ")[1:]:
        name, rest = entry.split("\n", 1)
        if name in ABSENT:
            continue
        columns = rest.split("   [acl")[0].strip().replace(" NOT NULL", "")

        assert columns == standin.value(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0",
            name,
        ), name
        compared += 1
    assert compared > 20
