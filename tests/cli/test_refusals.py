"""What people get wrong: exit code 2, one sentence that says what to do, no traceback, and nothing changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from psycopg import sql

from orchestrator.clients.cluster.citus import LOCK
from tests.fix_lab import Cluster, Project, engines


@pytest.fixture(scope="module")
def stack_text(cluster: Cluster) -> str:
    return f"""\
config:
  elastic-cluster:name: lab-test
  elastic-cluster:resourceGroup: lab
  elastic-cluster:subscriptionId: sub
  elastic-cluster:location: northeurope
  elastic-cluster:nodes: 2
  elastic-cluster:database: citus
  elastic-cluster:administratorPassword: {{file: {cluster.home.password_file}}}
  elastic-cluster:endpoint:
    host: 127.0.0.1
    ports: {{direct: {cluster.port}, balanced: {cluster.balanced}}}
    arm: {cluster.arm}
    sslmode: disable
    engine: {cluster.engine}
"""


@pytest.fixture
def stack(project: Project, stack_text: str) -> Iterator[Project]:
    project.stack.write_text(stack_text, "utf-8")
    yield project
    project.stack.unlink()


def refused(project: Project, *arguments: str, env: dict[str, str] | None = None) -> str:
    before = project.stack.read_text("utf-8") if project.stack.exists() else None
    run = project.call(*arguments, env=env)
    assert run.returncode == 2, (run.returncode, run.stdout, run.stderr)
    assert "Traceback" not in run.stderr
    assert (project.stack.read_text("utf-8") if project.stack.exists() else None) == before
    return run.stderr


def test_scale_in(stack: Project) -> None:
    stack.stack.write_text(stack.stack.read_text().replace("nodes: 2", "nodes: 3"), "utf-8")
    said = refused(stack, "scale-out", "--nodes", "1", "--yes")
    assert "at least 2 nodes" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rebalance", "--stop", "--undo", "3"), "--stop and --undo exclude each other"),
        (("doctor", "--drill", "--since", "3"), "--drill does not go with --since"),
        (("doctor", "--failover", "planned", "--after", "2026-01-01T10:00"), "--drill does not go with --since"),
    ],
)
def test_an_option_that_would_be_ignored(stack: Project, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(stack, *arguments)


def test_more_nodes_than_azure_takes(stack: Project) -> None:
    said = refused(stack, "scale-out", "--nodes", "21", "--yes")
    assert "at most 20" in said
    assert "as of" in said


def test_not_a_number(stack: Project) -> None:
    assert "not a valid integer" in refused(stack, "scale-out", "--nodes", "many", "--yes")


def test_an_unknown_stack(stack: Project) -> None:
    said = refused(stack, "scale-out", "--stack", "prod", "--nodes", "4", "--yes")
    assert "no stack 'prod'" in said
    assert "Stacks here: local" in said


def test_a_wrong_key_with_its_line(stack: Project) -> None:
    stack.stack.write_text(stack.stack.read_text().replace("elastic-cluster:nodes", "elastic-cluster:node"), "utf-8")
    said = refused(stack, "scale-out", "--nodes", "4", "--yes")
    assert "Pulumi.local.yaml:6 elastic-cluster:node: unknown key (did you mean nodes?)" in said


def test_a_question_that_nobody_can_answer(stack: Project) -> None:
    assert "--yes" in refused(stack, "scale-out", "--nodes", "4")


def test_no_cluster_there(stack: Project, cluster: Cluster) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    stack.stack.write_text(stack.stack.read_text().replace(f"direct: {cluster.port}", f"direct: {port}"), "utf-8")
    said = refused(stack, "scale-out", "--nodes", "4", "--yes")
    assert f"127.0.0.1:{port}" in said


def test_a_wrong_password_is_not_repeated(stack: Project) -> None:
    text = stack.stack.read_text("utf-8")
    line = next(line for line in text.splitlines() if "administratorPassword" in line)
    stack.stack.write_text(text.replace(line, "  elastic-cluster:administratorPassword: {env: SECRET}"), "utf-8")
    said = refused(stack, "status", env={"SECRET": "not-the-password"})
    assert "clusteradmin" in said
    assert "not-the-password" not in said


def test_a_password_that_is_nowhere(stack: Project) -> None:
    text = stack.stack.read_text("utf-8")
    line = next(line for line in text.splitlines() if "administratorPassword" in line)
    stack.stack.write_text(text.replace(line, "  elastic-cluster:administratorPassword: {secure: v1:abc}"), "utf-8")
    assert "ORCHESTRATOR_ADMIN_PASSWORD" in refused(stack, "status")


def test_a_connection_that_ended_on_a_worker(stack: Project, cluster: Cluster) -> None:
    with cluster.connect() as admin:
        worker = admin.execute("SELECT nodeport FROM pg_dist_node WHERE groupid = 1").fetchone()[0]
    stack.stack.write_text(stack.stack.read_text().replace(f"direct: {cluster.port}", f"direct: {worker}"), "utf-8")
    said = refused(stack, "rebalance", "--yes")
    assert "worker node" in said
    with cluster.connect(port=worker) as there:
        assert there.execute("SELECT count(*) FROM pg_dist_background_job").fetchone() == (0,)


def test_another_orchestrator_at_work(stack: Project, cluster: Cluster) -> None:
    with cluster.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", LOCK)
        said = refused(stack, "scale-out", "--nodes", "4", "--yes")
    assert "Another orchestrator is at work" in said
    assert "process" in said


def test_an_unknown_strategy(stack: Project) -> None:
    said = refused(stack, "rebalance", "--strategy", "by_moon", "--yes")
    assert "by_disk_size, by_shard_count" in said


def test_an_unknown_server(stack: Project) -> None:
    stack.stack.write_text(stack.stack.read_text().replace("name: lab-test", "name: lab-other"), "utf-8")
    assert "lab-other" in refused(stack, "scale-out", "--nodes", "4", "--yes")


def test_an_engine_that_is_not_here(project: Project) -> None:
    missing = [name for name, engine in engines().items() if not engine.available]
    if not missing:
        pytest.skip("every engine is on this machine")
    said = refused(project, "lab", "up", "--engine", missing[0])
    assert missing[0] in said


def test_a_lab_cannot_shrink_or_take_azures_stack(stack: Project) -> None:
    stack.stack.write_text("\n".join(stack.stack.read_text().split("\n")[:8]) + "\n", "utf-8")
    assert "describes a cluster on Azure" in refused(stack, "lab", "up")


def test_services_with_mistakes_change_nothing(stack: Project, cluster: Cluster) -> None:
    folder = stack.folder / "stacks" / "sql"
    folder.mkdir()
    (folder / "001.sql").write_text("CREATE TABLE a (id bigint PRIMARY KEY, tenant bigint);\n", "utf-8")
    (folder / "002.sql").write_text("CREATE TABEL b (id bigint);\n", "utf-8")
    services = "  elastic-cluster:services:\n    - {name: refusal_svc, migrations: [sql]}\n"
    stack.stack.write_text(stack.stack.read_text() + services, "utf-8")
    said = refused(stack, "apply", "--yes")
    assert "002.sql:1" in said
    (folder / "002.sql").unlink()
    row = services.replace("migrations", "sharding: row, distributionColumn: tenant, migrations")
    stack.stack.write_text(stack.stack.read_text().replace(services, row), "utf-8")
    assert "tenant" in refused(stack, "apply", "--yes")
    with cluster.connect() as admin:
        assert admin.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'refusal_svc'").fetchone() == (0,)


def test_names_are_quoted_wherever_they_go(stack: Project, cluster: Cluster) -> None:
    """A role named like an attack is only a strange name."""
    name = "o''; DROP SCHEMA orchestrator CASCADE; --"
    services = f'  elastic-cluster:services:\n    - {{name: odd, role: "{name}", schema: odd_schema}}\n'
    stack.stack.write_text(stack.stack.read_text() + services, "utf-8")
    applied = stack.call("apply", "--yes")
    assert applied.returncode == 0, applied.stderr
    with cluster.connect() as admin:
        assert admin.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", (name,)).fetchone() == (1,)
        owner = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'odd_schema'"
        assert admin.execute(owner).fetchone() == (name,)
        role = sql.Identifier(name)
        admin.execute("DROP SCHEMA odd_schema")
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))
