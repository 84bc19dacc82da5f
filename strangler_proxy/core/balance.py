"""Which endpoint of a cluster gets the next request."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

SLOWEST_START: Final = 0.1
"""The share of a full part that an endpoint gets in its first moment."""


class Balance(enum.Enum):
    """Fewest pending requests, or each in its turn."""

    LEAST_PENDING = "least-pending"
    ROUND_ROBIN = "round-robin"


def pick(rule: Balance, pending: Sequence[int], weights: Sequence[float], turn: int) -> int | None:
    """The place of the endpoint that gets the next request; None where every weight is 0.

    `pending` requests and `weights` (1 in full use, 0 out, between them slowly starting) by endpoint; `turn` counts
    upwards by one with every call and settles ties. One that starts slowly is considered in `weight` of the calls.

    >>> pick(Balance.LEAST_PENDING, [2, 1, 0], [1, 1, 0], turn=0)
    1
    >>> [pick(Balance.ROUND_ROBIN, [9, 0, 0], [1, 1, 0], turn) for turn in range(4)]
    [0, 1, 0, 0]
    """
    size = len(weights)
    in_turn = [(turn + step) % size for step in range(size)]
    usable = [place for place in in_turn if weights[place] > 0]
    if not usable:
        return None
    if rule is Balance.ROUND_ROBIN:
        return next((place for place in usable if _accepts(turn // size, weights[place])), usable[0])
    candidates = [place for place in usable if _accepts(turn, weights[place])]
    return min(candidates or usable, key=pending.__getitem__)


def start_weight(since_s: float, slow_start_s: float) -> float:
    """The weight of an endpoint that came (back) so long ago: it rises evenly to 1.

    >>> start_weight(0.0, 10.0), start_weight(5.0, 10.0), start_weight(11.0, 10.0), start_weight(0.0, 0.0)
    (0.1, 0.5, 1.0, 1.0)
    """
    if slow_start_s <= 0 or since_s >= slow_start_s:
        return 1.0
    return max(SLOWEST_START, since_s / slow_start_s)


def _accepts(visit: int, weight: float) -> bool:
    """Does an endpoint of this weight take its turn at this visit? Evenly spread, so that it takes `weight` of all."""
    return weight >= 1.0 or int((visit + 1) * weight) > int(visit * weight)
