"""Rate limits by targeting key: a token bucket for each, in bounded memory (GCRA: one float a key)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

KEYS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`per_s` requests a second on average, `burst` at once. Each proxy process counts for itself."""

    per_s: float
    burst: int


class RateLimit:
    """The buckets of one route. Past `KEYS_KEPT` the one that was asked for least lately is forgotten.

    >>> limit = RateLimit(Rate(per_s=1, burst=2))
    >>> [limit.take("ada", now=0.0) for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    __slots__ = ("_full_at", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float) -> float:
        """Take a token: 0, or the seconds until there is one (nothing is taken then)."""
        rate = self.rate
        each_s = 1.0 / rate.per_s
        full_at = self._full_at.pop(key, now)
        taken = max(full_at, now) + each_s
        wait_s = taken - now - each_s * rate.burst
        if wait_s > 1e-9:
            self._full_at[key] = full_at
            return wait_s
        if len(self._full_at) >= KEYS_KEPT:
            self._full_at.popitem(last=False)
        self._full_at[key] = taken
        return 0.0
