"""A stream of rows that is paused: changes are noted on, and nothing is carried over."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Since when (the control database's clock, UTC), by whom and why.

    `drift`: a worker paused it itself, because the schema of a side does not fit any more; `reason` says where.
    """

    since: dt.datetime
    by: str
    reason: str
    drift: bool = False

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"paused since {self.since:%Y-%m-%d %H:%M:%S} UTC by {self.by or 'unknown'}{why}"


def replaces(known: Pause | None, *, drift: bool, reason: str) -> bool:
    """Is a pause that is asked for news? A person's word replaces a worker's, never the other way round."""
    if known is None:
        return True
    return known.drift and (not drift or known.reason != reason)
