"""Noise of headers and cookies over all strata, for requests that are never asked twice.

A trace id that each answer to a GET has anew is no fault in the answer to a POST either. Only what differs in at least
half of the A/A pairs whose control has the field at all counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from strangler_proxy.core.difference import Difference, step
from strangler_proxy.core.noise import FEWEST_DIFFERING, KEYS_KEPT, Key
from strangler_proxy.core.observation import Observation

SHARE: Final = 0.5


class FieldNoise:
    """What the control's own answers say of its fields. Bounded; further names are not learned."""

    __slots__ = ("_differing", "_present")

    def __init__(self) -> None:
        self._present: Counter[str] = Counter()
        self._differing: Counter[Key] = Counter()

    def learn(self, control: Observation, differences: Iterable[Difference]) -> None:
        """Take in one A/A pair."""
        names = {f"header.{step(name)}" for name, _ in control.fields if name != "set-cookie"}
        names |= {f"cookie.{step(line.partition('=')[0].strip())}" for line in control.values("set-cookie")}
        for name in names:
            if name in self._present or len(self._present) < KEYS_KEPT:
                self._present[name] += 1
        for key in {each.key for each in differences if not each.covered_by and _name(each.path) in self._present}:
            self._differing[key] += 1

    def is_noise(self, key: Key) -> bool:
        """Is this path volatile wherever it is?"""
        differing = self._differing.get(key, 0)
        return differing >= FEWEST_DIFFERING and differing >= SHARE * self._present[_name(key[0])]


def _name(path: str) -> str:
    """`header.NAME` or `cookie.NAME` of a path, empty for another."""
    kind, _, rest = path.partition(".")
    if kind == "header":
        return path
    return f"cookie.{rest.rpartition('.')[0] or rest}" if kind == "cookie" else ""
