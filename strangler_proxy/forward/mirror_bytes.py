"""Bodies in parts, as they were read: put together only where somebody wants to see them.

The first part may have something else before the body: `skip` bytes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SMALL: Final = 4_096
"""Up to here copying is cheaper than a view."""


def whole(parts: Sequence[bytes], skip: int = 0) -> bytes:
    """The body in one piece.

    >>> whole([b"head:ab", b"c"], 5)
    b'abc'
    """
    if not parts:
        return b""
    first = parts[0][skip:] if skip else parts[0]
    return first if len(parts) == 1 else b"".join([first, *parts[1:]])


def are_same(ours: Sequence[bytes], our_skip: int, theirs: Sequence[bytes], their_skip: int) -> bool:
    """Are two bodies of the same length the same? Nothing large is copied.

    >>> are_same([b"head:ab", b"c"], 5, [b"abc"], 0)
    True
    """
    if len(ours) == 1 == len(theirs):
        first, second = ours[0], theirs[0]
        if len(first) <= _SMALL:
            return first[our_skip:] == second[their_skip:]
        return first.startswith(memoryview(second)[their_skip:], our_skip)
    i = j = 0
    at, other = our_skip, their_skip
    while i < len(ours) and j < len(theirs):
        a, b = ours[i], theirs[j]
        size = min(len(a) - at, len(b) - other)
        # `startswith` compares any buffer at the speed of memcmp; memoryviews compare themselves byte by byte.
        if not a.startswith(memoryview(b)[other : other + size], at):
            return False
        at += size
        other += size
        if at == len(a):
            i, at = i + 1, 0
        if other == len(b):
            j, other = j + 1, 0
    return True
