"""Aliases: two names of the same thing, one on each side, one to one.

The control's 42 may be the candidate's `7f3a` only while every 42 is `7f3a` and every `7f3a` is 42: ignoring ids
instead would hide answers about somebody else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal

MAPPINGS_KEPT = 100_000


@dataclass(slots=True)
class AliasBook:
    """Mappings seen so far, by the alias's name; bounded, the longest unused are forgotten first (`forgotten` counts).

    The first pair seen is taken; a later one that contradicts it is a conflict. Not for use by two threads at once.
    """

    kept: int = MAPPINGS_KEPT
    forgotten: int = 0
    conflicts: dict[str, int] = field(default_factory=dict)
    _there: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict)
    _back: dict[tuple[str, str], str] = field(default_factory=dict)

    def agrees(self, alias: str, control: object, candidate: object) -> bool:
        """Note a pair; False where it contradicts an earlier one, or is no pair of names (text or whole numbers).

        >>> book = AliasBook()
        >>> book.agrees("user", 42, "7f3a"), book.agrees("user", 42, "7f3a"), book.agrees("user", 43, "7f3a")
        (True, True, False)
        """
        if self.kept < 1:
            return False
        a, b = _name(control), _name(candidate)
        if a is None or b is None:
            return False
        there, back = self._there.get((alias, a)), self._back.get((alias, b))
        if there is None and back is None:
            self._keep(alias, a, b)
            return True
        if there == b and back == a:
            self._there.move_to_end((alias, a))
            return True
        self.conflicts[alias] = self.conflicts.get(alias, 0) + 1
        return False

    def __len__(self) -> int:
        return len(self._there)

    def _keep(self, alias: str, a: str, b: str) -> None:
        if len(self._there) >= self.kept:
            (name, _), new = self._there.popitem(last=False)
            self._back.pop((name, new), None)
            self.forgotten += 1
        self._there[alias, a] = b
        self._back[alias, b] = a


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal) or value == "":
        return None
    words = f"{type(value).__name__}:{value}" if not isinstance(value, int) or abs(value) < 10**100 else None
    return words if words is not None and len(words) < 300 else None
