"""An interval for a rate that stays valid however often one looks: the beta-binomial mixture confidence sequence.

For s mismatches in n independent pairs of rate p, the mixture likelihood ratio

    M(p) = integral of t^s (1-t)^(n-s) dBeta(a, b)(t)  /  (p^s (1-p)^(n-s))
         = B(a + s, b + n - s) / B(a, b)  /  (p^s (1-p)^(n-s))

is a non-negative martingale of mean 1, so by Ville's inequality it ever reaches 1/alpha with probability at most alpha.
{p : M(p) < 1/alpha} therefore holds the true rate at all n at once with probability 1 - alpha, and stopping when one
likes what one sees does no harm.

Sources: H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 41 (1970);
S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Ann. Statist. 49 (2021), section 3 and its beta-binomial boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a rate, 0.0 .. 1.0."""

    low: float
    high: float


@lru_cache(maxsize=8_192)
def interval(mismatched: int, compared: int, *, alpha: float = 0.05, a: float = 1.0, b: float = 1.0) -> Interval:
    """The interval after `mismatched` of `compared` pairs.

    `a` and `b` shape the mixture and must be chosen before looking: mass where the rate is expected makes it narrow
    there, and any choice is valid.

    >>> interval(0, 0)
    Interval(low=0.0, high=1.0)
    >>> round(interval(0, 4_800, a=1.0, b=1_000.0).high, 5)
    0.00099
    """
    if not 0 <= mismatched <= compared:
        raise ValueError(f"{mismatched} mismatched of {compared} compared")
    if compared == 0:
        return Interval(0.0, 1.0)
    matched = compared - mismatched
    peak = mismatched / compared
    bound = _log_beta(a + mismatched, b + matched) - _log_beta(a, b) + math.log(alpha)

    def outside(rate: float) -> bool:
        return _log_likelihood(rate, mismatched, matched) <= bound

    low = 0.0 if mismatched == 0 else _edge(outside, 0.0, peak)
    high = 1.0 if matched == 0 else _edge(outside, 1.0, peak)
    return Interval(low, high)


def pairs_needed(limit: float, *, mismatched: int = 0, alpha: float = 0.05, a: float = 1.0, b: float = 1.0) -> int:
    """The fewest compared pairs with which the upper bound comes under `limit`, if no more than `mismatched` are.

    >>> 4_700 < pairs_needed(0.001, a=1.0, b=1_000.0) < 4_800
    True
    """
    if not 0.0 < limit < 1.0:
        raise ValueError(f"limit {limit} is outside 0..1")
    enough = max(1, mismatched)
    while not _under(limit, mismatched, enough, alpha, a, b):
        enough *= 2
    least = enough // 2
    while enough - least > 1:
        middle = (least + enough) // 2
        if middle >= mismatched and _under(limit, mismatched, middle, alpha, a, b):
            enough = middle
        else:
            least = middle
    return enough


def _under(limit: float, mismatched: int, compared: int, alpha: float, a: float, b: float) -> bool:
    if mismatched / compared >= limit:
        return False
    matched = compared - mismatched
    bound = _log_beta(a + mismatched, b + matched) - _log_beta(a, b) + math.log(alpha)
    return _log_likelihood(limit, mismatched, matched) <= bound


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
