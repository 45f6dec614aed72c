"""How code scanning recognises a finding again after lines before it have come or gone: a number for each line.

The same numbers as GitHub's upload action computes (`src/fingerprints.ts` of github/codeql-action): one that differed
would be reported there as inconsistent.
"""

from __future__ import annotations

from collections import Counter

_WINDOW = 100  # characters from the start of the line
_BASE, _MODULUS = 37, 2**64
_END = 65535


def line_fingerprints(text: str) -> list[str]:
    """One for each line: a hash of what follows, without blanks, and how often it was there before."""
    blankless = text.replace("\r\n", "\n").replace("\r", "\n").translate({ord("\t"): None, ord(" "): None})
    units = [*_utf16(blankless), _END]
    starts = [0] + [place + 1 for place, unit in enumerate(units) if unit == ord("\n")]
    seen: Counter[str] = Counter()
    found = []
    for start in starts:
        window = units[start : start + _WINDOW]
        value = 0
        for unit in window + [0] * (_WINDOW - len(window)):
            value = (value * _BASE + unit) % _MODULUS
        seen[f"{value:x}"] += 1
        found.append(f"{value:x}:{seen[f'{value:x}']}")
    return found


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-le", "surrogatepass")
    return [raw[place] | raw[place + 1] << 8 for place in range(0, len(raw), 2)]
