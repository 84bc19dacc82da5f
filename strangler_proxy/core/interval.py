"""An interval for a rate that stays valid however often one looks: a confidence sequence from a mixture of betas.

For s mismatches in n independent pairs of rate p, the mixture likelihood ratio

    M(p) = sum over k of w_k integral of t^s (1-t)^(n-s) dBeta(a_k, b_k)(t)  /  (p^s (1-p)^(n-s))
         = sum over k of w_k B(a_k + s, b_k + n - s) / B(a_k, b_k)  /  (p^s (1-p)^(n-s))

with weights w_k that add up to 1 is a mean of non-negative martingales that begin at 1, and so is one itself. By
Ville's inequality it ever reaches 1/alpha with probability at most alpha. {p : M(p) < 1/alpha} therefore holds the true
rate at all n at once with probability 1 - alpha, and stopping when one likes what one sees does no harm. The likelihood
has one peak, so that the set is an interval whatever is mixed.

One beta that is sharp near 0 makes the interval narrow there and uselessly wide elsewhere (100 of 200: 3 to 97 %). A
second one that is flat mends that, and costs log(1/w) of evidence: see `near`.

Sources: J. Ville, "Etude critique de la notion de collectif" (1939), for the inequality; H. Robbins, "Statistical
methods related to the law of the iterated logarithm", Ann. Math. Statist. 41 (1970), for mixtures; S. Howard,
A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann. Statist. 49
(2021), section 3, for the beta-binomial boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_HALVINGS: Final = 60
_SHARP: Final = 0.75
"""The weight of the part that is sharp; the rest is flat. It loses 1.4 % of the pairs where nothing mismatches."""


@dataclass(frozen=True, slots=True)
class Part:
    """A beta distribution in a mixture, with its weight."""

    weight: float
    a: float
    b: float


Mixture = tuple[Part, ...]
"""Chosen before looking: mass where the rate is expected makes the interval narrow there, any choice is valid."""

FLAT: Final[Mixture] = (Part(1.0, 1.0, 1.0),)
"""No rate is expected more than another."""


def near(limit: float) -> Mixture:
    """For rates that are expected under a limit, and may turn out to be anything.

    >>> round(interval(100, 200, mixture=near(0.001)).low, 2), round(interval(100, 200, mixture=FLAT).low, 2)
    (0.37, 0.39)
    """
    return Part(_SHARP, 1.0, 1.0 / (_SHARP * limit)), Part(1.0 - _SHARP, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a rate, 0.0 .. 1.0."""

    low: float
    high: float


@lru_cache(maxsize=8_192)
def interval(mismatched: int, compared: int, *, alpha: float = 0.05, mixture: Mixture = FLAT) -> Interval:
    """The interval after `mismatched` of `compared` pairs.

    >>> interval(0, 0)
    Interval(low=0.0, high=1.0)
    >>> round(interval(0, 4_850, mixture=near(0.001)).high, 5)
    0.00099
    """
    if not 0 <= mismatched <= compared:
        raise ValueError(f"{mismatched} mismatched of {compared} compared")
    if compared == 0:
        return Interval(0.0, 1.0)
    matched = compared - mismatched
    peak = mismatched / compared
    bound = _log_mixed(mismatched, matched, mixture) + math.log(alpha)

    def outside(rate: float) -> bool:
        return _log_likelihood(rate, mismatched, matched) <= bound

    low = 0.0 if mismatched == 0 else _edge(outside, 0.0, peak)
    high = 1.0 if matched == 0 else _edge(outside, 1.0, peak)
    return Interval(low, high)


def pairs_needed(limit: float, *, mismatched: int = 0, alpha: float = 0.05) -> int:
    """The fewest compared pairs with which the upper bound comes under `limit`, if no more than `mismatched` are.

    The interval is that of the mixture `near` the limit.

    >>> pairs_needed(0.001)
    4809
    """
    if not 0.0 < limit < 1.0:
        raise ValueError(f"limit {limit} is outside 0..1")
    mixture, enough = near(limit), max(1, mismatched)
    while not _under(limit, mismatched, enough, alpha, mixture):
        enough *= 2
    least = enough // 2
    while enough - least > 1:
        middle = (least + enough) // 2
        if middle >= mismatched and _under(limit, mismatched, middle, alpha, mixture):
            enough = middle
        else:
            least = middle
    return enough


def _under(limit: float, mismatched: int, compared: int, alpha: float, mixture: Mixture) -> bool:
    if mismatched / compared >= limit:
        return False
    matched = compared - mismatched
    bound = _log_mixed(mismatched, matched, mixture) + math.log(alpha)
    return _log_likelihood(limit, mismatched, matched) <= bound


def _log_mixed(mismatched: int, matched: int, mixture: Mixture) -> float:
    """The logarithm of the mixed likelihood."""
    logs = [
        math.log(part.weight) + _log_beta(part.a + mismatched, part.b + matched) - _log_beta(part.a, part.b)
        for part in mixture
    ]
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs))


def _edge(outside: Callable[[float], bool], far: float, near: float) -> float:
    for _ in range(_HALVINGS):
        middle = (far + near) / 2
        if outside(middle):
            far = middle
        else:
            near = middle
    return far


def _log_likelihood(rate: float, mismatched: int, matched: int) -> float:
    if rate <= 0.0:
        return 0.0 if mismatched == 0 else -math.inf
    if rate >= 1.0:
        return 0.0 if matched == 0 else -math.inf
    return mismatched * math.log(rate) + matched * math.log1p(-rate)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
