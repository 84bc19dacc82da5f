"""Cents in and out of strings with two decimals."""

from __future__ import annotations

import re

_AMOUNT = re.compile(r"\d{1,6}\.\d{2}\Z", re.ASCII)


def to_cents(text: object) -> int | None:
    """`"12.50"` -> 1250; None for anything but a string of that form above zero."""
    if not isinstance(text, str) or not _AMOUNT.match(text):
        return None
    return int(text.replace(".", "")) or None


def from_cents(cents: int) -> str:
    """1250 -> `"12.50"`."""
    return f"{cents // 100}.{cents % 100:02d}"
