"""Noise: how the control differs from itself, by folded path and kind, and how much evidence that rests on.

The same request is asked of the control twice (A/A). A path whose *value* is noisy may still be mismatched in type or
length. Noise covers a difference of one comparison; over a stratum it explains only as many as it is itself frequent
(`explains`), so that a path that is now and then volatile does not hide a fault that always shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from strangler_proxy.core.difference import Difference, Kind
from strangler_proxy.core.interval import interval
from strangler_proxy.core.rules import seconds

FEWEST_DIFFERING: Final = 2
FEWEST_PAIRS: Final = 5
KEYS_KEPT: Final = 2_000
ALPHA: Final = 0.05

NOW_S: Final = 60.0
"""Two times this near each other may both mean now; time zones are apart by a quarter of an hour at least."""

Key = tuple[str, Kind]


def apart_s(found: Difference) -> float | None:
    """How far apart two texts are that both are times, in seconds; None where they are not.

    >>> apart_s(Difference(path="at", kind=Kind.VALUE, control="2026-05-01T10:00:00Z",
    ...                    candidate="2026-05-01T11:00:00Z"))
    3600.0
    """
    if found.kind is not Kind.VALUE or not isinstance(found.control, str) or not isinstance(found.candidate, str):
        return None
    a, b = seconds(found.control), seconds(found.candidate)
    return None if a is None or b is None else abs(a - b)


def is_now(found: Difference, at: float) -> bool:
    """Are both values texts that mean the time of the request, `at` in Unix seconds?

    This is for requests that cannot be asked twice, so that nothing else shows that a path is volatile.
    """
    if apart_s(found) is None:
        return False
    a, b = seconds(found.control), seconds(found.candidate)
    return a is not None and b is not None and abs(a - at) <= NOW_S and abs(b - at) <= NOW_S


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShare:
    """The evidence for one path and kind: in `differing` of `pairs` A/A pairs the control differed from itself."""

    differing: int
    pairs: int

    @property
    def share(self) -> float:
        """0.0 .. 1.0; 0.0 where there is no evidence."""
        return self.differing / self.pairs if self.pairs else 0.0

    @property
    def low(self) -> float:
        """The share is at least this, with 95 % confidence at every look."""
        return interval(self.differing, self.pairs, alpha=ALPHA).low

    @property
    def high(self) -> float:
        """The share is at most this, with 95 % confidence at every look."""
        return interval(self.differing, self.pairs, alpha=ALPHA).high


@dataclass(slots=True)
class Noise:
    """Noise of one stratum. `pairs` counts all A/A pairs, `sampled` those that were asked for at random.

    The others were asked for because of a mismatch; they are evidence of what is volatile, not of how often.
    """

    pairs: int = 0
    sampled: int = 0
    forgotten: int = 0
    differing: dict[Key, int] = field(default_factory=dict)
    differing_sampled: dict[Key, int] = field(default_factory=dict)

    def learn(self, differences: Iterable[Difference], *, at_random: bool = True) -> None:
        """Take in one A/A pair: the differences of the control's two answers, those that rules cover left out."""
        self.pairs += 1
        self.sampled += at_random
        for key in {each.key for each in differences if not each.covered_by.startswith("rule:")}:
            if key not in self.differing and len(self.differing) >= KEYS_KEPT:
                self.forgotten += 1
                continue
            self.differing[key] = self.differing.get(key, 0) + 1
            if at_random:
                self.differing_sampled[key] = self.differing_sampled.get(key, 0) + 1

    def share(self, path: str, kind: Kind) -> NoiseShare:
        """How often the control differs from itself there. Random pairs decide where there are enough of them."""
        key = (path, kind)
        if self.sampled >= FEWEST_PAIRS:
            return NoiseShare(differing=self.differing_sampled.get(key, 0), pairs=self.sampled)
        return NoiseShare(differing=self.differing.get(key, 0), pairs=self.pairs)

    def is_noise(self, path: str, kind: Kind) -> bool:
        """Has the control differed from itself there often enough to say so (twice, among five pairs or more)?"""
        return self.pairs >= FEWEST_PAIRS and self.differing.get((path, kind), 0) >= FEWEST_DIFFERING

    def explains(self, path: str, kind: Kind, *, differing: int, pairs: int) -> bool:
        """Are `differing` of `pairs` comparisons no more than this noise makes likely?

        False only where the interval of the mismatches lies wholly above the interval of the noise, so that little
        evidence on either side never turns noise into a fault.

        >>> noise = Noise(pairs=200, sampled=200, differing={("a", Kind.VALUE): 4},
        ...               differing_sampled={("a", Kind.VALUE): 4})
        >>> noise.explains("a", Kind.VALUE, differing=6, pairs=200)
        True
        >>> noise.explains("a", Kind.VALUE, differing=200, pairs=200)
        False
        """
        if not self.is_noise(path, kind):
            return False
        return interval(differing, pairs, alpha=ALPHA).low <= self.share(path, kind).high

    def cover(self, differences: Iterable[Difference], *, volatile: frozenset[Key] = frozenset()) -> list[Difference]:
        """The differences, those that are noise covered by `noise`.

        `volatile` are paths and kinds in which the control differed from itself for this very request.
        """
        return [
            replace(each, covered_by="noise")
            if not each.covered_by and (each.key in volatile or self.is_noise(each.path, each.kind))
            else each
            for each in differences
        ]

    def paths(self) -> list[tuple[str, Kind, NoiseShare]]:
        """What is noise, the most frequent first."""
        found = [(path, kind, self.share(path, kind)) for path, kind in self.differing if self.is_noise(path, kind)]
        return sorted(found, key=lambda each: (-each[2].share, each[0], each[1].value))
