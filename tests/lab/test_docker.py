"""The docker engine: what it says where it cannot run, and the same promises as the native engine where it can."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.core.errors import LabError
from orchestrator.lab.docker import DockerEngine, availability, docker
from orchestrator.lab.engine import LabSettings
from tests.lab import citus_lab as lab

SERVICES = ("user_service", "time_service", "ping_service", "a_fourth")


@pytest.fixture(scope="module")
def settings(lab_base: Path) -> LabSettings:
    found = availability()
    if not found.available:
        pytest.skip(f"engine docker: {found.reason}")
    return lab.new_settings(lab_base / "docker lab")


@pytest.fixture(scope="module")
def engine(settings: LabSettings) -> Iterator[DockerEngine]:
    made = DockerEngine(settings)
    made.start(2, lab.quiet)
    lab.make_services(made, settings, SERVICES)
    yield made
    made.delete()
    for kind in ("container", "volume", "network"):
        everything = ("--all",) if kind == "container" else ()
        assert docker(kind, "ls", "--quiet", *everything, *made._mine()) == ""


def assert_whole(engine: DockerEngine, settings: LabSettings, nodes: int) -> None:
    assert len(engine.addresses()) == nodes
    assert lab.ask(engine, settings, lab.USABLE) == nodes
    assert [lab.rows_of(engine, settings, name, nodes - 1) for name in SERVICES] == [lab.ROWS] * len(SERVICES)


def test_passwords_are_asked_for_and_in_no_container_s_settings(engine: DockerEngine, settings: LabSettings) -> None:
    for address in engine.addresses():
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            lab.session(address, settings, password="guess")
    shown = docker("inspect", *engine._containers())
    assert settings.superuser_password not in shown
    assert settings.admin_password not in shown


def test_the_admin_rebalances_online_onto_a_node_that_joined(engine: DockerEngine, settings: LabSettings) -> None:
    engine.set_parameter("citus.max_background_task_executors", "4")
    engine.resize(3, lab.quiet)
    assert lab.ask(engine, settings, "SHOW citus.max_background_task_executors", 2) == "4"
    assert set(lab.rebalance(engine, settings)) == {("done", 0)}
    assert lab.shard_groups(engine, settings) == [1, 1, 2]
    assert_whole(engine, settings, 3)


def test_killed_containers_start_again_with_their_data(engine: DockerEngine, settings: LabSettings) -> None:
    nodes = len(engine.addresses())
    docker("kill", *engine._containers("running"))
    DockerEngine(settings).start(2, lab.quiet)
    assert_whole(engine, settings, nodes)


def test_when_its_ports_were_taken_it_moves_to_others(engine: DockerEngine, settings: LabSettings) -> None:
    before = engine.addresses()
    engine.stop()
    strangers = [socket.create_server((address.host, address.port)) for address in before]
    try:
        engine.start(2, lab.quiet)
    finally:
        for stranger in strangers:
            stranger.close()
    assert not set(before) & set(engine.addresses())
    assert_whole(engine, settings, len(before))


def test_labs_side_by_side_do_not_meet(engine: DockerEngine, settings: LabSettings, lab_base: Path) -> None:
    others = lab.new_settings(lab_base / "another docker lab")
    other = DockerEngine(others)
    try:
        other.start(2, lab.quiet)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            lab.session(other.addresses()[0], others, password=settings.admin_password)
    finally:
        other.delete()
    assert_whole(engine, settings, len(engine.addresses()))


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes what it was asked, answers for an engine unless told to be down, and has no image."""
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ -e {tmp_path}/down ] && echo "Cannot connect" >&2 && exit 1\n'
        '[ "$1" = version ] && echo 28.0 && exit 0\necho "No such image" >&2; exit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_without_an_image_the_command_that_gets_it_is_named_and_nothing_is_pulled(
    fake_docker: Path, monkeypatch: pytest.MonkeyPatch, lab_base: Path
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_LAB_IMAGE", raising=False)
    found = availability()
    assert not found.available
    assert "`docker pull citusdata/citus:13.2`" in found.reason
    with pytest.raises(LabError, match=r"docker pull citusdata/citus:13\.2"):
        DockerEngine(lab.new_settings(lab_base / "no image")).start(2, lab.quiet)
    assert "pull" not in (fake_docker / "asked").read_text()


def test_an_engine_that_does_not_answer_is_told_apart(fake_docker: Path) -> None:
    (fake_docker / "down").touch()
    assert "no Docker engine answers" in availability().reason


def test_without_a_docker_command_there_is_nothing_to_stop(monkeypatch: pytest.MonkeyPatch, lab_base: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert availability().reason == "no `docker` command on PATH"
    DockerEngine(lab.new_settings(lab_base / "never made")).delete()
