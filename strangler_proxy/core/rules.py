"""Rules of comparing: what may differ on a route, who says so, why, and until when.

A rule covers differences at the paths that its pattern names: `order.items[].price` that path and everything below it,
`*` any part of one step, `**` any steps. An expired rule covers nothing any more.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from strangler_proxy.core.alias import AliasBook
from strangler_proxy.core.difference import Constant, Kind
from strangler_proxy.core.walk import ArrayOrder

_SIZES: Final = frozenset({Kind.MISSING, Kind.EXTRA, Kind.ERROR, Kind.LENGTH, Kind.ORDER})


class RuleKind(enum.Enum):
    """What a rule allows."""

    IGNORE = "ignore"  # any difference there, or only those of `kinds`
    TOLERANCE = "tolerance"  # numbers and times that are near each other
    UNORDERED = "unordered"  # items of the array in any order
    KEYED = "keyed"  # items of the array are paired by the field `key`
    ALIAS = "alias"  # values that name the same thing, one to one across all samples
    COMPARE = "compare"  # a header that is not compared by default


_SHAPING: Final = frozenset({RuleKind.IGNORE, RuleKind.UNORDERED, RuleKind.KEYED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reviewed rule. `route` is a route's name, a path template, or empty for every route of the flag.

    `absolute` and `relative` (0.01 is 1 %) bound numbers, `scale` rounds both to that many decimal places first,
    `skew_s` bounds times (RFC 3339 or HTTP dates, or Unix seconds where the path is a number). `alias` names the
    mapping, which several rules may share. `expires_on` is the first day on which it covers nothing.
    """

    id: str
    kind: RuleKind
    path: str
    owner: str
    reason: str
    expires_on: dt.date
    route: str = ""
    kinds: frozenset[Kind] = field(default_factory=frozenset)
    absolute: Decimal | None = None
    relative: Decimal | None = None
    scale: int | None = None
    skew_s: float | None = None
    key: str = ""
    alias: str = ""

    def matches(self, path: str) -> bool:
        """Does the pattern name this path, or one above it?"""
        return _pattern(self.path, self.kind in (RuleKind.IGNORE, RuleKind.TOLERANCE)).match(path) is not None


@dataclass(slots=True)
class RuleSet:
    """The rules of one route on one day, as a Judge for a walk. `uses` counts what each covered, by rule id.

    `aliases` lives as long as the evidence; one rule set is used by one comparison at a time.
    """

    rules: tuple[Rule, ...] = ()
    aliases: AliasBook = field(default_factory=AliasBook)
    uses: dict[str, int] = field(default_factory=dict)
    _arrays: dict[str, ArrayOrder | None] = field(default_factory=dict)
    _skips: dict[str, bool] = field(default_factory=dict)

    def array(self, path: str) -> ArrayOrder | None:
        """How to pair the items of the array at this path."""
        if not self.rules:
            return None
        if path not in self._arrays:
            if len(self._arrays) > 10_000:
                self._arrays.clear()
            self._arrays[path] = self._array(path)
        return self._arrays[path]

    def _array(self, path: str) -> ArrayOrder | None:
        for rule in self.rules:
            if rule.kind in (RuleKind.UNORDERED, RuleKind.KEYED) and rule.matches(path):
                self._used(rule)
                return ArrayOrder(by=rule.key if rule.kind is RuleKind.KEYED else "")
        return None

    def skips(self, path: str) -> bool:
        """Is everything at and below this path ignored, whatever its kind?"""
        if not self.rules:
            return False
        if path not in self._skips:
            if len(self._skips) > 10_000:
                self._skips.clear()
            self._skips[path] = any(
                rule.kind is RuleKind.IGNORE and not rule.kinds and rule.matches(path) for rule in self.rules
            )
        return self._skips[path]

    def plain(self) -> bool:
        """Does no rule skip a path or say how to pair items?"""
        return not any(rule.kind in _SHAPING for rule in self.rules)

    def covers(self, path: str, kind: Kind, control: object, candidate: object) -> str:
        """`rule:ID` of the first rule that allows this difference, else empty."""
        for rule in self.rules:
            if rule.matches(path) and self._allows(rule, kind, control, candidate):
                self._used(rule)
                return f"rule:{rule.id}"
        return ""

    def compares_field(self, name: str) -> bool:
        """Does a rule ask for a header that is not compared by default?"""
        return any(rule.kind is RuleKind.COMPARE and rule.matches(f"header.{name}") for rule in self.rules)

    @property
    def digest(self) -> str:
        """Changes when the rules do; a verdict goes stale with it."""
        return digest(self.rules)

    def _allows(self, rule: Rule, kind: Kind, control: object, candidate: object) -> bool:
        if rule.kind is RuleKind.IGNORE:
            return not rule.kinds or kind in rule.kinds
        if kind in _SIZES:
            return False
        if rule.kind is RuleKind.TOLERANCE:
            return _near(rule, control, candidate)
        return rule.kind is RuleKind.ALIAS and self.aliases.agrees(rule.alias or rule.id, control, candidate)

    def _used(self, rule: Rule) -> None:
        self.uses[rule.id] = self.uses.get(rule.id, 0) + 1


