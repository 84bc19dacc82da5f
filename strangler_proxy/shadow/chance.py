"""The A/A sample: which pairs are compared whole, and have their control asked once more, by chance and within a rate.

The chance is a share of all pairs; where that would be more than the rate, it is what the rate leaves to so many as
the last turn saw. It never looks at a pair, so that the sample is one of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_NEVER: Final = 1 << 60


class Chance:
    """`until` counts down to the next one: take 1 for each pair, and at 0 ask `strike`. `draw` gives 0 <= x < 1.

    `rate` is how many are chosen between two calls of `turn`, on average at most; twice that after a quiet turn.

    >>> chance = Chance(1.0, 2.0, lambda: 0.5)
    >>> [chance.strike() for _ in range(5)]
    [True, True, True, True, False]
    """

    __slots__ = ("_begun", "_chance", "_draw", "_left", "_rate", "_seen", "_share", "until")

    def __init__(self, share: float, rate: float, draw: Callable[[], float]) -> None:
        self._share = self._chance = share if rate > 0.0 else 0.0
        self._rate = rate
        self._draw = draw
        self._left = self._limit
        self._seen = 0
        self._wait()

    def __repr__(self) -> str:
        return f"<Chance {self._chance:.4f} until={self.until}>"

    def strike(self) -> bool:
        """The count is down: is this pair chosen? It is not where its turn has had enough."""
        self._seen += self._begun
        self._wait()
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def turn(self) -> None:
        """Some time has passed, always about the same."""
        seen = self._seen + self._begun - self.until
        self._chance = min(self._share, self._rate / seen) if seen else self._share
        self._left = min(self._limit, self._left + self._rate)
        self._seen = 0
        self._wait()

    @property
    def _limit(self) -> float:
        return max(1.0, 2.0 * self._rate)

    def _wait(self) -> None:
        """Draw how many pairs there are up to the next one, it included: what so many draws of one each would give."""
        chance = self._chance
        if chance >= 1.0:
            gap = 1
        elif chance <= 0.0:
            gap = _NEVER
        else:
            gap = 1 + min(_NEVER, int(math.log1p(-self._draw()) / math.log1p(-chance)))
        self._begun = self.until = gap
