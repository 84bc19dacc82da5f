"""What happens to a few requests in a cutover, made to happen to every write, so that its cost can be measured."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from strangler_proxy.core.decision import Decision, Reason
from strangler_proxy.core.stage import Origin
from strangler_proxy.forward.routing import Router

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange


class StaleRouter(Router):
    """Sends every write to the monolith first, as a proxy does that has not heard of the cutover."""

    def decide(self, exchange: Exchange) -> Decision:
        """The usual decision, but for the first attempt of a write."""
        if exchange.safe or exchange.replay is not None or exchange.runtime.compiled is None:
            return super().decide(exchange)
        return exchange.runtime.towards(Origin.MONOLITH, Reason.OWNER)


class HoldingRouter(Router):
    """Holds every write once, and has its gate opened as soon as the loop gets there."""

    def decide(self, exchange: Exchange) -> Decision:
        """The usual decision, held the first time."""
        usual = super().decide(exchange)
        flag = exchange.runtime.flag_runtime
        if exchange.safe or exchange.hold_until or flag is None:
            return usual
        if not len(flag.gate):
            asyncio.get_running_loop().call_soon(flag.gate.release)
        return dataclasses.replace(usual, hold=True)
