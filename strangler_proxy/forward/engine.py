"""The data plane of one process: listens, sweeps deadlines, drains."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from time import monotonic
from typing import Any

from strangler_proxy.forward.context import Context
from strangler_proxy.forward.downstream import Downstream
from strangler_proxy.forward.metrics import CONNECTIONS, HELD, IN_FLIGHT, KEPT_BYTES, OPEN_TUNNELS, ForwardMetrics
from strangler_proxy.forward.mirror import Mirror
from strangler_proxy.forward.mirror_metrics import publish
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.pool import Pools
from strangler_proxy.forward.prober import Prober
from strangler_proxy.forward.routing import Router
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.forward.troubles import show_gauges, sick_upstreams

_BACKLOG = 1_024
_QUIET_S = 0.5
_BYE_S = 2.0
_LOOK_S = 0.05


class Engine:
    """Forwards what arrives at its port by the table in `state`. One per process and event loop."""

    port: int = 0

    def __init__(
        self, state: ProxyState, options: Options, metrics: ForwardMetrics, mirror: Mirror | None = None
    ) -> None:
        self.state = state
        self.mirror = mirror
        self.options = options
        self.metrics = metrics
        self._context: Context | None = None
        self._server: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None

    async def listen(
        self,
        host: str,
        port: int,
        *,
        reuse_port: bool = False,
        shared: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Accept connections. `port` 0 takes a free one; `self.port` says which. Raises OSError if it is taken.

        `shared`: a listening socket that other processes accept from too; what it has queued is not lost when one of
        them leaves. `tls`: clients have to speak it.
        """
        context = self.start()
        loop = context.loop
        where: dict[str, Any] = {"sock": shared}
        if shared is None:
            where = {"host": host, "port": port, "reuse_port": reuse_port or None}
        if tls is not None:
            where |= {
                "ssl": tls,
                "ssl_handshake_timeout": self.options.header_timeout_s,
                "ssl_shutdown_timeout": _BYE_S,
            }
        self._server = await loop.create_server(lambda: Downstream(context), backlog=_BACKLOG, **where)
        self.port = self._server.sockets[0].getsockname()[1]

    def start(self) -> Context:
        """Be ready to forward, without a port: sweep deadlines, probe endpoints. What all requests share."""
        loop = asyncio.get_running_loop()
        pools, router = Pools(self.options), Router(self.state, self.metrics)
        context = self._context = Context(self.state, self.options, self.metrics, pools, router, loop, self.mirror)
        self._sweep_timer = loop.call_later(self.options.sweep_s, self._sweep)
        self.state.sick_upstreams = lambda: sick_upstreams(pools, self.mirror)
        self._probing = asyncio.create_task(Prober(self.state, pools, self.metrics).run())
        return context

    @property
    def pending(self) -> int:
        """Requests that are at upstreams or wait for a connection to one."""
        return 0 if self._context is None else self._context.load.pending

    async def drain(self, seconds: float) -> None:
        """Stop accepting; let requests in flight end, for `seconds` at most; then break what is left.

        Answers say `Connection: close` from now on. A connection without a request is closed once it has been quiet
        for half a second, so that a client's next request is not cut off by our closing.
        """
        context = self._context
        if context is None:
            return
        context.leaving = True
        if self._server is not None:
            await asyncio.sleep(0)
            self._server.close()
        until = monotonic() + seconds
        quiet_s = min(_QUIET_S, seconds / 2)
        while context.connections and monotonic() < until:
            now = monotonic()
            for connection in list(context.connections):
                connection.leave(now, quiet_s)
            await asyncio.sleep(_LOOK_S)
        for connection in list(context.connections):
            connection.abort()
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await context.pools.close()
        await asyncio.sleep(0)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def publish(self) -> None:
        """Set the gauges of this moment; call it before `metrics.render()`."""
        context = self._context
        if context is None:
            return
        self.metrics.gauge(CONNECTIONS, len(context.connections))
        self.metrics.gauge(IN_FLIGHT, sum(c.exchange is not None for c in context.connections))
        self.metrics.gauge(OPEN_TUNNELS, context.tunnels)
        self.metrics.gauge(KEPT_BYTES, self.state.kept_bytes)
        show_gauges(context.pools, self.metrics)
        if self.mirror is not None:
            publish(self.mirror, self.metrics)
        for key in self.state.table.flags:
            self.metrics.gauge(HELD, len(self.state.flag_runtime(key).gate), flag=key)

    def _sweep(self) -> None:
        context = self._context
        assert context is not None
        now = monotonic()
        for connection in list(context.connections):
            connection.check(now)
        context.pools.sweep(now, self.state.table.clusters)
        self._sweep_timer = context.loop.call_later(self.options.sweep_s, self._sweep)
