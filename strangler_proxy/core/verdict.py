"""Verdicts: what the evidence of one stratum says, and what is missing before it says more.

A stratum is mismatched from its first confirmed difference. It is matched only when the upper bound of its mismatch
rate, valid at every look (see `interval`), is under the limit, on enough pairs over enough time; else inconclusive.
Many strata are judged at once: each verdict of its own is wrong with probability `alpha` at most, not all together.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from strangler_proxy.core.interval import Interval, interval, near, pairs_needed

INCONCLUSIVE_SHARE: Final = 0.1


class Verdict(enum.Enum):
    """What the evidence of a stratum says."""

    MATCHED = "matched"
    MISMATCHED = "mismatched"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a route asks of its evidence. `limit` is the highest mismatch rate that is accepted, 0.001 is 0.1 %."""

    limit: float = 0.001
    alpha: float = 0.05
    min_pairs: int = 200
    min_seconds: float = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What evidence was gathered with: the code versions of both sides and the digest of the rules."""

    control_version: str = ""
    candidate_version: str = ""
    rules: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The counts of one stratum on one basis.

    `mismatched` pairs have a difference that nothing covers; `confirmed` of them had it again when both were asked once
    more. `failed` counts pairs that prove nothing. `seconds` from the first pair to the last.
    """

    matched: int = 0
    mismatched: int = 0
    ignored: int = 0
    confirmed: int = 0
    failed: int = 0
    seconds: float = 0.0
    basis: Basis = field(default_factory=Basis)

    @property
    def compared(self) -> int:
        """Pairs that say something."""
        return self.matched + self.mismatched + self.ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reasons. `rate` is the interval of the mismatch rate; `missing` are sentences.

    `more_pairs` and `more_seconds` say what would make it matched if all goes well, 0 where nothing is missing and
    None where more of the same does not help.
    """

    verdict: Verdict
    rate: Interval
    missing: tuple[str, ...] = ()
    more_pairs: int | None = 0
    more_seconds: float | None = 0.0
    stale: tuple[str, ...] = ()


def judge(evidence: Evidence, *, now: Basis, demands: Demands | None = None) -> Judgement:
    """Judge a stratum. Stale evidence is inconclusive, whatever it said: it was about something else.

    >>> judge(Evidence(matched=9_000, seconds=7_200), now=Basis()).verdict
    <Verdict.MATCHED: 'matched'>
    >>> judge(Evidence(matched=1_000, seconds=7_200), now=Basis()).missing
    ('about 3809 more pairs without a mismatch',)
    """
    wanted = demands or Demands()
    rate = interval(evidence.mismatched, evidence.compared, alpha=wanted.alpha, mixture=near(wanted.limit))
    stale = stale_because(evidence.basis, now)
    if stale:
        return _inconclusive(rate, missing=stale, more=_needed(Evidence(), wanted), stale=stale)
    if evidence.confirmed:
        return Judgement(verdict=Verdict.MISMATCHED, rate=rate, more_pairs=None, more_seconds=None)
    pairs, seconds = more = _needed(evidence, wanted)
    missing = _sentences(evidence, pairs, seconds)
    if evidence.compared and evidence.failed > INCONCLUSIVE_SHARE * (evidence.compared + evidence.failed):
        missing = (*missing, f"{evidence.failed} pairs prove nothing: see why they are inconclusive")
    if missing:
        return _inconclusive(rate, missing=missing, more=more)
    return Judgement(verdict=Verdict.MATCHED, rate=rate)


def stale_because(basis: Basis, now: Basis) -> tuple[str, ...]:
    """Why evidence is stale: which code, or the rules, changed since. Empty if it is fresh."""
    changes = (
        ("the control's code", basis.control_version, now.control_version),
        ("the candidate's code", basis.candidate_version, now.candidate_version),
        ("the rules", basis.rules, now.rules),
    )
    return tuple(f"{what} changed since: gather evidence anew" for what, was, is_now in changes if was != is_now)


def overall(judgements: Iterable[Judgement], *, lacking: int = 0) -> Verdict:
    """The verdict of a route or flag: mismatched if one stratum is, matched only if all are and none is lacking."""
    verdicts = {each.verdict for each in judgements}
    if Verdict.MISMATCHED in verdicts:
        return Verdict.MISMATCHED
    return Verdict.MATCHED if verdicts == {Verdict.MATCHED} and lacking == 0 else Verdict.INCONCLUSIVE


def _needed(evidence: Evidence, demands: Demands) -> tuple[int, float]:
    enough = pairs_needed(demands.limit, mismatched=evidence.mismatched, alpha=demands.alpha)
    pairs = max(0, max(enough, demands.min_pairs) - evidence.compared)
    return pairs, max(0.0, demands.min_seconds - evidence.seconds)


def _sentences(evidence: Evidence, pairs: int, seconds: float) -> tuple[str, ...]:
    said = []
    if pairs:
        unconfirmed = " (mismatches so far are not confirmed)" if evidence.mismatched else ""
        said.append(f"about {pairs} more pairs without a mismatch{unconfirmed}")
    if seconds:
        said.append(f"about {math.ceil(seconds / 360) / 10:g} more hours")
    return tuple(said)


def _inconclusive(
    rate: Interval, *, missing: tuple[str, ...], more: tuple[int, float], stale: tuple[str, ...] = ()
) -> Judgement:
    return Judgement(
        verdict=Verdict.INCONCLUSIVE, rate=rate, missing=missing, more_pairs=more[0], more_seconds=more[1], stale=stale
    )
