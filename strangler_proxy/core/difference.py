"""Differences: where and how two values differ. Paths are folded: indices as `[]`, changing map keys as `{}`.

*Missing* and *extra* are seen from the control. `walk.Walk` finds them in JSON, `markup` in HTML.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Final

_NAME = re.compile(r"[A-Za-z_$@][A-Za-z0-9_$@-]{0,63}\Z")
_DATA = re.compile(
    r"\d+\Z|[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z|(?=[^\d]*\d)[0-9a-fA-F]{12,}\Z|\d{4}-\d\d(?:-\d\d)?"
    r"|[^@\s]+@[^@\s]+\Z|[A-Za-z]{1,8}[_-]?\d{3,}\Z|(?=\D*\d)[A-Za-z0-9_-]{20,}\Z"
)
NUMBERS: Final = frozenset({int, float, Decimal})
"""JSON has one type of number."""


class Kind(enum.Enum):
    """How two values differ."""

    MISSING = "missing"  # the control has it, the candidate has not
    EXTRA = "extra"
    TYPE = "type"
    VALUE = "value"
    ORDER = "order"  # the same items in another order
    LENGTH = "length"
    ERROR = "error"  # the candidate gave nothing that could be compared


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""What stands for a value that is not there (null is a value)."""


class Constant(str):
    """NaN, Infinity and the like: written as a number, and not JSON."""

    __slots__ = ()


class Repeated(tuple[object, ...]):
    """All values of a key that stands more than once in one object."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One folded path and kind, how often, and the first two values found there (not redacted, not shortened).

    `at` is the first place unfolded (`items[3].price`). `covered_by` is empty, `rule:ID`, `noise` or `race`.
    """

    path: str
    kind: Kind
    control: object = ABSENT
    candidate: object = ABSENT
    at: str = ""
    count: int = 1
    covered_by: str = ""

    @property
    def key(self) -> tuple[str, Kind]:
        """What noise and reports count by."""
        return self.path, self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a comparison goes."""

    depth: int = 100
    nodes: int = 200_000
    differences: int = 200


class Found:
    """Differences by path, kind and cover; `more` counts those beyond the limit, `cuts` what was not walked."""

    __slots__ = ("counts", "cuts", "firsts", "limit", "more")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.firsts: dict[tuple[str, Kind, str], Difference] = {}
        self.counts: dict[tuple[str, Kind, str], int] = {}
        self.more = 0
        self.cuts: dict[str, int] = {}

    def note(self, path: str, at: str, kind: Kind, control: object, candidate: object, covered_by: str) -> None:
        """Add one, folded into what is there under the same path, kind and cover."""
        key = (path, kind, covered_by)
        if key in self.counts:
            self.counts[key] += 1
        elif len(self.counts) < self.limit:
            self.counts[key] = 1
            self.firsts[key] = Difference(
                path=path, kind=kind, control=control, candidate=candidate, at=at, covered_by=covered_by
            )
        else:
            self.more += 1

    def cut(self, what: str) -> None:
        """Count a place where the walk stopped."""
        self.cuts[what] = self.cuts.get(what, 0) + 1

    def take(self, other: Found) -> None:
        """Add all of another's."""
        for key, first in other.firsts.items():
            if key in self.counts:
                self.counts[key] += other.counts[key]
            elif len(self.counts) < self.limit:
                self.counts[key] = other.counts[key]
                self.firsts[key] = first
            else:
                self.more += other.counts[key]
        self.more += other.more
        self.take_cuts(other)

    def take_cuts(self, other: Found) -> None:
        """Add only where another's walk stopped."""
        for what, count in other.cuts.items():
            self.cuts[what] = self.cuts.get(what, 0) + count

    def all(self) -> tuple[Difference, ...]:
        """What was found, in the order of finding."""
        return tuple(
            first if (count := self.counts[key]) == first.count else replace(first, count=count)
            for key, first in self.firsts.items()
        )


def same(a: object, b: object) -> bool:
    """Are two scalars the same JSON value?

    >>> same(1, Decimal("1.0")), same(1, True), same(None, ABSENT)
    (True, False, False)
    """
    if type(a) is type(b) or (type(a) in NUMBERS and type(b) in NUMBERS):
        return a == b
    return False


def type_name(value: object) -> str:
    """The JSON name of a value's type."""
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return name
    return "absent" if value is ABSENT else type(value).__name__


_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),
    (int, "number"),
    (Decimal, "number"),
    (float, "number"),
    (Constant, "constant"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
    (Repeated, "repeated key"),
    (type(None), "null"),
)


@lru_cache(maxsize=8_192)
def step(key: str) -> str:
    """A key as part of a folded path.

    >>> step("price"), step("2026-01-02"), step("a.b")
    ('price', '{}', '"a.b"')
    """
    if len(key) > 128 or _DATA.match(key):
        return "{}"
    return key if _NAME.match(key) else json.dumps(key, ensure_ascii=False)


def below(path: str, at: str, key: str, folds: bool) -> tuple[str, str]:
    """The folded and the unfolded path of a member of an object."""
    part = "{}" if folds else step(key)
    plain = key if _NAME.match(key) else json.dumps(key[:128], ensure_ascii=False)
    return (f"{path}.{part}" if path else part), (f"{at}.{plain}" if at else plain)
