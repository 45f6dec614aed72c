"""SARIF of `orchestrator lint`: valid by the standard's own schema, and with all that GitHub requires."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from orchestrator.core.checks.findings import RULES
from orchestrator.lint.fingerprints import line_fingerprints
from tests.fix_lab import ROOT, Project

SCHEMA = json.loads((ROOT / "tests" / "data" / "sarif" / "sarif-schema-2.1.0.json").read_text("utf-8"))
SQL = "LISTEN a;\n\n  SET search_path\n    TO x;\nSELEKT 1;\n"


def sarif(project: Project, *arguments: str) -> dict[str, Any]:
    run = project.call("lint", *arguments, "--format", "sarif")
    assert run.returncode in {0, 1}, run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def broken(document: dict[str, Any]) -> list[str]:
    checker = Draft4Validator(SCHEMA, format_checker=Draft4Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]


def results(document: dict[str, Any]) -> list[dict[str, Any]]:
    (run,) = document["runs"]
    return list(run["results"])


def place(result: dict[str, Any]) -> dict[str, Any]:
    (location,) = result["locations"]
    found: dict[str, Any] = location["physicalLocation"]
    return found


def test_the_schema_itself_tells_good_from_bad(project: Project) -> None:
    (project.folder / "a.sql").write_text("LISTEN a;\n", "utf-8")
    document = sarif(project, "a.sql", "--port", "pooled")
    assert broken(document) == []
    document["runs"][0]["results"][0]["level"] = "fatal"
    del document["runs"][0]["tool"]["driver"]["name"]
    assert len(broken(document)) == 2


@pytest.mark.parametrize("text", ["", "SELECT 1;\n", SQL, "SELEKT 1;\n", "SET x = 1;"])
def test_valid_by_the_standards_schema(project: Project, text: str) -> None:
    (project.folder / "a.sql").write_text(text, "utf-8")
    assert broken(sarif(project, "a.sql", "--port", "pooled")) == []


def test_every_rule_is_valid_by_the_schema(project: Project) -> None:
    corpus = json.loads((ROOT / "tests" / "data" / "lint-corpus" / "corpus.json").read_text("utf-8"))
    prelude = (ROOT / "tests" / "data" / "lint-corpus" / "prelude.sql").read_text("utf-8")
    seen = set()
    for port in ("pooled", "balanced"):
        text = prelude + ";\n".join(entry["sql"] for entry in corpus)
        (project.folder / "all.sql").write_text(text, "utf-8")
        document = sarif(project, "all.sql", "--port", port)
        assert broken(document) == []
        seen |= {result["ruleId"] for result in results(document)}
    # A lock on a table that the same file makes holds up nobody.
    assert seen == set(RULES) - {"EC000", "EC401"}


def test_what_github_requires(project: Project) -> None:
    """Its page "SARIF support for code scanning": required properties are there, and none is an empty string."""
    (project.folder / "a.sql").write_text(SQL.replace("SELEKT 1;\n", ""), "utf-8")
    document = sarif(project, "a.sql", "--port", "pooled")
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    driver = document["runs"][0]["tool"]["driver"]
    assert driver["name"]
    for rule in driver["rules"]:
        assert rule["id"]
        for name in ("shortDescription", "fullDescription", "help"):
            assert 0 < len(rule[name]["text"]) <= 1024
    found = results(document)
    assert [result["ruleId"] for result in found] == ["EC002", "EC005"]
    for result in found:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["partialFingerprints"]["primaryLocationLineHash"]
    assert place(found[1]) == {
        "artifactLocation": {"uri": "a.sql"},
        "region": {"startLine": 3, "startColumn": 3, "endLine": 4, "endColumn": 10},
    }


def test_paths_are_relative_to_the_repository_and_escaped(project: Project, tmp_path: Path) -> None:
    (project.folder.parent / ".git").mkdir(exist_ok=True)
    folder = project.folder / "a folder"
    folder.mkdir()
    (folder / "ä#1.sql").write_text("LISTEN a;\n", "utf-8")
    expected = f"{project.folder.name}/a%20folder/%C3%A4%231.sql"
    for given in ("a folder", str(folder), "a folder/../a folder/ä#1.sql"):
        (result,) = results(sarif(project, given, "--port", "pooled"))
        assert place(result)["artifactLocation"]["uri"] == expected
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere.sql"
    elsewhere.write_text("LISTEN a;\n", "utf-8")
    (result,) = results(sarif(project, str(elsewhere), "--port", "pooled"))
    assert place(result)["artifactLocation"]["uri"] == elsewhere.as_uri()


def test_a_finding_keeps_its_fingerprint_when_lines_come_before_it(project: Project) -> None:
    file = project.folder / "a.sql"
    tail = "".join(f"SELECT {number} AS a_column_that_fills_the_line;\n" for number in range(4))
    file.write_text(f"LISTEN a;\n{tail}", "utf-8")
    (before,) = results(sarif(project, "a.sql", "--port", "pooled"))
    file.write_text(f"SELECT 1;\n\n  LISTEN  a;\n{tail}", "utf-8")
    (after,) = results(sarif(project, "a.sql", "--port", "pooled"))
    assert after["partialFingerprints"] == before["partialFingerprints"]
    file.write_text(f"LISTEN b;\n{tail}", "utf-8")
    (other,) = results(sarif(project, "a.sql", "--port", "pooled"))
    assert other["partialFingerprints"] != before["partialFingerprints"]


# From the tests of github/codeql-action (src/fingerprints.test.ts), which define these numbers.
KNOWN = {
    "": ["c129715d7a2bc9a3:1"],
    " a\nb\n  \t\tc\n d": ["271789c17abda88f:1", "54703d4cd895b18:1", "180aee12dab6264:1", "a23a3dc5e078b07b:1"],
    " hello; \t\nworld!!!\n\n\n  \t\tGreetings\n End": [
        "8b7cf3e952e7aeb2:1", "b1ae1287ec4718d9:1", "bff680108adb0fcc:1", "c6805c5e1288b612:1", "b86d3392aea1be30:1",
        "e6ceba753e1a442:1",
    ],
    " hello; \t\r\nworld!!!\r\n\r\n\r\n  \t\tGreetings\r\n End\r\n": [
        "e9496ae3ebfced30:1", "fb7c023a8b9ccb3f:1", "ce8ba1a563dcdaca:1", "e20e36e16fcb0cc8:1", "b3edc88f2938467e:1",
        "c8e28b0b4002a3a0:1", "c129715d7a2bc9a3:1",
    ],
    "alpha\nbeta\nalpha\n": [
        "8d07ce75f7b3af45:1", "ca140c3f893ffa65:1", "26f09ff008857193:1", "c129715d7a2bc9a3:1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", KNOWN)
def test_fingerprints_are_those_of_githubs_upload_action(text: str) -> None:
    assert line_fingerprints(text) == KNOWN[text]


def test_lines_that_are_the_same_are_numbered() -> None:
    found = line_fingerprints("LISTEN a;\n" * 50)
    assert found[0].split(":")[0] == found[1].split(":")[0]
    assert found[1].endswith(":2")
