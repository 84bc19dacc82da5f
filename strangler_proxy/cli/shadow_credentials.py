"""Credentials for a replay: what stands for a secret in recorded requests, and what is sent in its place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.pair import Side

MARK: Final = re.compile(r"\[[a-z]{1,12}:[0-9a-f]{12}\]")
_MOST_BYTES: Final = 1_000_000
_SIDES: Final = {"headers": (Side.CONTROL, Side.CANDIDATE), "control_headers": (Side.CONTROL,),
                 "candidate_headers": (Side.CANDIDATE,)}  # fmt: skip

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One `[users.LABEL]`: requests that carry one of `marks` are asked with these headers, by side."""

    label: str
    marks: frozenset[str]
    headers: Mapping[Side, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a file of credentials says. Its values are never printed."""

    marks: Mapping[str, str] = field(default_factory=dict, repr=False)
    people: tuple[Person, ...] = field(default=(), repr=False)
    everybody: Mapping[Side, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def put_in(self, text: str) -> str:
        """The text with known marks replaced by what they stand for."""
        return MARK.sub(lambda found: self.marks.get(found.group(), found.group()), text)

    def fields(self, recorded: Iterable[tuple[str, str]], side: Side) -> Fields:
        """The fields to send: recorded ones with marks filled in, then those of the person, then everybody's."""
        listed = [(name, self.put_in(value)) for name, value in recorded]
        carried = {mark for _, value in recorded for mark in MARK.findall(value)}
        given: dict[str, tuple[str, str]] = {}
        for person in self.people:
            if carried & person.marks:
                given |= {name.lower(): (name, value) for name, value in person.headers.get(side, {}).items()}
                break
        for name, value in self.everybody.get(side, {}).items():
            given.setdefault(name.lower(), (name, value))
        return (*((name, value) for name, value in listed if name.lower() not in given), *given.values())


def read_credentials(path: Path) -> Credentials:
    """Read a file of credentials (TOML). Raises DeclarationError with all that is wrong, never with a value."""
    try:
        data = path.read_bytes()
        if len(data) > _MOST_BYTES:
            raise DeclarationError([f"{path}: {len(data)} bytes are too many (at most {_MOST_BYTES})"])
        document = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise DeclarationError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise DeclarationError([f"{path}: not UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError([f"{path}: not TOML: {error}"]) from None
    problems: list[str] = [
        f"{path}: unknown table [{name}]; known are marks, users, everybody"
        for name in document.keys() - {"marks", "users", "everybody"}
    ]
    marks = _texts(document.get("marks", {}), "[marks]", problems)
    problems += [f"{path}: [marks] {name}: not a mark like [cookie:0123456789ab]" for name in marks
                 if not MARK.fullmatch(name)]  # fmt: skip
    users = document.get("users", {})
    people = []
    if not isinstance(users, dict):
        problems.append(f"{path}: users must be tables [users.LABEL]")
    else:
        people = [_person(label, said, problems) for label, said in users.items()]
    everybody = _by_side(document.get("everybody", {}), "[everybody]", problems)
    if problems:
        raise DeclarationError([each if each.startswith(str(path)) else f"{path}: {each}" for each in problems])
    return Credentials(marks=marks, people=tuple(people), everybody=everybody)


def _person(label: str, said: object, problems: list[str]) -> Person:
    where = f"[users.{label}]"
    if not isinstance(said, dict):
        problems.append(f"{where} must be a table")
        said = {}
    marks = said.get("marks", [])
    if not isinstance(marks, list) or not marks or not all(isinstance(m, str) and MARK.fullmatch(m) for m in marks):
        problems.append(f"{where} needs marks, a list of marks like [cookie:0123456789ab]")
        marks = []
    headers = {name: value for name, value in said.items() if name != "marks"}
    return Person(label=label, marks=frozenset(marks), headers=_by_side(headers, where, problems))


def _by_side(said: object, where: str, problems: list[str]) -> dict[Side, dict[str, str]]:
    found: dict[Side, dict[str, str]] = {side: {} for side in Side}
    if not isinstance(said, dict):
        problems.append(f"{where} must be a table")
        return found
    for key, values in said.items():
        if key not in _SIDES:
            problems.append(f'{where}: unknown key "{key}"; known are {", ".join(_SIDES)}')
            continue
        for name, value in _texts(values, f"{where} {key}", problems).items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isascii() or not value.isprintable():
                problems.append(f'{where} {key}: "{name}" is no header, or its value has characters that none has')
            for side in _SIDES[key]:
                found[side][name] = value
    return found


def _texts(said: Any, where: str, problems: list[str]) -> dict[str, str]:
    if not isinstance(said, dict):
        problems.append(f"{where} must be a table")
        return {}
    wrong = [name for name, value in said.items() if not isinstance(value, str)]
    problems += [f"{where} {name} must be a text" for name in wrong]
    return {name: value for name, value in said.items() if isinstance(value, str)}
