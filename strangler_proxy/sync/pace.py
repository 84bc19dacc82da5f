"""Arithmetic of the applier: how large the next batch is, and which mode the stream is in."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SMALLEST_BATCH = 50
LARGEST_BATCH = 20_000
FIRST_CHUNK = 4_000
SMALLEST_CHUNK = 1_000
"""Below that the time of a chunk is not that of its rows: a slow machine must not be copied from row by row."""

LARGEST_RANGE = 100_000
"""Rows that are copied or compared at once: they go through in blocks, so memory does not bound them."""

LIVE_BACKLOG = 2_000
CATCH_UP_BACKLOG = 50_000


class Mode(enum.Enum):
    """What a stream is doing."""

    SNAPSHOT = "snapshot"  # tables are being copied for the first time
    CATCH_UP = "catch-up"  # bounded batches: not a consistent cut
    LIVE = "live"  # every batch takes all dirty keys that its snapshot sees
    PAUSED = "paused"  # changes are noted, nothing is carried over
    STOPPED = "stopped"


@dataclass(slots=True)
class Pace:
    """Adapts the number of keys in a batch, or of rows in a range, so that one takes about `target_s` seconds."""

    target_s: float
    keys: int = 500
    smallest: int = SMALLEST_BATCH
    largest: int = LARGEST_BATCH

    def note(self, seconds: float, keys: int) -> None:
        """Learn from a batch: at most twice or half as large next time; small batches teach nothing."""
        factor = self.target_s / max(seconds, 1e-4)
        if keys < self.keys // 2:
            return
        wanted = self.keys * min(2.0, max(0.5, factor))
        self.keys = int(min(self.largest, max(self.smallest, wanted)))


def next_mode(mode: Mode, *, snapshot_done: bool, backlog: int) -> Mode:
    """The mode of the next batch; `backlog` are dirty keys that wait.

    >>> next_mode(Mode.CATCH_UP, snapshot_done=True, backlog=10)
    <Mode.LIVE: 'live'>
    >>> next_mode(Mode.LIVE, snapshot_done=True, backlog=60_000)
    <Mode.CATCH_UP: 'catch-up'>
    """
    if not snapshot_done:
        return Mode.SNAPSHOT
    if mode is Mode.LIVE:
        return Mode.CATCH_UP if backlog > CATCH_UP_BACKLOG else Mode.LIVE
    return Mode.LIVE if backlog <= LIVE_BACKLOG else Mode.CATCH_UP
