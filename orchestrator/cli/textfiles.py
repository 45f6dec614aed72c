"""Text files that people name: why one cannot be used, in words, and how one is written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

UNUSABLE = (OSError, UnicodeDecodeError)


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read or written, without the number and the path that Python's own text has."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return error.strerror or str(error)


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """A file that is there is replaced in one step, and keeps its mode where none is given; a link stays a link.

    Raises OSError.
    """
    path = path.resolve()
    if mode is None:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        part.chmod(mode)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
