"""The notebook of a proxy process: requests that need no comparison, counted by what they have in common.

A window is what was noted between two ticks. What was sent and is not yet kept as evidence is remembered by window, so
that a judge that dies takes nothing with it unsaid: its windows are noted again, its pairs are counted as dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from strangler_proxy.core.pair import EQUAL, Seen
from strangler_proxy.shadow.frames import NoteKey, Row

JUDGE_DOWN: Final = "judge_down"
COMPARER_FULL: Final = "comparer_full"

ROW_WEIGHT: Final = 20
WEIGHT: Final = 400_000
"""Times that are remembered, a row as 20 of them; beyond, what has no row yet is counted by flag and fate alone."""
TIMES: Final = 128
"""Times of one row, two a request; at so many, those of each second request are let go."""

Count = tuple[tuple[str, str], int]
"""Flag and fate, and how many."""


class Line:
    """Requests of one window that have all in common: how many, and the times of each `every`th of them."""

    __slots__ = ("every", "requests", "times")

    def __init__(self) -> None:
        self.requests = 0
        self.every = 1
        self.times: list[float] = []

    def thin(self) -> None:
        """Let go of the times of each second request, now and from now on."""
        times = self.times
        kept = [0.0] * (len(times) // 4 * 2)
        kept[0::2], kept[1::2] = times[2::4], times[3::4]
        self.times = kept
        self.every *= 2

    def take(self, other: Line) -> None:
        """Add another's, which is thinned as much."""
        self.requests += other.requests
        while self.every < other.every:
            self.thin()
        while other.every < self.every:
            other.thin()
        self.times = self.times + other.times
        while len(self.times) >= TIMES:
            self.thin()


@dataclass(slots=True)
class Window:
    """What was noted between two ticks. `counts` by flag and fate; `pairs` that were sent, by flag."""

    number: int
    rows: dict[NoteKey, Line] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    weight: int = 0

    @property
    def is_empty(self) -> bool:
        """Was nothing noted, and nothing sent?"""
        return not (self.rows or self.counts or self.pairs)

    def take(self, other: Window, *, lost: bool) -> None:
        """Add another's; its pairs as dropped where it is `lost`."""
        for key, line in other.rows.items():
            into = self.line(key)
            if into is None:
                self.count(key[0], key[7], line.requests)
            else:
                into.take(line)
                self.weight += len(line.times)
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        for flag, count in other.pairs.items():
            if lost:
                self.counts[flag, JUDGE_DOWN] = self.counts.get((flag, JUDGE_DOWN), 0) + count
            else:
                self.pairs[flag] = self.pairs.get(flag, 0) + count

    def line(self, key: NoteKey) -> Line | None:
        """Where requests like this are counted; None where there is no room for another row."""
        found = self.rows.get(key)
        if found is None and self.weight <= WEIGHT:
            found = self.rows[key] = Line()
            self.weight += ROW_WEIGHT
        return found

    def count(self, flag: str, fate: str, requests: int) -> None:
        """Count requests without their stratum: an equal one is not compared then."""
        kind = flag, COMPARER_FULL if fate == EQUAL else fate
        self.counts[kind] = self.counts.get(kind, 0) + requests


class Notebook:
    """Counts `Seen` in the open window; remembers closed ones until they are kept."""

    __slots__ = ("_closed", "_remembered", "open")

    def __init__(self) -> None:
        self.open = Window(1)
        self._closed: deque[Window] = deque()
        self._remembered = 0

    def __repr__(self) -> str:
        return f"<Notebook window={self.open.number} rows={len(self.open.rows)} not_kept={len(self._closed)}>"

    def note(self, seen: Seen) -> None:
        """Count one request."""
        window = self.open
        key = seen[:8]
        line = window.rows.get(key) or window.line(key)
        if line is None:
            window.count(seen.flag, seen.fate, 1)
            return
        line.requests += 1
        if line.requests % line.every == 0 and window.weight <= WEIGHT:
            line.times += seen[8:]
            window.weight += 2
            if len(line.times) >= TIMES:
                line.thin()

    def sent(self, flag: str) -> None:
        """Count a pair that goes to the judge in this window."""
        pairs = self.open.pairs
        pairs[flag] = pairs.get(flag, 0) + 1

    def turn(self) -> tuple[int, list[Row], list[Count]]:
        """Close the window, and give its number, rows and counts to be sent."""
        window = self.open
        self._closed.append(window)
        self._remembered += window.weight
        self.open = Window(window.number + 1)
        while self._remembered > WEIGHT and len(self._closed) > 1:
            self._thin()
        rows = [(key, line.requests, line.every, line.times) for key, line in window.rows.items()]
        return window.number, rows, list(window.counts.items())

    def kept(self, number: int) -> None:
        """All windows up to this one are in the evidence."""
        while self._closed and self._closed[0].number <= number:
            self._remembered -= self._closed.popleft().weight

    def lost(self) -> int:
        """The judge is gone: note again what was not kept; pairs count as dropped. Returns how many pairs."""
        windows = [*self._closed, self.open]
        pairs = sum(sum(window.pairs.values()) for window in windows)
        self._closed.clear()
        self._remembered = 0
        self.open = Window(self.open.number)
        for window in windows:
            self.open.take(window, lost=True)
        return pairs

    def _thin(self) -> None:
        """Put the two oldest closed windows together, of the older one only how many."""
        oldest = self._closed.popleft()
        into = self._closed[0]
        self._remembered -= oldest.weight
        for key, line in oldest.rows.items():
            into.count(key[0], key[7], line.requests)
        oldest.rows = {}
        into.take(oldest, lost=False)
