"""Where in a TOML file something stands, for messages: `tomllib` gives values without lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

Key = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_ENTRY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*=""")


class Places:
    """Lines of tables and keys, counted from 1.

    >>> places = Places("[ports]\\nproxy = 8000\\n")
    >>> places.line(("ports", "proxy")), places.line(("ports", "nobody"))
    (2, 1)
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Key, int] = {}
        self._counts: dict[Key, int] = {}
        table: Key = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                table = self._enter(_split(header[2]), array=header[1] == "[[")
                self._lines.setdefault(table, number)
            elif entry := _ENTRY.match(line):
                self._lines.setdefault((*table, *_split(entry[1])), number)

    def line(self, key: Sequence[str | int]) -> int:
        """Line of `key`, else of the nearest table around it, else 1."""
        path = tuple(key)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _enter(self, words: tuple[str, ...], *, array: bool) -> Key:
        path: Key = ()
        for position, word in enumerate(words):
            path = (*path, word)
            last = position == len(words) - 1
            if array and last:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(word.strip().strip("\"'") for word in dotted.split("."))
