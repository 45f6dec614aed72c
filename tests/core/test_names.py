"""What a name, a path and a server parameter may be: by bytes, not by characters, and nothing that is cut off."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from orchestrator.core.desired.names import NAME_PATTERN, check_parameter, storable_name, usable_path
from orchestrator.core.desired.services import ServiceSpec


@pytest.mark.parametrize("name", ["a" * 63, "é" * 31 + "z", "☃" * 21, "a'b; --", "%s", "{key}", "$1", "\\", " ", "a b"])
def test_names_that_postgresql_keeps_as_they_are_are_taken(name: str) -> None:
    assert storable_name(name) == name
    assert re.fullmatch(NAME_PATTERN, name)


@pytest.mark.parametrize("name", ["a" * 64, "é" * 32, "☃" * 22])
def test_names_that_postgresql_would_cut_off_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"is {len(name.encode())} bytes long"):
        storable_name(name)


@pytest.mark.parametrize("name", ['a"b', "a\0b", "a\nb", "a\tb", "a\x1b[2J", "a\x7f", "a\x9b2J"])
def test_names_that_would_forge_a_line_or_end_a_quote_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="double quote or a control character"):
        storable_name(name)
    assert not re.fullmatch(NAME_PATTERN, name)


@pytest.mark.parametrize("key", ["role", "schema"])
def test_words_that_are_no_roles_or_schemas_are_refused(key: str) -> None:
    for word in {"role": ("public", "none"), "schema": ("public", "$user", "citus", "pg_temp")}[key]:
        with pytest.raises(ValidationError, match=re.escape(word) if word != "pg_temp" else "reserved"):
            ServiceSpec.model_validate({"name": "a", "role": "b", "schema": "c"} | {key: word})


def test_a_path_is_anything_but_nul() -> None:
    assert usable_path("../it's %s {key}") == "../it's %s {key}"
    with pytest.raises(ValueError, match="NUL"):
        usable_path("a\0b")


@pytest.mark.parametrize("name", ["work_mem", "citus.shard_count", "azure.extensions", "pg_stat_statements.track"])
def test_parameters_of_servers_are_taken(name: str) -> None:
    check_parameter(name, "it's %s; --")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a?b=c", "a b", "a'b", "%2e%2e", "a.", ".a", "1a", "a\n"])
def test_parameters_that_would_change_the_address_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a server parameter"):
        check_parameter(name, "on")
