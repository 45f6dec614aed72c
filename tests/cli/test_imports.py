"""Heavy libraries are imported by the verbs that need them and by no other: help is quick, `status` knows no Azure."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("azure", "pulumi", "pglast", "psycopg", "pydantic", "yaml", "rich")
RUN = """
import sys
from orchestrator.cli.app import main
sys.argv = ["orchestrator", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}} & set({heavy!r})))
"""


def loaded_by(*arguments: str) -> set[str]:
    code = RUN.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("scale-out", "--help"), ("lab", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == set()


@pytest.mark.parametrize("verb", ["status", "apply", "plan", "scale-out"])
def test_a_mistake_in_the_stack_is_told_before_azure_or_a_parser_is_loaded(verb: str) -> None:
    assert loaded_by(verb, "--stack", "nowhere") <= {"psycopg", "pydantic", "yaml"}


def test_verbs_without_a_cluster_need_no_database_client() -> None:
    assert "azure" not in loaded_by("schema")
    assert "psycopg" not in loaded_by("schema")
