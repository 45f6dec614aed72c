"""Stack files: what is read, what is refused and where, and that a change of one value touches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.stack.stackfile import json_schema, load, parse, save, set_value
from orchestrator.core.desired.limits import limit
from orchestrator.core.errors import Refused, SpecError, UnknownStack

ROOT = Path(__file__).parent.parent.parent
GOOD = """\
# A comment at the top.
encryptionsalt: v1:abcdef=
config:
  azure-native:location: northeurope
  elastic-cluster:name: orders   # the name
  elastic-cluster:resourceGroup: rg-orders
  elastic-cluster:location: northeurope
  elastic-cluster:nodes: 4  # grows
  elastic-cluster:administratorPassword:
    secure: v1:secret
  elastic-cluster:serverParameters:
    work_mem: 8MB
    jit: off
  elastic-cluster:services:
    - name: user_service
      migrations: [migrations/user]   # folder
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text, "Pulumi.dev.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_is_read_whole() -> None:
    spec = parse(GOOD, "Pulumi.dev.yaml")
    assert (spec.name, spec.nodes, spec.database) == ("orders", 4, "postgres")
    assert spec.server_parameters == {"work_mem": "8MB", "jit": "off"}
    assert spec.services[0].schema_name == spec.services[0].role_name == "user_service"


def test_values_as_pulumi_config_set_writes_them_are_accepted() -> None:
    """`pulumi config set elastic-cluster:nodes 8` writes a string."""
    assert parse(GOOD.replace("nodes: 4", 'nodes: "8"'), "x").nodes == 8


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("nodes: 4", "nodez: 4", "Pulumi.dev.yaml:8 elastic-cluster:nodez", "did you mean nodes?"),
        ("nodes: 4", "nodes: 21", "Pulumi.dev.yaml:8 elastic-cluster:nodes", "21 is outside 2 to 20"),
        ("nodes: 4", "nodes: four", "Pulumi.dev.yaml:8 elastic-cluster:nodes", "valid integer"),
        ("nodes: 4", "nodes: 1", "Pulumi.dev.yaml:8 elastic-cluster:nodes", "1 is outside"),
        ("name: orders", "name: Orders_1", "Pulumi.dev.yaml:5 elastic-cluster:name", "pattern"),
        ("  elastic-cluster:location: northeurope\n", "", "elastic-cluster:location", "missing"),
        ("migrations:", "migration:", "Pulumi.dev.yaml:16 elastic-cluster:services[0].migration", "did you mean"),
        ("azure-native:location", "location", "Pulumi.dev.yaml:4 location", "namespace"),
        ("work_mem: 8MB", "work_mem: 8MB\n    work_mem: 9MB", "Pulumi.dev.yaml:13 work_mem", "already in line 12"),
        ("config:", "konfig:", "Pulumi.dev.yaml", "no `config:`"),
        ("[migrations/user]", "[migrations/user", "Pulumi.dev.yaml:", "not valid YAML"),
        ("- name: user_service", "- name: public", "elastic-cluster:services[0]", "schema of its own"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, where: str, what: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    assert any(where in problem and what in problem for problem in found), found


def test_every_mistake_is_told_at_once() -> None:
    found = problems(GOOD.replace("nodes: 4", "nodes: 99").replace("name: orders", "name: O").replace("jit", "jit"))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("storage: {autoGrow: true}", "cannot grow their storage"),
        ("compute: {sku: Standard_B2s, tier: Burstable}", "PgBouncer is not available in tier Burstable"),
        ("network: {publicAccess: false}", "nobody could reach the cluster"),
        ("administratorLogin: azure_superuser", "reserved by Azure"),
        ("postgresVersion: 15", "15 is not one of"),
        ("backup: {retentionDays: 3}", "3 is outside 7 to 35"),
    ],
)
def test_what_azure_would_refuse_late_is_refused_early(extra: str, what: str) -> None:
    assert any(what in problem for problem in problems(GOOD + f"  elastic-cluster:{extra}\n"))


