"""Texts of a stack file that other programs take literally: names in PostgreSQL, paths, parameters of the server.

What cannot be stored or shown as it is written is refused here, before anything is asked or changed.
"""

from __future__ import annotations

import re

LONGEST_NAME = 63
NAME_PATTERN = r'^[^\x00-\x1f\x7f-\x9f"]+$'
PATH_PATTERN = r"^[^\x00]+$"
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def storable_name(value: str) -> str:
    """Of a role, schema, table or column. Raises ValueError; PostgreSQL itself cuts long names off in silence."""
    if '"' in value or _CONTROL.search(value):
        raise ValueError(f"{shortened(value)} has a double quote or a control character in it; choose another name")
    size = len(value.encode())
    if size > LONGEST_NAME:
        raise ValueError(
            f"{shortened(value)} is {size} bytes long, and PostgreSQL cuts names off after {LONGEST_NAME}; shorten it"
        )
    return value


def usable_path(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path cannot have a NUL character in it; correct it")
    return value


def check_parameter(name: str, value: str) -> None:
    """Raises ValueError; the name becomes part of an address of Azure's API."""
    if _PARAMETER.fullmatch(name) is None:
        raise ValueError(f"{shortened(name)} is no name of a server parameter; correct or remove it")
    if _CONTROL.search(value):
        raise ValueError(f"{name}: the value has a control character in it; write it in one line")


def region_name(location: str) -> str:
    """As Azure's API names a region, which people and portals write `North Europe`."""
    return location.replace(" ", "").lower()


def shortened(value: str) -> str:
    return repr(value if len(value) <= 70 else value[:60] + "...")
