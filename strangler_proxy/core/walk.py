"""The walk over two JSON values.

It is bounded in depth, in nodes and in the differences that it keeps; what it leaves out is counted as a cut, and then
the absence of a difference proves nothing. Arrays are paired by position unless a rule says otherwise; where only the
order differs, one difference of kind `order` stands for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Protocol

from strangler_proxy.core.difference import ABSENT, NUMBERS, Found, Kind, Limits, below, same, type_name

MAP_KEYS: Final = 64
"""An object with more keys than this is a map: its keys are data, and are folded."""

NOTE_NODES: Final = 10
"""What a difference costs, in nodes."""

_CONTAINERS: Final = frozenset({dict, list})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayOrder:
    """How items of an array are paired: in any order, or by a field that identifies them."""

    by: str = ""


class Judge(Protocol):
    """What rules say while two values are walked."""

    def array(self, path: str) -> ArrayOrder | None:
        """How to pair the items of the array at this path; None: by position."""

    def skips(self, path: str) -> bool:
        """Is everything at and below this path ignored?"""

    def plain(self) -> bool:
        """Is what is equal left to us, because no rule skips a path or says how to pair items?"""

    def covers(self, path: str, kind: Kind, control: object, candidate: object) -> str:
        """The rule that allows this difference, empty if none does."""


@dataclass(slots=True)
class Walk:
    """One walk over two JSON values (dict, list, str, int, Decimal, bool, None, Constant, Repeated).

    The numbers 1.10 and 1.1 are equal, 1 and true are not, integers are exact whatever their size.
    """

    judge: Judge
    limits: Limits
    found: Found = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.found = Found(self.limits.differences)
        self.left = self.limits.nodes

    def pair(self, path: str, at: str, a: object, b: object, depth: int = 0) -> None:
        """Compare two values at a path."""
        if type(a) is dict and type(b) is dict:
            if not self._equal(a, b, depth):
                self._objects(path, at, a, b, depth)
        elif type(a) is list and type(b) is list:
            if not self._equal(a, b, depth):
                self._arrays(path, at, a, b, depth)
        elif not same(a, b):
            self.note(path, at, Kind.VALUE if type_name(a) == type_name(b) else Kind.TYPE, a, b)

    def note(self, path: str, at: str, kind: Kind, a: object, b: object) -> None:
        """Add a difference, with the rule that covers it."""
        self.left -= NOTE_NODES
        self.found.note(path, at or path, kind, a, b, self.judge.covers(path, kind, a, b))

    def spend(self, nodes: int, depth: int) -> bool:
        """Take nodes from the budget; False, and counted, where depth or budget end here."""
        if depth > self.limits.depth:
            self.found.cut("depth")
            return False
        self.left -= nodes
        if self.left < 0:
            self.found.cut("size")
            return False
        return True

    def _equal(self, a: object, b: object, depth: int) -> bool:
        """Are two values equal? Found without paths; takes from the budget, and is False where that ends."""
        try:
            if a != b or depth > self.limits.depth:  # quick, and never wrong about values that it calls unequal
                return False
        except RecursionError:
            return False
        return self._same_types(a, b, depth)

    def _same_types(self, a: object, b: object, depth: int) -> bool:
        """Are two values that are equal to Python equal as JSON too? Level by level, so that C does the work."""
        ours: list[object]
        theirs: list[object]
        if isinstance(a, list) and isinstance(b, list):
            ours, theirs = a, b
        elif isinstance(a, dict) and isinstance(b, dict):
            ours, theirs = list(a.values()), list(map(b.__getitem__, a))
        else:
            return same(a, b)
        while ours:
            if depth > self.limits.depth or self.left <= 0:
                return False
            self.left -= len(ours)
            kinds = list(map(type, ours))
            if kinds != list(map(type, theirs)) and not all(map(_alike, ours, theirs)):
                return False
            if _CONTAINERS.isdisjoint(kinds):
                return True
            ours, theirs = _members(ours, theirs)
            depth += 1
        return True

    def _objects(self, path: str, at: str, a: dict[str, object], b: dict[str, object], depth: int) -> None:
        if not self.spend(len(a) + 1, depth):
            return
        folds = max(len(a), len(b)) > MAP_KEYS
        shared = 0
        for key, x in a.items():
            y = b.get(key, ABSENT)
            if y is not ABSENT:
                shared += 1
            if x is y:
                continue
            kind = type(x)
            if kind is type(y) and kind not in _CONTAINERS and x == y:
                continue
            under, place = below(path, at, key, folds)
            if y is ABSENT:
                self.note(under, place, Kind.MISSING, x, ABSENT)
            else:
                self.pair(under, place, x, y, depth + 1)
        if shared == len(b) or not self.spend(len(b), depth):
            return
        for key, y in b.items():
            if key not in a:
                self.note(*below(path, at, key, folds), Kind.EXTRA, ABSENT, y)

    def _arrays(self, path: str, at: str, a: list[object], b: list[object], depth: int) -> None:
        if not self.spend(1, depth):
            return
        order = self.judge.array(path)
        if order is None and len(a) == len(b):
            self._even(path, at, a, b, depth)
        elif order is None:
            self._uneven(path, at, a, b, depth)
        elif order.by:
            self._keyed(path, at, a, b, order.by, depth)
        else:
            self.unordered(path, at, a, b, depth)

    def _even(self, path: str, at: str, a: list[object], b: list[object], depth: int) -> None:
        unlike = self._unlike(a, b, depth)
        outer, self.found = self.found, Found(self.limits.differences)
        self._items(path, at, unlike, depth)
        inner, self.found = self.found, outer
        if len(unlike) > 1 and inner.counts and self._permuted(path, unlike, depth):
            self.note(path or "[]", at, Kind.ORDER, a, b)
            self.found.take_cuts(inner)
        else:
            self.found.take(inner)

    def _unlike(self, a: list[object], b: list[object], depth: int) -> list[tuple[int, object, object]]:
        places = range(len(a))
        try:
            unequal = [(index, x, y) for index, x, y in zip(places, a, b, strict=True) if x != y]
            if len(unequal) < len(a):
                pairs = [(x, y) for x, y in zip(a, b, strict=True) if x == y]
                if self._same_types([x for x, _ in pairs], [y for _, y in pairs], depth + 1):
                    return unequal
        except RecursionError:
            return list(zip(places, a, b, strict=True))
        return [(index, x, y) for index, x, y in zip(places, a, b, strict=True) if not self._equal(x, y, depth + 1)]

    def _items(self, path: str, at: str, pairs: Iterable[tuple[int, object, object]], depth: int) -> None:
        item = path + "[]"
        for index, x, y in pairs:
            if self.left <= 0:
                self.found.cut("size")
                return
            self.pair(item, f"{at}[{index}]", x, y, depth + 1)

    def _by_position(self, path: str, at: str, a: list[object], b: list[object], depth: int, first: int = 0) -> None:
        pairs = zip(a, b, strict=False)
        self._items(path, at, ((index, x, y) for index, (x, y) in enumerate(pairs, first)), depth)

    def _uneven(self, path: str, at: str, a: list[object], b: list[object], depth: int) -> None:
        self.note(path or "[]", at, Kind.LENGTH, len(a), len(b))
        if not self.spend(min(len(a), len(b)), depth):
            return
        item, short = path + "[]", min(len(a), len(b))
        head = 0
        while head < short and self.form(item, a[head], depth) == self.form(item, b[head], depth):
            head += 1
        tail = 0
        while tail < short - head and self.form(item, a[-1 - tail], depth) == self.form(item, b[-1 - tail], depth):
            tail += 1
        self._by_position(path, at, a[head : len(a) - tail], b[head : len(b) - tail], depth, head)

    def unordered(self, path: str, at: str, a: list[object], b: list[object], depth: int = 0) -> None:
        """Compare two arrays whose items come in any order; what only one side has is paired as it comes."""
        item = path + "[]"
        if len(a) != len(b):
            self.note(path or "[]", at, Kind.LENGTH, len(a), len(b))
        forms = [self.form(item, x, depth) for x in a], [self.form(item, y, depth) for y in b]
        if self.left <= 0:
            return
        only_a, only_b = (Counter(forms[0]) - Counter(forms[1])), (Counter(forms[1]) - Counter(forms[0]))
        self._by_position(path, at, _rest(a, forms[0], only_a), _rest(b, forms[1], only_b), depth)

    def _keyed(self, path: str, at: str, a: list[object], b: list[object], by: str, depth: int) -> None:
        if not self.spend(len(a) + len(b), depth):
            return
        item = path + "[]"
        left, right = self._index(item, a, by, depth), self._index(item, b, by, depth)
        for key, (index, x) in left.items():
            if key in right:
                self.pair(item, f"{at}[{index}]", x, right[key][1], depth + 1)
            else:
                self.note(item, f"{at}[{index}]", Kind.MISSING, x, ABSENT)
        for key, (index, y) in right.items():
            if key not in left:
                self.note(item, f"{at}[{index}]", Kind.EXTRA, ABSENT, y)

    def _index(self, item: str, values: list[object], by: str, depth: int) -> dict[object, tuple[int, object]]:
        seen: Counter[object] = Counter()
        found: dict[object, tuple[int, object]] = {}
        for index, value in enumerate(values):
            key = self.form(item, value.get(by, ABSENT) if isinstance(value, dict) else value, depth)
            seen[key] += 1
            found[key, seen[key]] = (index, value)
        return found

    def _permuted(self, path: str, unlike: list[tuple[int, object, object]], depth: int) -> bool:
        if self.left <= 0 or not self.spend(2 * len(unlike), depth):
            return False
        first = unlike[0][1]
        if self.judge.plain() and not any(self._equal(first, y, depth + 1) for _, _, y in unlike):
            return False
        item = path + "[]"
        forms = Counter(self.form(item, x, depth) for _, x, _ in unlike)
        return forms == Counter(self.form(item, y, depth) for _, _, y in unlike) and self.left > 0

    def form(self, path: str, value: object, depth: int) -> object:
        """A hashable form that is equal for equal values, without what rules ignore. Takes from the budget."""
        if type(value) not in _CONTAINERS:
            return (type(value) if type(value) not in NUMBERS else int, value)
        if not self.spend(len(value) + 1, depth):  # type: ignore[arg-type]
            return object()
        if isinstance(value, list):
            item = path + "[]"
            forms = [self.form(item, each, depth + 1) for each in value]
            order = self.judge.array(path)
            return ("[]", tuple(forms) if order is None else frozenset(Counter(forms).items()))
        assert isinstance(value, dict)
        folds = len(value) > MAP_KEYS
        members = ((key, below(path, "", key, folds)[0], each) for key, each in value.items())
        return ("{}", frozenset((k, self.form(p, v, depth + 1)) for k, p, v in members if not self.judge.skips(p)))


def _rest(values: list[object], forms: list[object], only: Counter[object]) -> list[object]:
    rest = []
    for value, form in zip(values, forms, strict=True):
        if only[form] > 0:
            only[form] -= 1
            rest.append(value)
    return rest


def _alike(a: object, b: object) -> bool:
    return type(a) is type(b) or (type(a) in NUMBERS and type(b) in NUMBERS)


def _members(ours: list[object], theirs: list[object]) -> tuple[list[object], list[object]]:
    """The members of all containers of one level, in pairs."""
    lists = [[x for x in side if type(x) is list] for side in (ours, theirs)]
    dicts = [[x for x in side if type(x) is dict] for side in (ours, theirs)]
    values: list[object] = list(chain.from_iterable(map(dict.values, dicts[0])))
    if list(map(list, dicts[0])) == list(map(list, dicts[1])):
        others: list[object] = list(chain.from_iterable(map(dict.values, dicts[1])))
    else:
        others = [y[key] for x, y in zip(*dicts, strict=True) for key in x]
    return [*chain.from_iterable(lists[0]), *values], [*chain.from_iterable(lists[1]), *others]