def rules_for(rules: Iterable[Rule], names: Iterable[str], today: dt.date) -> tuple[Rule, ...]:
    """The rules that count for a route (by its name or path template) on a day."""
    wanted = {"", *names}
    return tuple(rule for rule in rules if rule.route in wanted and today < rule.expires_on)


def digest(rules: Iterable[Rule]) -> str:
    """A short digest of what rules allow; owner and reason do not change it."""
    said = sorted(
        repr([(each.name, _plain(getattr(rule, each.name))) for each in fields(Rule) if each.name not in _WORDS])
        for rule in rules
    )
    return hashlib.sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:16]


_WORDS: Final = frozenset({"id", "owner", "reason", "expires_on"})


def _plain(value: object) -> object:
    return sorted(kind.value for kind in value) if isinstance(value, frozenset) else value


@lru_cache(maxsize=4_096)
def _pattern(path: str, below: bool) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", path)
    said = "".join({"**": ".*", "*": r"[^.\[\]]*"}.get(part, re.escape(part)) for part in parts)
    return re.compile(said + (r"(?:[.\[ ].*)?\Z" if below else r"\Z"), re.S)


def _near(rule: Rule, control: object, candidate: object) -> bool:
    if rule.skew_s is not None:
        a, b = seconds(control), seconds(candidate)
        return a is not None and b is not None and abs(a - b) <= rule.skew_s
    x, y = _decimal(control), _decimal(candidate)
    if x is None or y is None or (isinstance(control, str) != isinstance(candidate, str)):
        return False
    try:
        if rule.scale is not None:
            unit = Decimal(1).scaleb(-rule.scale)
            x, y = x.quantize(unit), y.quantize(unit)
        apart = abs(x - y)
        if apart == 0:
            return rule.scale is not None or rule.absolute is not None or rule.relative is not None
        if rule.absolute is not None and apart <= rule.absolute:
            return True
        return rule.relative is not None and apart <= rule.relative * abs(x)
    except ArithmeticError:
        return False


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool | Constant) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        found = Decimal(value) if not isinstance(value, str) else Decimal(value[:64].strip())
    except (InvalidOperation, ValueError):
        return None
    return found if found.is_finite() and abs(found.adjusted()) < 1_000 else None


def seconds(value: object) -> float | None:
    """A time as Unix seconds: RFC 3339 text (without an offset taken as UTC), an HTTP date, or a number.

    >>> seconds("1970-01-01T00:01:00Z"), seconds("Thu, 01 Jan 1970 00:00:10 GMT")
    (60.0, 10.0)
    """
    if isinstance(value, bool | Constant):
        return None
    if isinstance(value, int | float | Decimal):
        number = _decimal(value)
        return float(number) if number is not None and abs(number) < 10**15 else None
    if not isinstance(value, str) or len(value) > 40:
        return None
    for read in (dt.datetime.fromisoformat, _http_date):
        try:
            found = read(value.strip())
        except ValueError:
            continue
        return (found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)).timestamp()
    return None


def _http_date(value: str) -> dt.datetime:
    return dt.datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT")
