"""Tallies: what comparing has counted so far. They add up, over processes and over time; nothing in them is secret.

A writer (one comparing process) keeps one cumulative tally per flag and basis and publishes its strata again and again;
readers merge the tallies of all writers. So publishing twice counts once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.noise import Key, Noise
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.verdict import Basis

_PER_DOUBLING: Final = 8
DIFFERENCES_KEPT: Final = 500
_COUNTS: Final = ("requests", "matched", "mismatched", "ignored", "inconclusive", "confirmed", "more_differences")


@dataclass(slots=True)
class Spread:
    """A histogram of positive numbers in steps of an eighth of a doubling (error of a quantile below 4.5 %)."""

    steps: dict[int, int] = field(default_factory=dict)

    def add(self, value: float, count: int = 1) -> None:
        """Count a value; zero and less are left out."""
        if value > 0:
            step = math.floor(math.log2(value) * _PER_DOUBLING)
            self.steps[step] = self.steps.get(step, 0) + count

    def merge(self, other: Spread) -> None:
        """Add what another has counted."""
        for step, count in other.steps.items():
            self.steps[step] = self.steps.get(step, 0) + count

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.steps.values())

    def quantile(self, share: float) -> float:
        """The value below which this share lies (the middle of its step); 0.0 where nothing was counted.

        >>> spread = Spread()
        >>> for ms in (10.0, 10.0, 100.0): spread.add(ms)
        >>> 9.5 < spread.quantile(0.5) < 10.5
        True
        """
        wanted, seen = share * self.total, 0
        for step, count in sorted(self.steps.items()):
            seen += count
            if seen >= wanted:
                return float(2 ** ((step + 0.5) / _PER_DOUBLING))
        return 0.0


@dataclass(slots=True)
class PathTally:
    """One path and kind of a stratum: in `count` comparisons, of which rules, noise or races cover `covered`.

    `control` and `candidate` are values of one of them, redacted; `sample` the id of a kept one.
    """

    count: int = 0
    covered: int = 0
    confirmed: int = 0
    control: str = ""
    candidate: str = ""
    sample: str = ""

    def merge(self, other: PathTally) -> None:
        """Add another's counts; its values are taken where there are none."""
        self.count += other.count
        self.covered += other.covered
        self.confirmed += other.confirmed
        if not self.sample:
            self.control, self.candidate, self.sample = other.control, other.candidate, other.sample


@dataclass(slots=True)
class StratumTally:
    """One stratum. `requests` were eligible, mirrored or not; `confirmed` of the mismatched were so when asked again.

    `first_at` and `last_at` are Unix seconds of the first and the last comparison.
    """

    route: str = ""
    requests: int = 0
    matched: int = 0
    mismatched: int = 0
    ignored: int = 0
    inconclusive: int = 0
    confirmed: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    noise: Noise = field(default_factory=Noise)
    differences: dict[Key, PathTally] = field(default_factory=dict)
    more_differences: int = 0
    control_ms: Spread = field(default_factory=Spread)
    candidate_ms: Spread = field(default_factory=Spread)
    ratio: Spread = field(default_factory=Spread)

    @property
    def compared(self) -> int:
        """matched + mismatched + ignored."""
        return self.matched + self.mismatched + self.ignored

    def path(self, key: Key) -> PathTally | None:
        """The tally of a path and kind; None where there are too many, which is counted."""
        found = self.differences.get(key)
        if found is None:
            if len(self.differences) >= DIFFERENCES_KEPT:
                self.more_differences += 1
                return None
            found = self.differences[key] = PathTally()
        return found

    def merge(self, other: StratumTally) -> None:
        """Add what another writer has counted."""
        self.route = self.route or other.route
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        starts = [at for at in (self.first_at, other.first_at) if at]
        self.first_at, self.last_at = min(starts, default=0.0), max(self.last_at, other.last_at)
        _merge_noise(self.noise, other.noise)
        for key, theirs in other.differences.items():
            ours = self.path(key)
            if ours is not None:
                ours.merge(theirs)
        self.control_ms.merge(other.control_ms)
        self.candidate_ms.merge(other.candidate_ms)
        self.ratio.merge(other.ratio)

    def document(self) -> dict[str, Any]:
        """As JSON; `read_stratum` reads it."""
        return {
            "route": self.route,
            "requests": self.requests,
            "matched": self.matched,
            "mismatched": self.mismatched,
            "ignored": self.ignored,
            "inconclusive": self.inconclusive,
            "confirmed": self.confirmed,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "more_differences": self.more_differences,
            "noise": {
                "pairs": self.noise.pairs,
                "sampled": self.noise.sampled,
                "forgotten": self.noise.forgotten,
                "differing": _by_key(self.noise.differing),
                "differing_sampled": _by_key(self.noise.differing_sampled),
            },
            "differences": [
                [path, kind.value, one.count, one.covered, one.confirmed, one.control, one.candidate, one.sample]
                for (path, kind), one in self.differences.items()
            ],
            "control_ms": _steps(self.control_ms),
            "candidate_ms": _steps(self.candidate_ms),
            "ratio": _steps(self.ratio),
        }


