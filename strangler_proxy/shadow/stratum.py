"""A stratum under judgement: its tally, and what one judge knows beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from strangler_proxy.core.difference import Difference
from strangler_proxy.core.noise import KEYS_KEPT, NOW_S, Key, apart_s
from strangler_proxy.core.tally import StratumTally
from strangler_proxy.shadow.field_noise import FieldNoise

MISMATCHES: Final = 1_000
"""Kinds of mismatch that can be taken back when they turn out to be noise; more are not."""

Mismatch = tuple[frozenset[Key], frozenset[Key]]
"""What nothing covered in a pair, and which of it persisted."""


@dataclass(slots=True)
class Stratum:
    """A stratum's tally, and what is known beside it.

    `differing` counts comparisons with a difference that no rule covers, `repeated` those that could not be asked again
    and had one that nothing covers, `waiting` those that wait to be asked again, by what differs. `apart` is how far
    the control's times were from its own, in seconds, `far` where a time was off by much more. `fields` is noise of
    headers and cookies in all strata, for requests of which none is asked twice.
    """

    tally: StratumTally = field(default_factory=StratumTally)
    differing: dict[Key, int] = field(default_factory=dict)
    repeated: dict[Key, int] = field(default_factory=dict)
    waiting: dict[frozenset[Key], int] = field(default_factory=dict)
    apart: dict[Key, float] = field(default_factory=dict)
    far: set[Key] = field(default_factory=set)
    fields: FieldNoise | None = None
    mismatches: dict[Mismatch, int] = field(default_factory=dict)
    _explained: dict[Key, tuple[bool, int, int]] = field(default_factory=dict)

    def is_noise(self, key: Key) -> bool:
        """Does noise cover one more comparison with this difference?

        It does where the control differs from itself there, as long as that explains how often the sides differ: so a
        path that is now and then volatile does not hide a fault that always shows. Looked at anew when one in twenty
        comparisons was added.
        """
        noise = self.tally.noise
        if not noise.is_noise(*key):
            return self.fields is not None and self.fields.is_noise(key)
        count = self.differing.get(key, 0) + 1
        said, pairs, until = self._explained.get(key, (False, -1, 0))
        if pairs != noise.pairs or count >= until:
            said = noise.explains(*key, differing=count, pairs=max(self.tally.compared + 1, count))
            self._explained[key] = said, noise.pairs, count + 1 + count // 20
        return said

    def cover(self, differences: Iterable[Difference], volatile: frozenset[Key] = frozenset()) -> list[Difference]:
        """The differences, those that are noise covered by it; `volatile`: so for this very request."""
        return [
            replace(each, covered_by="noise")
            if not each.covered_by and (each.key in volatile or self.is_noise(each.key)) and not self._is_far(each)
            else each
            for each in differences
        ]

    def note_apart(self, differences: Iterable[Difference]) -> None:
        """Learn from the control's two answers how far apart its own times are."""
        for each in differences:
            seconds = apart_s(each)
            if seconds is not None and seconds > self.apart.get(each.key, 0.0) and len(self.apart) < KEYS_KEPT:
                self.apart[each.key] = seconds

    def _is_far(self, found: Difference) -> bool:
        """Is a time off by much more than the control's is off from itself? A wrong time zone is no noise."""
        seconds = apart_s(found)
        if seconds is None or seconds <= max(NOW_S, 2 * self.apart.get(found.key, 0.0)):
            return False
        self.far.add(found.key)
        return True

    def note_mismatch(self, uncovered: Iterable[Key], persisting: Iterable[Key]) -> None:
        """Remember what a mismatch rests on."""
        what = frozenset(uncovered), frozenset(persisting)
        if what in self.mismatches or len(self.mismatches) < MISMATCHES:
            self.mismatches[what] = self.mismatches.get(what, 0) + 1

    def take_back(self) -> None:
        """Count mismatches as ignored that rest on nothing but what is known as noise by now.

        The first answers of a path that the control chooses at random may agree with each other by chance.
        """
        noise = {key for open_keys, _ in self.mismatches for key in open_keys - self.far if self.is_noise(key)}
        if not noise:
            return
        before, self.mismatches = self.mismatches, {}
        for (open_keys, persisting), count in before.items():
            left = open_keys - noise, persisting - noise
            if left[0]:
                self.mismatches[left] = self.mismatches.get(left, 0) + count
            else:
                self.tally.mismatched -= count
                self.tally.ignored += count
            if persisting and not left[1]:
                self.tally.confirmed -= count
        for key in noise:
            path = self.tally.differences.get(key)
            if path is not None:
                path.covered, path.confirmed = path.count, 0

    def absorb(self, other: Stratum) -> None:
        """Take in a stratum whose paths turned out to be of the same template."""
        self.tally.merge(other.tally)
        for ours, theirs in ((self.differing, other.differing), (self.repeated, other.repeated)):
            for key, count in theirs.items():
                ours[key] = ours.get(key, 0) + count
        for what, count in other.waiting.items():
            self.waiting[what] = self.waiting.get(what, 0) + count
        for mismatch, count in other.mismatches.items():
            self.mismatches[mismatch] = self.mismatches.get(mismatch, 0) + count
        self.far |= other.far
        for key, seconds in other.apart.items():
            self.apart[key] = max(self.apart.get(key, 0.0), seconds)
        self._explained.clear()
