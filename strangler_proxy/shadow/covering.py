"""Covering: what noise explains in a comparison, as it is known at this moment."""

from __future__ import annotations

from dataclasses import replace

from strangler_proxy.core.comparison import Comparison, Outcome
from strangler_proxy.core.noise import Key, is_now
from strangler_proxy.shadow.stratum import Stratum


def now_covered(comparison: Comparison, at: float) -> Comparison:
    """The comparison with times covered as noise that on both sides mean the time of the request."""
    return replace(
        comparison,
        differences=tuple(
            replace(each, covered_by="noise") if not each.covered_by and is_now(each, at) else each
            for each in comparison.differences
        ),
    )


def covered(comparison: Comparison, one: Stratum, volatile: frozenset[Key] = frozenset()) -> Comparison:
    """The comparison with noise covered as it is known now."""
    if not comparison.differences:
        return comparison
    differences = tuple(one.cover(comparison.differences, volatile))
    if any(not each.covered_by for each in differences):
        outcome = Outcome.MISMATCHED
    else:
        outcome = Outcome.INCONCLUSIVE if comparison.why else Outcome.IGNORED
    if outcome is comparison.outcome and differences == comparison.differences:
        return comparison
    return replace(comparison, differences=differences, outcome=outcome)