def read_stratum(document: Mapping[str, Any]) -> StratumTally:
    """A stratum's tally from its JSON. Raises KeyError, TypeError or ValueError for another form.

    >>> tally = StratumTally(matched=3, first_at=1.5, last_at=2.5)
    >>> tally.control_ms.add(7.0)
    >>> read_stratum(tally.document()) == tally
    True
    """
    noise = document["noise"]
    return StratumTally(
        route=str(document["route"]),
        **{name: int(document[name]) for name in _COUNTS},
        first_at=float(document["first_at"]),
        last_at=float(document["last_at"]),
        noise=Noise(
            pairs=int(noise["pairs"]),
            sampled=int(noise["sampled"]),
            forgotten=int(noise["forgotten"]),
            differing=_keys(noise["differing"]),
            differing_sampled=_keys(noise["differing_sampled"]),
        ),
        differences={
            (str(path), Kind(kind)): PathTally(count, covered, confirmed, str(control), str(candidate), str(sample))
            for path, kind, count, covered, confirmed, control, candidate, sample in document["differences"]
        },
        control_ms=_spread(document["control_ms"]),
        candidate_ms=_spread(document["candidate_ms"]),
        ratio=_spread(document["ratio"]),
    )


@dataclass(slots=True)
class Tally:
    """Everything counted for one flag under one basis (code versions and rules). `drops` by reason.

    `eligible` could have been mirrored by stage and route, `mirrored` were sent to the candidate.
    """

    flag: str
    basis: Basis
    strata: dict[StratumKey, StratumTally] = field(default_factory=dict)
    eligible: int = 0
    mirrored: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    rule_uses: dict[str, int] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """All comparisons that said something."""
        return sum(one.compared for one in self.strata.values())

    def stratum(self, key: StratumKey) -> StratumTally:
        """The tally of a stratum, made where there is none."""
        found = self.strata.get(key)
        if found is None:
            found = self.strata[key] = StratumTally()
        return found

    def merge(self, other: Tally) -> None:
        """Add what another writer has counted for the same flag and basis."""
        self.eligible += other.eligible
        self.mirrored += other.mirrored
        _add(self.drops, other.drops)
        _add(self.rule_uses, other.rule_uses)
        for key, theirs in other.strata.items():
            self.stratum(key).merge(theirs)


def _add(ours: dict[Any, int], theirs: Mapping[Any, int]) -> None:
    for key, count in theirs.items():
        ours[key] = ours.get(key, 0) + count


def _merge_noise(ours: Noise, theirs: Noise) -> None:
    ours.pairs += theirs.pairs
    ours.sampled += theirs.sampled
    ours.forgotten += theirs.forgotten
    _add(ours.differing, theirs.differing)
    _add(ours.differing_sampled, theirs.differing_sampled)


def _by_key(counts: Mapping[Key, int]) -> list[list[Any]]:
    return [[path, kind.value, count] for (path, kind), count in counts.items()]


def _keys(rows: list[list[Any]]) -> dict[Key, int]:
    return {(str(path), Kind(kind)): int(count) for path, kind, count in rows}


def _steps(spread: Spread) -> list[list[int]]:
    return [[step, count] for step, count in sorted(spread.steps.items())]


def _spread(rows: list[list[int]]) -> Spread:
    return Spread(steps={int(step): int(count) for step, count in rows})
