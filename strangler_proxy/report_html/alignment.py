"""Two texts side by side: which lines belong together, and what differs within them. Bounded in time and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from strangler_proxy.report_html.element import Html, join, tag, text

LINES: Final = 400
"""Lines of a side that are shown."""
WIDTH: Final = 400
"""Characters of a line that are shown."""
_ALIGNED: Final = 40_000
_INDENT: Final = "  "
_CONTEXT: Final = 3

Pair = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Gap:
    """So many equal lines that are not shown."""

    lines: int


def lines_of(body: str) -> list[str]:
    """A body as lines: JSON laid out without touching what stands in it, tags on lines of their own, the rest as it is.

    >>> lines_of('{"a":[1.00,"x,y"]}')
    ['{', '  "a": [', '    1.00,', '    "x,y"', '  ]', '}']
    """
    plain = body.strip()
    if plain[:1] in ("{", "["):
        return list(_laid_out(plain))
    if plain[:1] == "<" and plain.count("\n") <= plain.count("><") // 2:
        plain = plain.replace("><", ">\n<")
    return plain.split("\n")


def aligned(control: Sequence[str], candidate: Sequence[str]) -> list[Pair]:
    """Lines that belong together: a longest common subsequence where that is quick, else by their places.

    >>> aligned(["a", "b"], ["a", "x", "b"])
    [('a', 'a'), (None, 'x'), ('b', 'b')]
    """
    start = 0
    while start < min(len(control), len(candidate)) and control[start] == candidate[start]:
        start += 1
    end = 0
    while end < min(len(control), len(candidate)) - start and control[-1 - end] == candidate[-1 - end]:
        end += 1
    a, b = control[start : len(control) - end], candidate[start : len(candidate) - end]
    middle = _by_content(a, b) if len(a) * len(b) <= _ALIGNED else _by_place(a, b)
    same = list(zip(control[:start], candidate[:start], strict=True))
    tail = list(zip(control[len(control) - end :], candidate[len(candidate) - end :], strict=True))
    return [*same, *middle, *tail]


def folded(pairs: Sequence[Pair]) -> Iterator[Pair | Gap]:
    """The pairs without equal lines that are far from any difference."""
    near: set[int] = set()
    for place, (a, b) in enumerate(pairs):
        if a != b:
            near.update(range(place - _CONTEXT, place + _CONTEXT + 1))
    skipped = 0
    for place, pair in enumerate(pairs):
        if place not in near:
            skipped += 1
            continue
        if skipped:
            yield Gap(skipped)
            skipped = 0
        yield pair
    if skipped:
        yield Gap(skipped)


def marked(control: str, candidate: str) -> tuple[Html, Html]:
    """Both texts with what differs between their common start and end marked.

    >>> marked("price 10.00", "price 10.01")
    ('price 10.0<mark>0</mark>', 'price 10.0<mark>1</mark>')
    """
    a, b = control[:WIDTH], candidate[:WIDTH]
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return _marked(control, start, end), _marked(candidate, start, end)


def _marked(whole: str, start: int, end: int) -> Html:
    shown = whole[:WIDTH]
    middle = shown[start : len(shown) - end]
    rest = text("...") if len(whole) > WIDTH else None
    return join(text(shown[:start]), tag("mark", middle) if middle else None, text(shown[len(shown) - end :]), rest)


def _by_place(a: Sequence[str], b: Sequence[str]) -> list[Pair]:
    longest = max(len(a), len(b))
    left: list[str | None] = [*a, *[None] * (longest - len(a))]
    right: list[str | None] = [*b, *[None] * (longest - len(b))]
    return list(zip(left, right, strict=True))


def _by_content(a: Sequence[str], b: Sequence[str]) -> list[Pair]:
    """Between lines that both have, what is left is paired by place."""
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        row, below = longest[i], longest[i + 1]
        for j in range(len(b) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if a[i] == b[j] else max(below[j], row[j + 1])
    pairs: list[Pair] = []
    i = j = from_i = from_j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            pairs += [*_by_place(a[from_i:i], b[from_j:j]), (a[i], b[j])]
            i, j = i + 1, j + 1
            from_i, from_j = i, j
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs + _by_place(a[from_i:], b[from_j:])


def _laid_out(body: str) -> Iterator[str]:
    """JSON text, indented; it is not parsed, so that numbers and what is cut off or broken stay as they came."""
    line, depth, quoted, escaped = "", 0, False, False
    for each in body:
        if quoted:
            line += each
            quoted = escaped or each != '"'
            escaped = each == "\\" and not escaped
        elif each in "{[":
            yield from _line(line + each, depth)
            line, depth = "", depth + 1
        elif each in "}]":
            yield from _line(line, depth)
            line, depth = each, max(0, depth - 1)
        elif each == ",":
            yield from _line(line + each, depth)
            line = ""
        elif each == ":":
            line += ": "
        elif not each.isspace():
            line += each
            quoted = each == '"'
    yield from _line(line, depth)


def _line(line: str, depth: int) -> Iterator[str]:
    if line:
        yield _INDENT * min(depth, 20) + line
