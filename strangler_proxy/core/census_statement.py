"""Which of some tables a statement reads or writes, by its text.

Plain Python 3.9 and standard library only: `contrib.django` asks it for each statement of an application. It errs
towards a table being touched: a name that is only mentioned (an alias, a dollar-quoted text) counts as read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

READ, WRITE = "read", "write"

CACHED_CHARS = 4_000
"""Longer texts (bulk inserts) are looked at each time, so that the cache stays small."""

_CACHED_TEXTS = 2_048
_NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_WRITES_TO = (
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|(?:ALTER|DROP)\s+TABLE(?:\s+IF\s+EXISTS)?"
    r"|TRUNCATE(?:\s+TABLE)?)\s+(?:ONLY\s+)?(?:\"?[\w$]+\"?\s*\.\s*)?\"?({names})\"?(?![\w$])"
)
_COPY_IN = r"\s*COPY\s+(?:\"?[\w$]+\"?\s*\.\s*)?\"?({names})\"?(?![\w$]).*?\bFROM\b"
_TRUNCATES = re.compile(r"\s*TRUNCATE\b", re.IGNORECASE)


class TableFinder:
    """Finds the tables it was made for in the texts of statements.

    `tables` are names as a manifest has them (`table` or `schema.table`, whose schema does not matter here), each with
    whatever the caller wants back. Names are compared without regard to case.

    >>> finder = TableFinder({"parcel": 1, "post.box": 2})
    >>> finder.touched('SELECT * FROM "parcel" JOIN box USING (id)')
    ((1, 'read'), (2, 'read'))
    >>> finder.touched('WITH gone AS (DELETE FROM post."box" RETURNING 1) SELECT 1 FROM parcel_type')
    ((2, 'write'),)
    """

    def __init__(self, tables: Mapping[str, object]) -> None:
        self._known: dict[str, list[object]] = {}
        for name, value in tables.items():
            self._known.setdefault(name.rpartition(".")[2].lower(), []).append(value)
        names = "|".join(sorted((re.escape(name) for name in self._known), key=len, reverse=True))
        flags = re.IGNORECASE | re.DOTALL
        self._named = re.compile(rf"(?<![\w$])(?:{names})(?![\w$])", flags)
        self._written = re.compile(_WRITES_TO.replace("{names}", names), flags)
        self._copied_in = re.compile(_COPY_IN.replace("{names}", names), flags)
        self._cached = lru_cache(_CACHED_TEXTS)(self._find)

    def touched(self, text: str) -> tuple[tuple[object, str], ...]:
        """(value, `read` or `write`) of each table in the text; a table that is written is not told as read."""
        return self._cached(text) if len(text) <= CACHED_CHARS else self._find(text)

    def _find(self, text: str) -> tuple[tuple[object, str], ...]:
        lowered = text.lower()
        if not any(name in lowered for name in self._known):  # ten times as fast as the pattern
            return ()
        plain = _NOISE.sub(" ", text)
        named = _in_order(match.group().lower() for match in self._named.finditer(plain))
        if _TRUNCATES.match(plain):
            written = set(named)
        else:
            written = {match.group(1).lower() for match in self._written.finditer(plain)}
            copied = self._copied_in.match(plain)
            if copied is not None:
                written.add(copied.group(1).lower())
        return tuple((value, WRITE if name in written else READ) for name in named for value in self._known[name])


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
