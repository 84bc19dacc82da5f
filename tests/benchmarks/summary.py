"""Of many figures one: medians over rounds, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks.measure import Figures


def median(figures: Sequence[Figures], name: str, case: str, field: str) -> float:
    """Over the rounds; not a number where there are none."""
    values = [float(getattr(f, field)) for f in figures if f.contestant == name and f.case == case]
    return statistics.median(values) if values else float("nan")


def ratio(figures: Sequence[Figures], name: str, to: str, case: str) -> float:
    """CPU per request as a ratio to another's, each round by itself; the median of the rounds."""
    cost = {(f.contestant, f.turn): f.cpu_us for f in figures if f.case == case}
    turns = [turn for one, turn in cost if one == name and cost.get((to, turn))]
    return statistics.median(cost[name, turn] / cost[to, turn] for turn in turns) if turns else float("nan")
