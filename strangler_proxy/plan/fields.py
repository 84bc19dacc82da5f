"""Reading a TOML table field by field: each wrong one becomes a problem with its place, and reading goes on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from strangler_proxy.plan.lines import Path, key_lines

E = TypeVar("E")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_KIND = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table", float: "a number"}


class Problems:
    """Everything found in one file, each as `FILE:LINE: what is wrong`."""

    def __init__(self, file_name: str, text: str) -> None:
        self.file_name = file_name
        self._lines = key_lines(text)
        self._found: list[tuple[int, str]] = []

    def add(self, path: Path, sentence: str) -> None:
        """Note a problem at a key; a key that is missing is shown at the table that lacks it."""
        self._found.append((self.line(path), sentence))

    def line(self, path: Path) -> int:
        """The line of a key, or of the closest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def sentences(self) -> list[str]:
        """All problems in the order of their lines."""
        return [f"{self.file_name}:{line}: {sentence}" for line, sentence in sorted(set(self._found))]

    def __bool__(self) -> bool:
        return bool(self._found)


class Fields:
    """One table of the document. Getters return the value or the default; `finish` reports keys nobody asked for."""

    def __init__(self, values: Mapping[str, Any], path: Path, what: str, problems: Problems) -> None:
        self.values = values
        self.path = path
        self.what = what
        self.problems = problems
        self._asked: set[str] = set()

    def problem(self, key: str, sentence: str) -> None:
        """Note a problem with one key of this table."""
        self.problems.add((*self.path, key), f"{self.what}: {sentence}")

    def has(self, key: str) -> bool:
        """Is the key written? Asking counts as knowing it."""
        self._asked.add(key)
        return key in self.values

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required where there is no default."""
        return self._typed(key, str, "" if default is None else default, required=default is None)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return self._typed(key, bool, default)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number of a range."""
        value = self._typed(key, int, default)
        if not low <= value <= high:
            self.problem(key, f"{key} {value} is outside {low}..{high}")
            return default
        return value

    def seconds(self, key: str, default: float, high: float = 86_400.0) -> float:
        """A positive, finite number of seconds."""
        self._asked.add(key)
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(key, f"{key} must be a number of seconds, got {_shown(value)}")
            return default
        if not 0 < value <= high:
            self.problem(key, f"{key} {value} is outside 0 < seconds <= {high:g}")
            return default
        return float(value)

    def choice(self, key: str, choices: Mapping[str, E], default: E | None = None) -> E:
        """One of a closed set of words."""
        first = next(iter(choices.values()))
        value = self._typed(key, str, "", required=default is None)
        if value in choices:
            return choices[value]
        if key in self.values:
            self.problem(key, f"{key} {_shown(self.values[key])} is none of {', '.join(choices)}")
        return first if default is None else default

    def texts(self, key: str, default: Sequence[str] | None = ()) -> tuple[str, ...]:
        """A list of texts without repetition; required where the default is None."""
        values = self._typed(key, list, list(default or ()), required=default is None)
        kept: list[str] = []
        for index, value in enumerate(values):
            place = (*self.path, key, index)
            if not isinstance(value, str) or not value:
                self.problems.add(place, f"{self.what}: {key} must hold texts, got {_shown(value)}")
            elif value in kept:
                self.problems.add(place, f'{self.what}: {key} names "{value}" twice')
            else:
                kept.append(value)
        return tuple(kept)

    def table(self, key: str, what: str, *, required: bool = False) -> Fields:
        """A table inside this one; an empty one where it is not written."""
        return Fields(self._typed(key, dict, {}, required=required), (*self.path, key), what, self.problems)

    def tables(self, key: str, what: str) -> Iterator[tuple[str, Fields]]:
        """The named tables of a table of tables: `[routes.NAME]`."""
        for name, value in self._typed(key, dict, {}).items():
            if isinstance(value, dict):
                yield name, Fields(value, (*self.path, key, name), f'{what} "{name}"', self.problems)
            else:
                self.problems.add((*self.path, key, name), f'{what} "{name}" must be a table, got {_shown(value)}')

    def list_of_tables(self, key: str, what: str) -> Iterator[Fields]:
        """The tables of an array of tables: `[[data.tables]]`."""
        for index, value in enumerate(self._typed(key, list, [])):
            place = (*self.path, key, index)
            if isinstance(value, dict):
                yield Fields(value, place, what, self.problems)
            else:
                self.problems.add(place, f"{what} must be a table, got {_shown(value)}")

    def finish(self) -> None:
        """Report keys that mean nothing here, with the closest one that does."""
        for key in self.values.keys() - self._asked:
            close = difflib.get_close_matches(key, sorted(self._asked), n=1)
            hint = f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(sorted(self._asked))}"
            self.problem(key, f'unknown key "{key}"{hint}')

    def _typed(self, key: str, kind: type[E], default: E, *, required: bool = False) -> E:
        self._asked.add(key)
        if key not in self.values:
            if required:
                self.problem(key, f'"{key}" is missing')
            return default
        value = self.values[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problem(key, f"{key} must be {_KIND[kind]}, got {_shown(value)}")
            return default
        if required and value == "":
            self.problem(key, f'"{key}" is empty')
        found: E = value
        return found


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def variables(text: str) -> frozenset[str]:
    """Names of the environment variables that a document refers to as `${NAME}` or `${NAME:-default}`."""
    return frozenset(match.group(1) for match in _VARIABLE.finditer(text))


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Put values in for `${NAME:-default}`; an empty variable counts as unset. Raises KeyError with a missing name.

    >>> substitute("${PLACE:-127.0.0.1}:80", {}), substitute("${PLACE}:80", {"PLACE": "web"})
    ('127.0.0.1:80', 'web:80')
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = environment.get(name) or default
        if found is None:
            raise KeyError(name)
        return found

    return _VARIABLE.sub(value, text)
