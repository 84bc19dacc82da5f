"""May a request that extracted failed be served by the monolith instead?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import SAFE_METHODS, Route
from strangler_proxy.core.stage import Origin, Stage

FAILED_STATUSES: Final = frozenset({500, 502, 503, 504})
"""Answers that count as a failure of the upstream, for its breaker and its endpoint."""

UNAVAILABLE_STATUSES: Final = frozenset({502, 503, 504})
"""Answers that say that nothing was done: a safe request may be served elsewhere. A 500 is the service's own word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A request that its upstream did not serve. `answered`: a byte of the answer went to the client."""

    method: str
    origin: Origin
    replayable: bool = True
    answered: bool = False
    fallen_back: bool = False


def may_fall_back(flag: Flag, route: Route, unserved: Unserved) -> bool:
    """Safe requests only, from extracted to the monolith, once, and only while the monolith's copy is alive.

    Unsafe ones go to the owner and nowhere else: what nobody has received yet is the retry's to send again.
    """
    return (
        unserved.method in SAFE_METHODS
        and unserved.origin is Origin.EXTRACTED
        and flag.fallback_safe
        and route.fallback
        and flag.stage is not Stage.RETIRED
        and unserved.replayable
        and not unserved.answered
        and not unserved.fallen_back
    )


def may_be_stale(flag: Flag) -> bool:
    """Is the monolith's answer one from a copy? After a cutover its rows follow those of extracted."""
    return flag.owns_data and flag.owner is Origin.EXTRACTED
