"""Bytes, seconds, money and numbers of things in words: one spelling for every view."""

from __future__ import annotations


def size(number: int | None) -> str:
    """Bytes as PostgreSQL's pg_size_pretty writes them."""
    if number is None:
        return "unknown"
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 10 * 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.0f} TB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def money(amount: float, currency: str) -> str:
    return f"{amount:,.0f} {currency}" if amount >= 100 else f"{amount:,.2f} {currency}"


def count(number: int, noun: str) -> str:
    """`1 move`, `2 moves`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
