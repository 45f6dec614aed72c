"""`plan --check` on a running cluster: drift made by hand on either side is found and named, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from tests.fix_lab import Project


def stack(project: Project) -> dict[str, Any]:
    text = (project.folder / "stacks" / "Pulumi.local.yaml").read_text("utf-8")
    return {key.removeprefix("elastic-cluster:"): value for key, value in yaml.safe_load(text)["config"].items()}


def connect(project: Project) -> psycopg.Connection[Any]:
    config = stack(project)
    password = (project.folder / config["administratorPassword"]["file"]).read_text("utf-8").strip()
    return psycopg.connect(
        host=config["endpoint"]["host"], port=config["endpoint"]["ports"]["direct"], dbname=config["database"],
        user=config.get("administratorLogin", "clusteradmin"), password=password, autocommit=True,
    )  # fmt: skip


def check(project: Project) -> dict[str, dict[str, str]]:
    """Differences by object; the exit code agrees with whether there are any."""
    done = project.call("plan", "--check", "--json")
    assert done.returncode in {0, 3}, done.stderr
    found = {drift["object"]: drift for drift in json.loads(done.stdout)["drift"]}
    assert done.returncode == (3 if found else 0)
    return found


Change = tuple[str, str, str]
# What is done by hand in the database, the object that is named for it, and a word of what is found.
SEEDED: tuple[Change, ...] = (
    ("ALTER ROLE user_service CONNECTION LIMIT 3", "role user_service: connection limit", "3"),
    ("ALTER ROLE user_service SET search_path TO elsewhere", "role user_service: search_path", "elsewhere"),
    ("ALTER ROLE ping_service NOLOGIN", "role ping_service", "NOLOGIN"),
    ("GRANT SELECT ON user_service.users TO ping_service", "table user_service.users: ping_service", "SELECT"),
    ("GRANT UPDATE ON user_service.users TO PUBLIC", "table user_service.users: public", "UPDATE"),
    ("GRANT USAGE ON SCHEMA time_service TO ping_service", "schema time_service: ping_service", "USAGE"),
)


def change_stack(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    path = project.folder / "stacks" / "Pulumi.local.yaml"
    document = yaml.safe_load(path.read_text("utf-8"))
    change(document["config"])
    path.write_text(yaml.safe_dump(document), "utf-8")


@pytest.fixture
def applied(lab_project: tuple[Project, str]) -> tuple[Project, str]:
    project, engine = lab_project
    done = project.call("apply", "--yes")
    assert done.returncode == 0, done.stderr
    return project, engine


def test_no_drift_after_apply_and_every_seeded_one_is_found_by_name(applied: tuple[Project, str]) -> None:
    project, _engine = applied
    assert check(project) == {}
    with connect(project) as conn:
        for statement, _object, _found in SEEDED:
            conn.execute("SET ROLE NONE")
            if "user_service.users" in statement:
                conn.execute("SET ROLE user_service")
            if "time_service TO" in statement:
                conn.execute("SET ROLE time_service")
            conn.execute(statement)  # type: ignore[call-overload]
        conn.execute("SET ROLE NONE")
    found = check(project)
    for _statement, name, word in SEEDED:
        assert name in found, sorted(found)
        assert word in found[name]["found"]
    assert len(found) == len(SEEDED), sorted(found)


def test_what_apply_can_mend_is_gone_after_apply(applied: tuple[Project, str]) -> None:
    project, _engine = applied
    with connect(project) as conn:
        conn.execute("ALTER ROLE user_service CONNECTION LIMIT 3")
        conn.execute("ALTER ROLE ping_service NOLOGIN")
    assert {drift["mend"] for drift in check(project).values()} == {"orchestrator apply"}
    assert project.call("apply", "--yes").returncode == 0
    assert check(project) == {}


def test_azures_side_is_compared_too(applied: tuple[Project, str]) -> None:
    project, _engine = applied

    def declare(config: dict[str, Any]) -> None:
        config["elastic-cluster:nodes"] = 6
        config["elastic-cluster:highAvailability"] = "ZoneRedundant"
        config["elastic-cluster:backup"] = {"retentionDays": 14}
        config["elastic-cluster:serverParameters"] = {"citus.max_background_task_executors": 3}
        config["elastic-cluster:network"] = {
            "publicAccess": True, "firewallRules": [{"name": "office", "startIp": "192.0.2.1"}]
        }  # fmt: skip

    name = stack(project)["name"]
    change_stack(project, declare)
    found = check(project)
    assert found[f"server {name}: nodes"]["mend"] == "orchestrator scale-out"
    assert found[f"server {name}: highAvailability"]["declared"] == "ZoneRedundant"
    assert found[f"server {name}: backup.retentionDays"]["found"] == "7"
    assert found["parameter citus.max_background_task_executors"]["declared"] == "3"
    assert found["firewall rule office"]["found"] == "missing"
    assert len(found) == 5, sorted(found)


def test_people_are_told_what_mends_it(applied: tuple[Project, str]) -> None:
    project, _engine = applied
    assert project.call("plan", "--check").stdout == "Stack local: no drift.\n"
    with connect(project) as conn:
        conn.execute("ALTER ROLE user_service CONNECTION LIMIT 3")
    done = project.call("plan", "--check")
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "Stack local: 1 difference from the stack file.",
        "  role user_service: connection limit",
        "    declared none; found 3",
        "    orchestrator apply",
    ]
