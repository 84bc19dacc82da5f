"""Passive outlier ejection: endpoints of one cluster that fail several times in a row are left out for a while.

Nobody asks them: what requests met decides. At most a share of the cluster is out at once, so a cluster that is sick
as a whole keeps its endpoints (that is the breaker's to judge), and each further ejection lasts twice as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierPolicy:
    """After `failures` in a row (0: never), or one refused connection, an endpoint is out for a while.

    For `eject_s`, then twice that, `longest_s` at most. No more than `share` percent of a cluster's endpoints are out
    at once, rounded down.
    """

    failures: int = 5
    eject_s: float = 5.0
    longest_s: float = 300.0
    share: int = 50


class Outlier:
    """What was seen of one endpoint. The data plane sets `failures` to 0 itself when an answer was well."""

    __slots__ = ("ejected_until", "failures", "times")

    def __init__(self) -> None:
        self.failures = 0
        self.times = 0
        self.ejected_until = 0.0

    def __repr__(self) -> str:
        return f"<Outlier failures={self.failures} times={self.times} until={self.ejected_until:g}>"

    def is_out(self, now: float) -> bool:
        """Is it ejected?"""
        return now < self.ejected_until


def note_failure(
    one: Outlier, all_of_them: Iterable[Outlier], policy: OutlierPolicy, now: float, *, unreachable: bool = False
) -> bool:
    """Count a failure of one endpoint; True where it is ejected with it.

    One that is `unreachable` (no connection was to be had) counts for all that are needed: an endpoint that refuses is
    never busy, so that the fewest pending requests would make it everybody's first choice.
    Failures of requests that were under way when it was ejected are not counted. An endpoint that stayed well for
    `longest_s` after it came back begins with the shortest ejection again.
    """
    if one.is_out(now):
        return False
    one.failures += max(1, policy.failures) if unreachable else 1
    if not 0 < policy.failures <= one.failures:
        return False
    known = list(all_of_them)
    out = sum(each.is_out(now) for each in known)
    if (out + 1) * 100 > policy.share * len(known):
        return False
    if one.times and now - one.ejected_until >= policy.longest_s:
        one.times = 0
    one.ejected_until = now + ejection_s(policy, one.times)
    one.times += 1
    one.failures = 0
    return True


def ejection_s(policy: OutlierPolicy, times: int) -> float:
    """How long an ejection lasts after so many before it.

    >>> [ejection_s(OutlierPolicy(), times) for times in (0, 1, 2, 9)]
    [5.0, 10.0, 20.0, 300.0]
    """
    return min(policy.longest_s, policy.eject_s * float(2 ** min(times, 32)))
