"""What a process has counted since its last report: bounded, and cheap to add to."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

MAX_PLACES = 500
"""Places between two reports; what is more is counted as one place of its kind."""

_MAX_KNOWN = 5_000


class Seen(NamedTuple):
    """One place with one table."""

    flag: str
    table: str
    access: str
    kind: str
    name: str
    place: str


class _Count:
    __slots__ = ("count", "first", "last", "refused")

    def __init__(self, now: float) -> None:
        self.count, self.refused, self.first, self.last = 0, 0, now, now

    def add(self, count: int, refused: int, first: float, last: float) -> None:
        self.count += count
        self.refused += refused
        self.first, self.last = min(self.first, first), max(self.last, last)


class Tally:
    """Counts by place. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Seen, _Count] = {}
        self._known: set[Seen] = set()

    def __repr__(self) -> str:
        return f"<Tally of {len(self._counts)} places>"

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, seen: Seen) -> bool:
        """Count one statement; is this a place that the process has never reported?"""
        with self._lock:
            self._add(seen, 1, 0, time.monotonic())
            if seen in self._known:
                return False
            if len(self._known) < _MAX_KNOWN:
                self._known.add(seen)
            return True

    def refused(self, seen: Seen) -> None:
        """The statement that was noted last at this place was refused."""
        with self._lock:
            self._add(seen, 0, 1, time.monotonic())

    def take(self) -> dict[Seen, _Count]:
        """All counts; none are left."""
        with self._lock:
            taken, self._counts = self._counts, {}
            return taken

    def put_back(self, taken: dict[Seen, _Count]) -> None:
        """A report did not arrive: its counts are added to those of the next."""
        with self._lock:
            for seen, count in taken.items():
                kept = self._of(seen, count.first)
                kept.add(count.count, count.refused, count.first, count.last)

    def _add(self, seen: Seen, count: int, refused: int, now: float) -> None:
        self._of(seen, now).add(count, refused, now, now)

    def _of(self, seen: Seen, now: float) -> _Count:
        if seen not in self._counts and len(self._counts) >= MAX_PLACES:
            seen = seen._replace(name="(more than are counted)", place="")
        found = self._counts.get(seen)
        if found is None:
            found = self._counts[seen] = _Count(now)
        return found


def as_json(taken: dict[Seen, _Count]) -> list[dict[str, Any]]:
    """Counts as `strangler.census_note` takes them: times as ages in seconds."""
    now = time.monotonic()
    return [
        {
            "flag": seen.flag,
            "tbl": seen.table,
            "access": seen.access,
            "kind": seen.kind,
            "name": seen.name,
            "place": seen.place,
            "count": count.count,
            "refused": count.refused,
            "first_s": round(now - count.first, 3),
            "last_s": round(now - count.last, 3),
        }
        for seen, count in taken.items()
    ]
