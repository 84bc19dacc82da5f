"""An alarm: a comparison that takes too long is broken off, so that one pair cannot hold up the others."""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_S: Final = 0.25
"""How often the alarm looks at the clock: setting a timer for each call would cost more than many a comparison."""


class OutOfTime(Exception):
    """It took longer than it may."""


class Limited:
    """Runs one call at a time, for `seconds` of wall-clock (and a quarter more) at most.

    Of the main thread; it takes SIGALRM for itself. A single long step in C (a regular expression, a large JSON text)
    is broken off only after it: bounds of size keep those short.
    """

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = float("inf")
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)

    def __call__(self, call: Callable[[], T]) -> T:
        """The call's result. Raises OutOfTime, or what the call raises."""
        self._until = monotonic() + self._seconds
        try:
            return call()
        finally:
            self._until = float("inf")

    def _ring(self, _: int, frame: FrameType | None) -> None:
        if monotonic() > self._until:
            raise OutOfTime


def unlimited(call: Callable[[], T]) -> T:
    """Runs a call for as long as it takes."""
    return call()
