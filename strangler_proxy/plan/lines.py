"""Lines of TOML keys: `tomllib` gives values without their place, this gives places without values.

A second, much smaller reading of the same text. It is only asked about documents that `tomllib` has accepted, so it
recognises the parts of the grammar (TOML 1.0: headers, dotted and quoted keys, the four kinds of strings, comments,
arrays, inline tables) and checks nothing. A test holds that it finds exactly the keys that `tomllib` finds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

Path = tuple[str | int, ...]
"""`("routes", "me", "path")`; an element of an array is its position."""

_BARE_END = frozenset(" \t\r\n.=]")
_VALUE_END = frozenset(",]}#\r\n")


def key_lines(text: str) -> Mapping[Path, int]:
    """The line (from 1) where each key, table and array element begins. `text` is a document that tomllib accepts.

    >>> key_lines('[a]\\nb = 1\\n[[c]]\\nd = [1,\\n 2]')[("c", 0, "d", 1)]
    5
    """
    return _Scan(text.replace("\r\n", "\n")).document()


class _Scan:
    """One pass over a document; `at` is the position of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}

    def document(self) -> Mapping[Path, int]:
        table: Path = ()
        while self._skip(blank_lines=True):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.found

    def _header(self) -> Path:
        line = self._line()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        names = self._key()
        self.at += 2 if is_array else 1
        path = self._resolve((), names[:-1], line)
        path = (*path, names[-1])
        if is_array:
            self.found.setdefault(path, line)
            self.arrays[path] = self.arrays.get(path, -1) + 1
            path = (*path, self.arrays[path])
        self.found.setdefault(path, line)
        return path

    def _resolve(self, base: Path, names: list[str], line: int) -> Path:
        """Walk names from a table; one that is an array of tables means its last element."""
        path = base
        for name in names:
            path = (*path, name)
            self.found.setdefault(path, line)
            if path in self.arrays:
                path = (*path, self.arrays[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        names = self._key()
        path = (*self._resolve(table, names[:-1], line), names[-1])
        self.found.setdefault(path, line)
        self.at += 1  # "="
        self._value(path)

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            self._skip(blank_lines=False)
            if self.text[self.at] in "\"'":
                start = self.at
                self._string()
                names.append(tomllib.loads(f"x = {self.text[start : self.at]}")["x"])
            else:
                start = self.at
                while self.text[self.at] not in _BARE_END:
                    self.at += 1
                names.append(self.text[start : self.at])
            self._skip(blank_lines=False)
            if self.text[self.at] != ".":
                return names
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(blank_lines=True)
        first = self.text[self.at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in _VALUE_END:
                self.at += 1

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self._skip(blank_lines=True) and self.text[self.at] != "]":
            self.found[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            self._comma()
        self.at += 1

    def _inline(self, path: Path) -> None:
        self.at += 1
        while self._skip(blank_lines=True) and self.text[self.at] != "}":
            self._pair(path)
            self._comma()
        self.at += 1

    def _comma(self) -> None:
        if self._skip(blank_lines=True) and self.text[self.at] == ",":
            self.at += 1

    def _string(self) -> None:
        """Move past a string of any kind. In a multi-line one up to two quotes may stand before the closing three."""
        quote = self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            self.at += 3
            while not self.text.startswith(quote * 3, self.at):
                self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            self.at += 3
            while self.text.startswith(quote, self.at):
                self.at += 1
            return
        self.at += 1
        while self.text[self.at] != quote:
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += 1

    def _skip(self, *, blank_lines: bool) -> bool:
        """Move past white space (and line ends and comments); False at the end of the document."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t" or (blank_lines and char == "\n"):
                self.at += 1
            elif blank_lines and char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1
