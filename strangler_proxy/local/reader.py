"""Reads typed values out of TOML tables and notes every problem with its line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strangler_proxy.local.places import Key, Places


class Problems:
    """What is wrong with one file; each line says file, line and what."""

    def __init__(self, path: Path, places: Places) -> None:
        self._path = path
        self._places = places
        self._found: dict[str, int] = {}

    def add(self, key: Key, text: str) -> None:
        """Note a problem of the value at `key`."""
        line = self._places.line(key)
        self._found.setdefault(f"{self._path}:{line}: {text}", line)

    @property
    def lines(self) -> list[str]:
        """All of them, by line."""
        return sorted(self._found, key=lambda text: self._found[text])


class Reader:
    """One table. Each method takes a key out, says what is wrong with it, and gives the default then."""

    def __init__(self, table: object, key: Key, problems: Problems, *, title: str) -> None:
        self.key = key
        self.title = title
        self.problems = problems
        self._taken: set[str] = set()
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            problems.add(key, f"{title} is not a table")

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def wrong(self, name: str, text: str) -> None:
        """Note a problem of one key."""
        self.problems.add((*self.key, name), f"{self.title}: {name} {text}")

    def take(self, name: str) -> Any:
        """The raw value, None where there is none."""
        self._taken.add(name)
        return self._table.get(name)

    def text(self, name: str, default: str | None = "") -> str:
        """A string; `default=None`: it must be there."""
        value = self.take(name)
        if value is None:
            if default is None:
                self.problems.add(self.key, f"{self.title}: {name} is missing")
            return default or ""
        if not isinstance(value, str) or (default is None and not value):
            self.wrong(name, f"must be text, not {value!r}")
            return default or ""
        return value

    def seconds(self, name: str, default: float, *, most: float = 3600.0) -> float:
        """A positive number."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            self.wrong(name, f"must be a number of seconds up to {most:g}, not {value!r}")
            return default
        return float(value)

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number in a range."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(name, f"must be a whole number from {least} to {most}, not {value!r}")
            return default
        return value

    def words(self, name: str, *, required: bool = False, split: bool = False) -> tuple[str, ...]:
        """A list of strings; with `split`, a command line in one string too."""
        value = self.take(name)
        if value is None and not required:
            return ()
        if split and isinstance(value, str):
            try:
                value = shlex.split(value)
            except ValueError as error:
                self.wrong(name, f"cannot be split into words: {error}")
                return ()
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value) or (required and not value):
            if value is None:
                self.problems.add(self.key, f"{self.title}: {name} is missing")
            else:
                self.wrong(name, f"must be a list of words, not {value!r}")
            return ()
        return tuple(value)

    def texts(self, name: str) -> dict[str, str]:
        """A table of strings; numbers and booleans become their text."""
        value = self.take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(name, f"must be a table, not {value!r}")
            return {}
        read = {}
        for entry, item in value.items():
            if isinstance(item, bool):
                read[entry] = "1" if item else "0"
            elif isinstance(item, str | int | float):
                read[entry] = str(item)
            else:
                self.problems.add((*self.key, name, entry), f"{self.title}: {name}.{entry} must be text, not {item!r}")
        return read

    def table(self, name: str) -> Reader | None:
        """A table inside, None where there is none."""
        value = self.take(name)
        if value is None:
            return None
        return Reader(value, (*self.key, name), self.problems, title=f"[{'.'.join(map(str, (*self.key, name)))}]")

    def tables(self, name: str, *, kind: str) -> list[tuple[str, Reader]]:
        """The named tables inside `[name.*]`."""
        inside = self.table(name)
        if inside is None:
            return []
        return [
            (entry, Reader(inside.take(entry), (*inside.key, entry), self.problems, title=f'{kind} "{entry}"'))
            for entry in inside._table
        ]

    def array(self, name: str, *, kind: str) -> list[Reader]:
        """The tables of `[[name]]`."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(name, f"must be written as [[{name}]]")
            return []
        return [
            Reader(
                item,
                (*self.key, name, index),
                self.problems,
                title=f'{kind} "{_name_of(item) or f"number {index + 1}"}"',
            )
            for index, item in enumerate(value)
        ]

    def finish(self) -> None:
        """Note every key that nobody took."""
        for name in self._table:
            if name not in self._taken:
                known = ", ".join(sorted(self._taken))
                self.problems.add((*self.key, name), f"{self.title}: unknown key {name!r} (known: {known})")


def _name_of(item: object) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""
