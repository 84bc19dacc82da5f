"""Which candidates have proved that they capture effects: only there may a write be mirrored.

By flag and endpoint. A valid proof in the answer to a mirrored *safe* request holds for a minute, each further one
prolongs it. The answer to a mirrored write that lacks it, or has a forged one, withdraws the capability at once: what
it did, nobody can say. Then a proof counts again only after a pause, twice as long each time, so that a candidate that
captures on some paths and not on others is not asked to write again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import structlog

from strangler_proxy.core.route import Endpoint
from strangler_proxy.forward.mirror_options import NO_PROOF, NOT_DECLARED_SAFE

log = structlog.get_logger("strangler_proxy.forward")

HOLDS_S: Final = 60.0
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3_600.0
_KEPT: Final = 4_096


class _Known:
    __slots__ = ("pause_s", "paused_until", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.paused_until = 0.0
        self.pause_s = 0.0


class Proofs:
    """What candidates proved. `now` are monotonic seconds, given by the caller.

    >>> proofs, endpoint = Proofs(), Endpoint(host="new", port=80)
    >>> proofs.why_not("f", (endpoint,), 0.0)
    'not_declared_safe'
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, Endpoint], _Known] = {}

    def holds(self, flag: str, endpoint: Endpoint, now: float) -> bool:
        """May a write of this flag be mirrored there?"""
        known = self._known.get((flag, endpoint))
        return known is not None and now < known.until

    def why_not(self, flag: str, endpoints: tuple[Endpoint, ...], now: float) -> str:
        """Empty where some endpoint has proved it, else the reason of a drop."""
        reason = NOT_DECLARED_SAFE
        for endpoint in endpoints:
            known = self._known.get((flag, endpoint))
            if known is not None:
                if now < known.until:
                    return ""
                reason = NO_PROOF
        return reason

    def proved(self, flag: str, endpoint: Endpoint, now: float) -> None:
        """A safe request's answer had a valid proof."""
        known = self._known.get((flag, endpoint))
        if known is None:
            if len(self._known) >= _KEPT:
                return
            known = self._known[flag, endpoint] = _Known()
        if now >= known.paused_until:
            if now >= known.until:
                log.info("mirror.proved", flag=flag, endpoint=str(endpoint))
            known.until = now + HOLDS_S

    def kept(self, flag: str, endpoint: Endpoint, now: float) -> None:
        """A write's answer had a valid proof."""
        known = self._known.get((flag, endpoint))
        if known is not None and now < known.until:
            known.until = now + HOLDS_S

    def withdrawn(self, flag: str, endpoint: Endpoint, now: float) -> None:
        """A write's answer had none, or a forged one."""
        known = self._known.setdefault((flag, endpoint), _Known())
        known.pause_s = min(max(FIRST_PAUSE_S, 2 * known.pause_s), LONGEST_PAUSE_S)
        known.until, known.paused_until = 0.0, now + known.pause_s
        log.error("mirror.unproven", flag=flag, endpoint=str(endpoint), seconds=known.pause_s)

    def each(self, now: float) -> Iterator[tuple[str, Endpoint, bool]]:
        """Flag, endpoint, and whether writes are mirrored there now."""
        for (flag, endpoint), known in self._known.items():
            yield flag, endpoint, now < known.until

    def lost(self, now: float) -> list[str]:
        """`FLAG HOST:PORT`: withdrawn, and not proved again."""
        return sorted(
            f"{flag} {endpoint}"
            for (flag, endpoint), known in self._known.items()
            if known.pause_s and now >= known.until
        )
