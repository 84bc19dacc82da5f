"""What all requests of one engine share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from strangler_proxy.forward.admission import Load
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.repeated import Repeated
from strangler_proxy.forward.tracing import Identities

if TYPE_CHECKING:
    from strangler_proxy.forward.downstream import Downstream
    from strangler_proxy.forward.mirror import Mirror
    from strangler_proxy.forward.pool import Pools
    from strangler_proxy.forward.routing import Router
    from strangler_proxy.forward.state import ProxyState
    from strangler_proxy.forward.tunnel import Tunnel


class Context:
    """State, options, metrics, pools and router of one engine. `leaving`: it drains, so connections are not kept.

    `connections` are those of clients; `tunnels` says how many of them are WebSockets. `mirror` None: nothing is.
    """

    __slots__ = (
        "connections",
        "identities",
        "leaving",
        "load",
        "loop",
        "metrics",
        "mirror",
        "options",
        "pools",
        "pseudonym",
        "repeated",
        "router",
        "state",
        "tunnels",
        "via_line",
    )

    def __init__(
        self,
        state: ProxyState,
        options: Options,
        metrics: ForwardMetrics,
        pools: Pools,
        router: Router,
        loop: asyncio.AbstractEventLoop,
        mirror: Mirror | None = None,
    ) -> None:
        self.state = state
        self.options = options
        self.metrics = metrics
        self.pools = pools
        self.router = router
        self.loop = loop
        self.mirror = mirror
        self.identities = Identities()
        self.repeated = Repeated()
        self.pseudonym = options.pseudonym.encode("ascii")
        self.via_line = b"Via: 1.1 %b\r\n" % self.pseudonym
        self.leaving = False
        self.load = Load(options.pending_limit)
        self.connections: set[Downstream | Tunnel] = set()
        self.tunnels = 0
