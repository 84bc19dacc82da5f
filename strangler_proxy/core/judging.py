"""How the mirrored pairs of a flag are judged, as its capability file declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strangler_proxy.core.rules import Rule
from strangler_proxy.core.verdict import Demands

FRESH_S = 86_400.0
COVERAGE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Declared compare rules, and what the flag asks of its evidence.

    `required`: flips to `canary` and `extracted` need matched evidence that is younger than `fresh_s` seconds, with at
    least this `coverage` (0.0 .. 1.0). `routes` holds the demands of routes that have their own.
    """

    rules: tuple[Rule, ...] = ()
    required: bool = False
    fresh_s: float = FRESH_S
    coverage: float = COVERAGE
    demands: Demands = field(default_factory=Demands)
    routes: Mapping[str, Demands] = field(default_factory=dict)

    @property
    def by_route(self) -> dict[str, Demands]:
        """Demands by route; the empty name stands for every other route."""
        return {"": self.demands, **self.routes}