def test_a_secret_never_shows_in_an_error() -> None:
    text = GOOD.replace("    secure: v1:secret", "    password: hunter2-clear")
    assert "hunter2-clear" not in "\n".join(problems(text))


def test_an_unknown_stack_names_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.dev.yaml").write_text(GOOD)
    with pytest.raises(UnknownStack, match="Stacks here: dev"):
        load(tmp_path, "prod")


def test_saving_the_node_count_changes_one_value_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    path = tmp_path / "stacks" / "Pulumi.dev.yaml"
    path.write_text(GOOD)
    saved = save(load(tmp_path, "dev"), "nodes", "8")
    assert saved.spec.nodes == 8
    assert path.read_text() == GOOD.replace("nodes: 4", "nodes: 8")


def test_a_file_that_cannot_be_written_is_told_in_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    path = tmp_path / "stacks" / "Pulumi.dev.yaml"
    path.write_text(GOOD, "utf-8")
    file = load(tmp_path, "dev")
    path.rename(tmp_path / "kept")
    path.parent.rmdir()
    with pytest.raises(Refused, match=r"cannot be written: No such file or directory\. Nothing was changed"):
        save(file, "nodes", "8")
    assert (tmp_path / "kept").read_text("utf-8") == GOOD


def test_saving_keeps_the_mode_of_the_file_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    kept, path = tmp_path / "kept.yaml", tmp_path / "stacks" / "Pulumi.dev.yaml"
    kept.write_text(GOOD, "utf-8")
    kept.chmod(0o600)
    path.symlink_to(kept)
    save(load(tmp_path, "dev"), "nodes", "8")
    assert path.is_symlink()
    assert (kept.stat().st_mode & 0o777, load(tmp_path, "dev").spec.nodes) == (0o600, 8)
    assert {found.name for found in tmp_path.iterdir()} == {"kept.yaml", "stacks"}


def test_a_file_that_is_not_utf8_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.dev.yaml").write_bytes(b"config: \xff")
    with pytest.raises(SpecError, match="it cannot be read: it is not UTF-8 text"):
        load(tmp_path, "dev")


def test_a_missing_key_is_added_and_the_rest_survives() -> None:
    text = GOOD.replace("  elastic-cluster:nodes: 4  # grows\n", "")
    changed = set_value(text, "nodes", "8")
    assert parse(changed, "x").nodes == 8
    assert changed.replace("elastic-cluster:nodes: 8\n  ", "", 1) == text


@given(st.integers(2, 20), st.sampled_from(["nodes: 4", 'nodes: "4"', "nodes:    4", "nodes: 0x4", "nodes:\n    4"]))
def test_property_set_value_is_read_back_and_keeps_every_comment(nodes: int, style: str) -> None:
    text = GOOD.replace("nodes: 4", style)
    changed = set_value(text, "nodes", str(nodes))
    assert parse(changed, "x").nodes == nodes
    assert [line for line in changed.splitlines() if "#" in line and "grows" not in line] == [
        line for line in text.splitlines() if "#" in line and "grows" not in line
    ]


def test_the_json_schema_for_editors_is_up_to_date_and_agrees_with_the_parser() -> None:
    written = json.loads((ROOT / "stacks" / "stack.schema.json").read_text("utf-8"))
    assert written == json_schema(), "run `orchestrator schema > stacks/stack.schema.json`"
    jsonschema.Draft202012Validator.check_schema(written)
    validator = jsonschema.Draft202012Validator(written)
    assert list(validator.iter_errors(yaml.safe_load(GOOD.replace("jit: off", "jit: 'off'")))) == []
    for wrong in ("nodez: 4", "nodes: 21"):
        assert list(validator.iter_errors(yaml.safe_load(GOOD.replace("nodes: 4", wrong))))


def test_limits_carry_their_source_and_date() -> None:
    known = limit("cluster.nodes")
    assert (known.minimum, known.maximum) == (2, 20)
    assert known.source
    assert known.as_of >= "2025"


@pytest.mark.parametrize("path", sorted((ROOT / "stacks").glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_the_stacks_in_the_project_are_valid(path: Path) -> None:
    parse(path.read_text("utf-8"), path.name)
