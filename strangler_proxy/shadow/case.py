"""A case: one pair under judgement, until it is settled."""

from __future__ import annotations

from dataclasses import dataclass

from strangler_proxy.core.comparison import Comparison
from strangler_proxy.core.noise import Key
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.pair import Pair
from strangler_proxy.core.rules import RuleSet
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.shadow.ledger import Ledger

KEPT_BYTES = 256


@dataclass(slots=True)
class Case:
    """A pair with what was found so far.

    `chosen` at random for A/A; `asks` is True where both sides are asked again because of `what` differs.
    """

    pair: Pair
    ledger: Ledger
    stratum: StratumKey
    control: Observation
    candidate: Observation
    rules: RuleSet
    comparison: Comparison
    chosen: bool = False
    asks: bool = False
    what: frozenset[Key] = frozenset()

    @property
    def bytes(self) -> int:
        """What it holds in memory, roughly."""
        return KEPT_BYTES + len(self.pair.body) + len(self.control.body) + len(self.candidate.body)
